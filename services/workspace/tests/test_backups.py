"""Backups: who asks, what the agent reports, how old the proof is, and the two people of a restore."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crmkit.auth import system
from crmkit.testing import Refused, Service
from google.protobuf.json_format import MessageToDict
from sqlalchemy import delete, update
from workspace import selfcheck, vaults
from workspace.model.backup import Backup, BackupAgent, light_of

Entry = dict[str, Any]


class Agent:
    """The operator's agent, as far as workspace sees it: a vault, and what came of what was asked."""

    def __init__(self, workspace: Service) -> None:
        self.workspace = workspace
        self.client = workspace.client("admin")
        self.vault: dict[str, Entry] = {}
        self.outcomes: list[dict[str, Any]] = []

    async def report(self, doing: str = "") -> dict[str, Any]:
        """Tells everything; gives what it shall do."""
        answer = await self.client.ReportBackups(
            entries=list(self.vault.values()), outcomes=self.outcomes, doing=doing, keyId="k1",
            location="file:///vault", archiveTime=now(),
        )  # fmt: skip
        return MessageToDict(answer)

    async def done(self, work: dict[str, Any], problem: str = "") -> dict[str, Any]:
        """Says that it is over."""
        outcome = {"askId": work["askId"], "problem": problem, "time": now()}
        self.outcomes.append(outcome)
        return await self.report()

    def keep(self, number: str, work: dict[str, Any] | None = None) -> Entry:
        """A backup lies in the vault from now on, made because it was asked for or by hand."""
        self.vault[number] = {
            "number": number, "startTime": now(-60), "finishTime": now(-10), "size": "192000000", "files": 3,
            "databases": [{"database": "sales", "tables": 40, "rows": 87322}], "auditSeq": 4711, "keyId": "k1",
            "digest": uuid4().hex * 2, "askId": work["askId"] if work else "",
        }  # fmt: skip
        return self.vault[number]

    def drill(self, number: str, *wrong: str, age: float = 0) -> None:
        """A drill of it has ended."""
        proof = {"time": now(-age), "restoredSeconds": 36, "provenSeconds": 142, "wrong": list(wrong)}
        self.vault[number]["proof"] = proof


def now(seconds: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def new_number() -> str:
    return f"BK2026{uuid4().int % 10**7:07}"


@pytest.fixture
async def agent(workspace: Service) -> Agent:
    """An agent with an empty vault, over a platform that has never heard of backups."""
    async with workspace.running.call("test", system("workspace")) as call:
        await call.db.execute(delete(Backup))
        await call.db.execute(delete(BackupAgent))
    return Agent(workspace)


async def made(agent: Agent) -> tuple[str, str]:
    """A backup that was asked for with one click and is done: its name and number."""
    asked = await agent.client.StartBackup()
    work = await agent.report()
    agent.keep(work["number"], work)
    await agent.done(work)
    return asked.name, work["number"]


async def proven(agent: Agent) -> str:
    """A backup whose drill has passed, by its name."""
    name, number = await made(agent)
    agent.drill(number)
    await agent.report()
    return name


async def said(call: Any) -> dict[str, Any]:
    """An answer, as JSON has it."""
    return MessageToDict(await call)


async def reason_of(call: Any) -> str:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def test_one_click_makes_a_backup_and_a_drill_proves_it(workspace: Service, agent: Agent) -> None:
    admin = workspace.admin
    asked = await said(admin.StartBackup())
    name = asked["name"]
    assert (asked["state"], asked["asked"]) == ("REQUESTED", "CREATE") and "number" not in asked
    # One thing at a time, also where two people click at once.
    assert await reason_of(admin.StartBackup()) == "BACKUP_RUNNING"
    work = await agent.report()
    assert work["work"] == "CREATE" and work["askId"] == asked["askId"]
    assert (await agent.report(doing=work["askId"]))["askId"] == work["askId"]
    assert (await said(admin.GetBackup(name=name)))["state"] == "RUNNING"

    number = work["number"]
    agent.keep(number, work)
    # It lies there before the agent says that it is over.
    await agent.report(doing=work["askId"])
    assert await agent.done(work) == {}
    done = await said(admin.GetBackup(name=name))
    assert (done["state"], done["number"], done["size"]) == ("DONE", number, "192000000")
    assert "asked" not in done and done["location"] == f"file:///vault/{number}"
    assert done["databases"] == [{"database": "sales", "tables": 40, "rows": 87322}]
    [fact] = await workspace.facts("crm.workspace.v1.BackupFinished", name)
    assert fact["backup"]["number"] == number

    assert (await said(admin.VerifyBackup(name=name)))["asked"] == "VERIFY"
    assert await reason_of(admin.StartBackup()) == "BACKUP_RUNNING"
    work = await agent.report()
    assert (work["work"], work["number"]) == ("VERIFY", number)
    agent.drill(number)
    await agent.done(work)
    for _ in range(2):  # said again, nothing more happens
        await agent.report()
    found = await said(admin.GetBackup(name=name))
    assert (found["state"], len(found["proofs"])) == ("VERIFIED", 1)
    assert "asked" not in found and found["verifyTime"]
    [fact] = await workspace.facts("crm.workspace.v1.BackupVerified", name)
    assert fact["backup"]["proofs"][0]["provenSeconds"] == 142
    async with workspace.running.call("test", system("workspace")) as call:
        row = await call.named(Backup, name)
        assert row is not None
        proof = row.proofs[0]
        assert vaults.genuine(row, proof, call)
        proof.proven_seconds = 1
        assert not vaults.genuine(row, proof, call)

    agent.drill(number, "sales.leads has 5 rows, not 6")
    await agent.report()
    broken = await said(admin.GetBackup(name=name))
    assert broken["state"] == "FAILED" and broken["problem"].startswith("DRILL_FAILED: sales.leads")
    await told(workspace, number)

    del agent.vault[number]
    await agent.report()
    assert (await said(admin.GetBackup(name=name)))["state"] == "PURGED"


async def told(workspace: Service, words: str) -> None:
    """Waits until the administrators have a notification with these words."""

    async def there() -> bool:
        found = (await workspace.admin.ListNotifications(pageSize=200)).notifications
        return any(words in one.display_name for one in found)

    await workspace.eventually(there)


async def test_what_the_vault_has_is_what_the_list_says_also_after_a_restore(
    workspace: Service, agent: Agent
) -> None:
    number = new_number()
    agent.keep(number)
    agent.drill(number)
    await agent.report()
    [listed] = (await said(workspace.admin.ListBackups(filter=f'number = "{number}"')))["backups"]
    assert listed["state"] == "VERIFIED"
    # Two reports at once make one record.
    other = new_number()
    agent.keep(other)
    await asyncio.gather(agent.report(), agent.report())
    assert len((await workspace.admin.ListBackups()).backups) == 2


async def test_an_empty_vault_gets_numbers_that_none_has_had_and_what_takes_the_place_of_another_is_not_proven(
    workspace: Service, agent: Agent
) -> None:
    first, number = await made(agent)
    agent.drill(number)
    await agent.report()
    # The disk is lost, and somebody begins with an empty vault on the same day.
    agent.vault = {}
    second, next_number = await made(agent)
    assert int(next_number[2:]) == int(number[2:]) + 1
    states = {one["name"]: one["state"] for one in (await said(workspace.admin.ListBackups()))["backups"]}
    assert states == {first: "PURGED", second: "DONE"}
    # By hand nobody asks for a number: what lies there now is not what was proven.
    agent.keep(number)
    await agent.report()
    found = await said(workspace.admin.GetBackup(name=first))
    assert found["state"] == "DONE" and "proofs" not in found and "verifyTime" not in found
    assert found["digest"] == agent.vault[number]["digest"]


async def test_a_restore_wants_a_drill_and_two_people_and_changes_nothing_before(
    workspace: Service, agent: Agent, office: Any
) -> None:
    first = workspace.admin
    second = await office.client_of(await office.hire(f"op{uuid4().hex[:8]}", ["system_administrator"]),
                                    roles=["system_administrator"])  # fmt: skip
    name, number = await made(agent)
    why = "硬盘损坏，需要恢复"
    # Not proven: nobody may even propose it.
    for call in (first.ProposeBackupRestore(name=name, reason=why), first.RestoreBackup(name=name)):
        assert await reason_of(call) == "RESTORE_NOT_CONFIRMED"
    agent.drill(number)
    await agent.report()
    before = (await first.GetBackup(name=name)).etag

    assert await reason_of(first.RestoreBackup(name=name)) == "RESTORE_NOT_CONFIRMED"
    assert await reason_of(first.ProposeBackupRestore(name=name, reason="x")) == "REASON_REQUIRED"
    assert (await first.GetBackup(name=name)).etag == before
    proposed = await first.ProposeBackupRestore(name=name, reason=why)
    assert proposed.proposed_by == workspace.person("admin").employee and not proposed.asked
    # The same person is no second one, and the agent is given nothing.
    assert await reason_of(first.RestoreBackup(name=name)) == "RESTORE_NOT_CONFIRMED"
    assert (await first.GetBackup(name=name)).etag == proposed.etag
    assert await agent.report() == {}

    # A proposal is forgotten after a day.
    async with workspace.running.call("test", system("workspace")) as call:
        old = update(Backup).where(Backup.number == number)
        await call.db.execute(old.values(propose_time=call.now - timedelta(hours=25)))
    assert await reason_of(second.RestoreBackup(name=name)) == "RESTORE_NOT_CONFIRMED"
    await first.ProposeBackupRestore(name=name, reason=why)
    confirmed = await said(second.RestoreBackup(name=name))
    assert confirmed["asked"] == "RESTORE" and confirmed["confirmedBy"] != confirmed["proposedBy"]
    work = await agent.report()
    assert (work["work"], work["number"], len(set(work["confirmedBy"]))) == ("RESTORE", number, 2)
    # Taken back before the agent has begun.
    await first.WithdrawBackupRestore(name=name)
    assert await agent.report() == {}
    assert await reason_of(first.WithdrawBackupRestore(name=name)) == "ILLEGAL_TRANSITION"

    await first.ProposeBackupRestore(name=name, reason=why)
    await second.RestoreBackup(name=name)
    work = await agent.report()
    assert await agent.done(work) == {}
    restored = await first.GetBackup(name=name)
    assert restored.HasField("restore_time") and (restored.asked, restored.proposed_by) == (0, "")

    # An agent that was away does not restore days later.
    await first.ProposeBackupRestore(name=name, reason=why)
    await second.RestoreBackup(name=name)
    async with workspace.running.call("test", system("workspace")) as call:
        old = update(Backup).where(Backup.number == number)
        await call.db.execute(old.values(ask_time=call.now - timedelta(hours=25)))
    assert await agent.report() == {}
    late = await first.GetBackup(name=name)
    assert late.problem.startswith("RESTORE_NOT_CONFIRMED") and late.proposed_by == ""

    # Who wanted it, who confirmed and why stands in the audit.
    async def audited() -> bool:
        page = await first.ListAuditEntries(filter=f'resource = "{name}"', pageSize=100)
        text = " ".join(entry.after for entry in page.audit_entries)
        return all(f'"{field}"' in text for field in ("proposedBy", "confirmedBy", "reason"))

    await workspace.eventually(audited)


async def test_what_the_agent_found_damaged_is_not_restored_and_is_told(
    workspace: Service, agent: Agent
) -> None:
    name = await proven(agent)
    await workspace.admin.VerifyBackup(name=name)
    work = await agent.report()
    await agent.done(work, problem="BACKUP_CORRUPT: base.tar.age differs from the manifest")
    assert (await said(workspace.admin.GetBackup(name=name)))["state"] == "FAILED"
    for call in (
        workspace.admin.ProposeBackupRestore(name=name, reason="硬盘损坏，需要恢复"),
        workspace.admin.RestoreBackup(name=name),
    ):
        assert await reason_of(call) == "BACKUP_CORRUPT"
    await told(workspace, "BACKUP_CORRUPT")


async def test_the_light_turns_yellow_after_seven_days_and_red_after_fourteen_and_administrators_are_told(
    workspace: Service, agent: Agent
) -> None:
    for days, light in ((6.9, "GREEN"), (7, "YELLOW"), (13.9, "YELLOW"), (14, "RED")):
        assert light_of(timedelta(days=days)) == light
    name = await proven(agent)
    health = await workspace.admin.GetBackupHealth()
    assert (health.light, health.days, health.proven) == (1, 0, name)
    assert health.location == "file:///vault" and health.HasField("archive_time")
    for days, light, verdict in ((8, 2, "YELLOW"), (15, 3, "RED")):
        async with workspace.running.call("test", system("workspace")) as call:
            old = update(Backup).values(verify_time=call.now - timedelta(days=days))
            await call.db.execute(old)
            await vaults.watch(call)
            checked = await selfcheck.CHECKS["backups"](call)
            assert (checked.verdict, str(days) in checked.en) == (verdict, True)
        health = await workspace.admin.GetBackupHealth()
        assert (health.light, health.days) == (light, days)
    await told(workspace, "15 天未经恢复演练")
    found = (await workspace.admin.ListNotifications(pageSize=200)).notifications
    assert not any("8 天未经恢复演练" in one.display_name for one in found)


async def test_the_schedule_asks_once_and_waits_for_what_is_under_way(
    workspace: Service, agent: Agent
) -> None:
    async def in_turn(job: Any) -> list[dict[str, Any]]:
        async with workspace.running.call("test", system("workspace")) as call:
            await job(call)
        return (await said(workspace.admin.ListBackups())).get("backups", [])

    # Nobody is there to do it.
    assert await in_turn(vaults.back_up_in_turn) == [] == await in_turn(vaults.drill_in_turn)
    await agent.report()
    [asked] = await in_turn(vaults.back_up_in_turn)
    assert asked["asked"] == "CREATE"
    assert len(await in_turn(vaults.back_up_in_turn)) == 1
    work = await agent.report()
    number = work["number"]
    agent.keep(number, work)
    await agent.done(work)
    [drilled] = await in_turn(vaults.drill_in_turn)
    assert (drilled["asked"], drilled["number"]) == ("VERIFY", number)


async def test_only_who_looks_after_the_platform_sees_and_asks(workspace: Service, agent: Agent) -> None:
    name = await proven(agent)
    for call in (
        workspace.sales1.ListBackups(),
        workspace.sales1.GetBackupHealth(),
        workspace.sales1.StartBackup(),
        workspace.sales1.VerifyBackup(name=name),
        workspace.sales1.ProposeBackupRestore(name=name, reason="不应允许的操作"),
        workspace.sales1.RestoreBackup(name=name),
        workspace.sales1.ReportBackups(),
    ):
        assert await reason_of(call) == "PERMISSION_DENIED"
    # Without a second factor of a moment ago nobody restores.
    weak = workspace.client("admin", acr="1")
    for call in (
        weak.ProposeBackupRestore(name=name, reason="硬盘损坏，需要恢复"),
        weak.RestoreBackup(name=name),
    ):
        assert await reason_of(call) == "STEP_UP_REQUIRED"
