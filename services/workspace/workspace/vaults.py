"""What the operator's agent tells of its vault, what it is given to do, and what administrators are told of it.

    agent: everything in the vault, what came of the last askings → records; the next asking → agent

The vault is the truth: after a restore the records are those of before, and its next report mends them.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.mapping import to_timestamp
from sqlalchemy import select

from workspace import alerts, seals
from workspace.model.backup import CONFIRMED_WITHIN, RED, Backup, BackupAgent, health

MOST_ENTRIES = 500
PROOFS_KEPT = 40
# Made, and not known to be gone.
THERE = ("DONE", "VERIFIED", "FAILED")
WEEK = 7


async def report(request: pb.ReportBackupsRequest, call: Call) -> pb.ReportBackupsResponse:
    """Takes a report and gives the next thing to do."""
    if len(request.entries) > MOST_ENTRIES:
        most = f"最多 {MOST_ENTRIES} 项", f"At most {MOST_ENTRIES} entries."
        raise Validation(Violation("entries", "TOO_MANY", *most))
    archived = _instant(request, "archive_time")
    said = {"key_id": request.key_id, "location": request.location, "archive_time": archived}
    await BackupAgent.heard(said, call)
    for outcome in request.outcomes:
        await _ended(outcome, call)
    for entry in request.entries:
        await _held(entry, request.location, call)
    await _gone({entry.number for entry in request.entries}, call)
    return await _next(request.doing, call)


async def _ended(outcome: pb.ReportBackupsRequest.Outcome, call: Call) -> None:
    """An asking is over; one that is known to be over already says nothing new."""
    backup = await call.find(Backup, Backup.ask_id == outcome.ask_id, Backup.asked != "", lock=True)
    if backup is None:
        return
    work, problem = backup.asked, outcome.problem[:1000]
    backup.ended(problem)
    if work == "CREATE":
        # What it is the entry says that names the same asking.
        backup.finish_time = _instant(outcome, "time")
        backup.state = "FAILED" if problem else backup.state
    if work == "RESTORE":
        backup.forget_proposal()
        backup.restore_time = backup.restore_time if problem else _instant(outcome, "time")
    if problem.startswith("BACKUP_CORRUPT"):
        backup.state = "FAILED"
    if problem:
        zh = f"{NAMES[work][0]}未能完成（{backup.number or '新备份'}）：{problem}"
        en = f"The {NAMES[work][1]} did not succeed ({backup.number or 'new'}): {problem}"
        await alerts.raise_alert("BACKUP_FAILED", backup.name, zh, en, call, key=outcome.ask_id)
    await call.flush()


NAMES = {"CREATE": ("备份", "backup"), "VERIFY": ("恢复演练", "drill"), "RESTORE": ("恢复", "restore")}


async def _held(entry: pb.ReportBackupsRequest.Entry, location: str, call: Call) -> None:
    """The record says what the vault says."""
    backup = await call.find(Backup, Backup.number == entry.number, lock=True)
    if backup is None and entry.ask_id:
        asked = Backup.ask_id == entry.ask_id, Backup.number == ""
        backup = await call.find(Backup, *asked, lock=True)
    backup = backup or await call.add(Backup(state="RUNNING"))
    backup.number = entry.number
    # A number under which something else lay before: in another vault, or before somebody changed it.
    first = backup.digest != entry.digest
    if first:
        backup.proofs, backup.verify_time, backup.problem = [], None, ""
        backup.forget_proposal()
        try:
            backup.size = Decimal(entry.size or "0")
        except InvalidOperation:
            raise Validation(
                Violation("entries.size", "WRONG_FORMAT", "须为数字", "This is no number.")
            ) from None
        backup.start_time, backup.finish_time = _instant(entry, "start_time"), _instant(entry, "finish_time")
        backup.databases, backup.files = list(entry.databases), entry.files
        backup.audit_seq, backup.key_id, backup.digest = entry.audit_seq, entry.key_id, entry.digest
        backup.location = f"{location}/{entry.number}"[:500]
    if first or backup.state == "PURGED":
        backup.state = "DONE"
    proven = await _proven(backup, entry, call)
    await call.flush()
    if first:
        call.emit(events.BackupFinished, backup=backup)
    if proven:
        call.emit(events.BackupVerified, backup=backup)


async def _proven(backup: Backup, entry: pb.ReportBackupsRequest.Entry, call: Call) -> bool:
    """Signs and keeps the proof of a drill; True where it is a new one."""
    time = _instant(entry.proof, "time") if entry.HasField("proof") else None
    known = [proof.time.ToDatetime(UTC) for proof in backup.proofs]
    if time is None or time > call.now + timedelta(minutes=5) or any(time <= one for one in known):
        return False
    proof = pb.Backup.Proof()
    proof.CopyFrom(entry.proof)
    proof.signature = seals.sign(_content(backup, proof), call)
    backup.proofs = [*backup.proofs, proof][-PROOFS_KEPT:]
    if proof.wrong:
        backup.state, backup.problem = "FAILED", f"DRILL_FAILED: {'; '.join(proof.wrong)}"[:1000]
        zh = f"备份 {backup.number} 恢复演练发现问题：{proof.wrong[0]}"
        en = f"The drill of the backup {backup.number} has found something wrong: {proof.wrong[0]}"
        await alerts.raise_alert("BACKUP_FAILED", backup.name, zh[:500], en[:500], call, key=f"{time}")
    else:
        backup.state, backup.problem, backup.verify_time = "VERIFIED", "", time
    return True


def genuine(backup: Backup, proof: pb.Backup.Proof, call: Call) -> bool:
    """Whether the platform has signed this proof of this backup."""
    return seals.signed(_content(backup, proof), proof.signature, call)


def _content(backup: Backup, proof: pb.Backup.Proof) -> dict[str, Any]:
    return {
        "number": backup.number, "digest": backup.digest, "time": proof.time.ToDatetime(UTC).isoformat(),
        "restored": proof.restored_seconds, "proven": proof.proven_seconds, "wrong": list(proof.wrong),
    }  # fmt: skip


async def _gone(there: set[str], call: Call) -> None:
    """What lies in the vault no more is said to be gone, but for what could never be made."""
    known = select(Backup).where(Backup.state.in_(THERE), Backup.number != "", Backup.digest != "")
    for backup in list(await call.db.scalars(known.with_for_update(skip_locked=True))):
        if backup.number not in there:
            backup.state = "PURGED"
            backup.ended("")
            backup.forget_proposal()
    await call.flush()


async def _next(doing: str, call: Call) -> pb.ReportBackupsResponse:
    """What the agent shall do now, and goes on doing where it does it already."""
    backup = await call.find(Backup, Backup.asked != "", lock=True)
    if backup is None:
        return pb.ReportBackupsResponse()
    if backup.asked == "CREATE" and backup.ask_id == doing and backup.state == "REQUESTED":
        backup.state, backup.start_time = "RUNNING", call.now
    if backup.asked == "RESTORE" and doing != backup.ask_id:
        # An agent that was away for long does not undo days of work.
        asked = backup.ask_time
        if asked is None or call.now - asked > CONFIRMED_WITHIN:
            backup.ended("RESTORE_NOT_CONFIRMED: nobody was there to do it in time")
            backup.forget_proposal()
            return pb.ReportBackupsResponse()
    number = backup.number if backup.asked != "CREATE" else await Backup.next_number(call)
    answer = pb.ReportBackupsResponse(work=backup.asked, ask_id=backup.ask_id, number=number)
    if backup.asked == "RESTORE":
        for name in (backup.proposed_by, backup.confirmed_by):
            answer.confirmed_by.append(str(call.entry(name).get("displayName") or name))
        if len(set(answer.confirmed_by)) < 2:  # two people may have one name
            answer.confirmed_by[:] = [backup.proposed_by, backup.confirmed_by]
        if backup.until_time is not None:
            answer.until_time.CopyFrom(to_timestamp(backup.until_time))
    return answer


async def back_up_in_turn(call: Call) -> None:
    """The weekly backup; none where no agent was ever heard, or where it has something to do."""
    if await call.db.get(BackupAgent, "agent") is not None:
        try:
            await Backup.start(call)
        except FailedPrecondition:
            return


async def drill_in_turn(call: Call) -> None:
    """The nightly drill of the newest backup; none where the agent has something to do."""
    newest = await Backup.newest(call)
    if newest is not None:
        try:
            await newest.verify(call)
        except FailedPrecondition:
            return


async def watch(call: Call) -> None:
    """Where nothing was proven for fourteen days, administrators are told, and again each week."""
    found = await health(call)
    if found["light"] == RED:
        zh = f"备份已有 {found['days']} 天未经恢复演练验证"
        en = f"No backup has been proven by a drill for {found['days']} days"
        key = f"{found['since'].isoformat()}:{found['days'] // WEEK}"
        await alerts.raise_alert("BACKUP_UNPROVEN", "backups", zh, en, call, key=key)


def _instant(message: Any, field: str) -> datetime | None:
    return getattr(message, field).ToDatetime(UTC) if message.HasField(field) else None
