"""The run of an import: chunks of lines become records, one statement a table."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from crm.customer.v1 import events_pb2 as events
from crmkit.bulk import create_many, insert_columns, insert_rows, meanwhile
from crmkit.call import Call, changed_fields
from crmkit.errors import FailedPrecondition, PermissionDenied, Problem, Validation
from crmkit.mapping import mapper
from crmkit.naming import unnamed
from crmkit.runfiles import lines_in_error, next_rows, note_problems, opened, skip_rows
from crmkit.runs import Run
from crmkit.sheetfields import RowProblem, violations
from crmkit.sheets import Sheet
from crmkit.tables import BulkRow
from google.protobuf import json_format
from sqlalchemy import select, tuple_, update

from customer.importing import duplicates, gate, judge, kept
from customer.importing.asking import (
    ACCOUNT,
    CONTACT,
    RELATION,
    WISH,
    ask_accounts,
    ask_changes,
    entry,
    note,
    waits,
)
from customer.importing.duplicates import Twin
from customer.importing.filling import fill
from customer.importing.plan import PARENT, Line, Plan
from customer.importing.seen import Seen
from customer.importing.work import CHUNK, keep_error_file, show_errors, the_import
from customer.model.account import Account, MatchKeyRow
from customer.model.contact import Contact
from customer.model.grading import exclusive_groups, one_of_each
from customer.model.importation import NEEDS, Import, ImportHeld
from customer.model.interaction import Interaction
from customer.model.relation import AccountRelation
from customer.sea.states import first_states, observe_new


async def run(run: Run) -> None:
    """Writes the lines behind the last committed one, then the relations between accounts."""
    if run.phase == "ENDED":
        return
    async with run.chunk() as call:
        found = await the_import(run, call)
        for collection in NEEDS[found.kind]:
            if not call.caller.may(f"customer.{collection}.create"):
                raise PermissionDenied("PERMISSION_DENIED", permission=f"customer.{collection}.create")
    if run.phase == "":
        async with opened(run, found.encoding) as sheet:
            plan = Plan.of(found, sheet.columns, run.running.config.get, run.caller())
            await _write_all(plan, sheet, found, run)
        async with run.chunk():
            run.next_phase("RELATIONS")
    while run.phase == "RELATIONS":
        async with run.chunk() as call:
            if not await _relate(run, call):
                run.next_phase("END")
    async with run.chunk() as call:
        found = await the_import(run, call)
        _tally(found, run)
        found.failed = await lines_in_error(run, call)
        await show_errors(run, found, call)
        await keep_error_file(run, found, call)
        found.finish(call.now)
        call.emit(events.ImportFinished, **{"import": found})
        await kept.forget(found.id, call)
        run.next_phase("ENDED")


async def _write_all(plan: Plan, sheet: Sheet, found: Import, run: Run) -> None:
    stamp, read, next_one = kept.stamp(plan, run.spec["digest"]), 0, run.position

    async def prepared() -> list[Line]:
        """The next lines as the check has read them; read anew where it has kept them otherwise or not at all."""
        nonlocal read, next_one
        async with run.running.call(run.kind, run.caller()) as call:
            told = await kept.find(found.id, next_one, stamp, call)
        lines = await asyncio.to_thread(kept.decode, told) if told else []
        if not lines or None in lines:
            await skip_rows(sheet, next_one - read)
            rows = await next_rows(sheet, CHUNK)
            read = next_one + len(rows)
            lines = await asyncio.to_thread(kept.filled, lines, rows, plan)
        next_one += len(lines)
        return [line for line in lines if line is not None]

    lines = await prepared()
    while lines:
        # The next lines are read while the database writes these.
        ahead = asyncio.create_task(prepared())
        try:
            async with run.chunk() as call:
                await _write(lines, plan, found.duplicate_policy, run, call)
                run.position += len(lines)
                found = await the_import(run, call)
                _tally(found, run)
        finally:
            lines = await ahead


async def _write(lines: Sequence[Line], plan: Plan, policy: str, run: Run, call: Call) -> None:
    await judge.name_records(lines, plan, call)
    await judge.check_customs(lines, plan, call)
    done: list[dict[str, Any]] = []
    held: list[dict[str, Any]] = []
    if plan.kind in ("ACCOUNTS", "MIXED"):
        done += await _write_accounts(lines, plan, policy, held, run, call)
    if plan.kind in ("CONTACTS", "MIXED"):
        done += await _write_contacts(lines, policy, held, run, call)
    if plan.kind == "INTERACTIONS":
        done += await _write_interactions(lines, plan, held, run, call)
    problems = [each for line in lines for each in line.problems]
    if problems and not run.spec["skipErrors"]:
        # The check found none; what has come since must not leave half of the file here.
        raise FailedPrecondition("IMPORT_HAS_ERRORS", count=len({each.line for each in problems}))
    run.count(failed=len({each.line for each in problems}))
    await insert_rows(call, BulkRow.__table__, done)
    await insert_rows(call, ImportHeld.__table__, held)
    await note_problems(run, problems, call)


async def _write_accounts(
    lines: Sequence[Line], plan: Plan, policy: str, held: list[dict[str, Any]], run: Run, call: Call
) -> list[dict[str, Any]]:
    good = [
        line for line in lines if not line.problems and line.account is not None and line.identity is not None
    ]
    identities = [line.identity for line in good if line.identity]
    await duplicates.lock(identities, call)
    twins = await duplicates.existing(identities, call)
    seen = await judge.visible(twins, call)
    held_by = Counter(key for identity in identities for key in identity.deciding)
    shared = {key for key, holders in held_by.items() if holders > 1}
    chunk = Seen(plan.public_domains)
    by_line = {line.number: line for line in good}
    new: list[Line] = []
    done: list[dict[str, Any]] = []
    changed: dict[UUID, Account] = {}
    decided, asked = gate.updates_are_gated(call), list[tuple[Line, UUID]]()
    if policy == "UPDATE" and seen:
        statement = select(Account).where(Account.id.in_(seen)).with_for_update()
        changed = {account.id: account for account in await call.db.scalars(statement)}
    for line, known in zip(good, twins, strict=True):
        alone = line.identity is None or shared.isdisjoint(line.identity.deciding)
        earlier = None if alone else chunk.twin(line)
        twin = known or earlier
        if refused := judge.refusal(line, twin, policy, seen, plan, call):
            line.problems.append(refused)
        elif twin is None or (policy == "CREATE"):
            new.append(line)
        elif policy == "UPDATE" and decided and twin.account is not None:
            asked.append((line, twin.account))
        elif policy == "UPDATE":
            done += await _update_twin(line, twin, by_line, changed, plan, run, call)
        else:
            run.count(skipped=1)
            line.account = _of(twin, by_line, seen)
    rows = [line.account for line in new if line.account]
    groups = await exclusive_groups(call) if any(len(row.tags) > 1 for row in rows) else []
    for row in rows if groups else ():
        row.tags = one_of_each(row.tags, (), groups)
    rows, gated = gate.apart(rows, call)
    free = {row.id for row in rows}
    made = [line for line in new if line.account and line.account.id in free]
    await create_many(call, rows, events.AccountCreated, "account")
    held_as = [(line.account.id, line.identity.keys) for line in made if line.account and line.identity]
    keys = {
        "account": [account for account, found in held_as for _ in found],
        "kind": [key.kind.value for _, found in held_as for key in found],
        "value": [key.value for _, found in held_as for key in found],
    }
    async with meanwhile(_hold(keys, call)):
        states = first_states(rows, call)
        done += [entry(run, line.number, ACCOUNT, "CREATED", line.account, {"version": 1}) for line in made]
    await observe_new(call, states)
    run.count(created=len(rows))
    if gated or asked:
        await call.flush()
        done += await ask_accounts([line for line in new if line not in made], held, run, call)
        done += await ask_changes(asked, plan, run, call)
    wishes = [*new] if policy != "UPDATE" else [line for line in good if not line.problems]
    for line in wishes:
        if line.problems or PARENT not in line.given or line.account is None:
            continue
        text = line.given[PARENT]
        if waits(line.account, held):
            held.append(gate.waiting(line.account.name, run, line.number, WISH, parent=text))
        else:
            done.append(entry(run, line.number, WISH, "PARENT", line.account, {"text": text}))
    return done


async def _hold(keys: dict[str, list[Any]], call: Call) -> None:
    """Writes the match keys of new accounts, which nobody else can have written."""
    if keys["account"]:
        await insert_columns(call, MatchKeyRow.__table__, keys, "")


def _of(twin: Twin, by_line: dict[int, Line], seen: set[UUID]) -> Account | None:
    """The account that a line left out stands for, where the caller sees it."""
    if twin.line:
        return by_line[twin.line].account
    if twin.account is not None and twin.account in seen:
        account = Account()
        account.id = twin.account
        return account
    return None


async def _update_twin(
    line: Line,
    twin: Twin,
    by_line: dict[int, Line],
    changed: dict[UUID, Account],
    plan: Plan,
    run: Run,
    call: Call,
) -> list[dict[str, Any]]:
    """Fills the line's fields into the customer that exists, or that an earlier line of this chunk makes."""
    new, prefix = line.account, ""
    assert new is not None
    paths = [column.path for _, column, _ in plan.mapped[prefix]]
    if twin.line:
        target = by_line[twin.line].account
        assert target is not None
        fill(target, new, paths)
        target.complete()
        by_line[twin.line].identity = target.identity(plan.public_domains)
        line.account = target
        run.count(updated=1)
        return []
    target = changed[twin.account] if twin.account else new
    names = fill(target, new, paths)
    line.account = target
    if not names:
        run.count(skipped=1)
        return []
    before = changed_fields(target)
    try:
        await target.updating(call, frozenset(names))
    except Problem as refused:
        await call.db.refresh(target)
        line.problems.append(RowProblem.of(line.number, "", refused, "customer"))
        return []
    run.count(updated=1)
    after = {
        target.described.fields[name].json_name: mapper(Account).value_json(name, getattr(target, name))
        for name in names
    }
    detail = {"before": {key: before.get(key) for key in after}, "after": after}
    if target.create_time >= await _begun(run, call):
        # Made by an earlier chunk of this run: taking it back takes it away whole.
        made = update(BulkRow).where(
            BulkRow.run == run.id, BulkRow.action == "CREATED", BulkRow.name == target.name
        )
        found = await call.db.execute(made.values(detail={"version": target.version + 1}))
        if found.rowcount:  # type: ignore[attr-defined]
            return []
    return [entry(run, line.number, ACCOUNT, "UPDATED", target, detail)]


async def _begun(run: Run, call: Call) -> Any:
    from crmkit.tables import BulkRun

    return await call.db.scalar(select(BulkRun.create_time).where(BulkRun.id == run.id))


async def _write_contacts(
    lines: Sequence[Line], policy: str, held: list[dict[str, Any]], run: Run, call: Call
) -> list[dict[str, Any]]:
    good = [line for line in lines if not line.problems and line.contact is not None]
    for line in good:
        assert line.contact is not None
        if line.account is not None:
            line.contact.account = line.account.name
    if run.spec.get("mixed") or any(line.account for line in lines):
        good = [line for line in good if line.account is not None]
    pairs = {(line.contact.account, line.contact.display_name) for line in good if line.contact}
    statement = select(Contact).where(
        tuple_(Contact.account, Contact.display_name).in_(pairs), Contact.state.in_(["ACTIVE", "LEFT"])
    )
    async with call.everybody():
        here = {(c.account, c.display_name): c for c in await call.db.scalars(statement)} if pairs else {}
    new: list[tuple[Line, Contact]] = []
    done: list[dict[str, Any]] = []
    for line in good:
        contact = line.contact
        assert contact is not None
        if line.account is not None and waits(line.account, held):
            # Nothing exists before the decision, so nobody is anybody's contact.
            whole = json_format.MessageToDict(call.message_of(contact))
            held.append(gate.waiting(line.account.name, run, line.number, CONTACT, contact=whole))
            continue
        known = here.get((contact.account, contact.display_name))
        if known is None or policy == "CREATE":
            contact.complete()
            here[contact.account, contact.display_name] = contact
            new.append((line, contact))
        else:
            run.count(skipped=1)
    rows, gated = gate.apart([contact for _, contact in new], call)
    await create_many(call, rows)
    run.count(created=len(rows))
    for line, contact in new:
        if contact not in gated:
            done.append(entry(run, line.number, CONTACT, "CREATED", contact, {"version": 1}))
    if gated:
        await call.flush()
    for line, contact in new:
        if contact in gated:
            done += note(await gate.make(contact, line.number, call), line, CONTACT, contact, held, run)
    return done


async def _write_interactions(
    lines: Sequence[Line], plan: Plan, held: list[dict[str, Any]], run: Run, call: Call
) -> list[dict[str, Any]]:
    good = [line for line in lines if not line.problems and line.interaction is not None]
    for line in good:
        one = line.interaction
        assert one is not None
        content = "\0".join((one.account, one.channel, one.start_time.isoformat(), one.summary))
        one.source_key = one.source_key or f"import:{hashlib.sha256(content.encode()).hexdigest()[:40]}"
    keys = {(line.interaction.channel, line.interaction.source_key) for line in good if line.interaction}
    async with call.everybody():
        statement = select(Interaction.channel, Interaction.source_key).where(
            tuple_(Interaction.channel, Interaction.source_key).in_(keys)
        )
        here = {(channel, key) for channel, key in await call.db.execute(statement)} if keys else set()
    made: list[tuple[Line, Interaction]] = []
    done: list[dict[str, Any]] = []
    for line in good:
        one = line.interaction
        assert one is not None
        if (one.channel, one.source_key) in here:
            run.count(skipped=1)
            continue
        here.add((one.channel, one.source_key))
        if gate.apart([one], call)[1]:
            await call.flush()
            done += note(await gate.make(one, line.number, call), line, ACCOUNT, one, held, run)
            continue
        try:
            await call.add(one)
        except Validation as refused:
            line.problems += violations(line.number, plan.headers, refused.violations)
            continue
        # What was written elsewhere and brought in is no follow-up of today.
        one.counts_for_sea, one.why_not = False, "IMPORT"
        made.append((line, one))
    await call.flush()
    run.count(created=len(made))
    done += [entry(run, line.number, ACCOUNT, "CREATED", one, {"version": one.version}) for line, one in made]
    return done


async def _relate(run: Run, call: Call) -> bool:
    """Makes the relations of the next lines that name a parent; False where there are none left."""
    statement = (
        select(BulkRow.line, BulkRow.name, BulkRow.detail)
        .where(BulkRow.run == run.id, BulkRow.action == "PARENT", BulkRow.line > run.position)
        .order_by(BulkRow.line)
        .limit(CHUNK // 5)
    )
    wishes = (await call.db.execute(statement)).all()
    if not wishes:
        return False
    known = await duplicates.named({wish.detail["text"] for wish in wishes}, call)
    problems: list[RowProblem] = []
    done: list[dict[str, Any]] = []
    for line, child, detail in wishes:
        parents = known[detail["text"]]
        if len(parents) != 1:
            problems.append(unnamed(line, "", detail["text"], len(parents)))
            continue
        relation = AccountRelation(to=child, kind="PARENT_OF", **{"from": f"accounts/{parents[0]}"})
        if gate.apart([relation], call)[1]:
            came = await gate.make(relation, line, call)
            if came.problem is not None:
                problems.append(came.problem)
            elif came.row is None:
                run.count(held=1)
            continue
        try:
            await call.add(relation)
            await call.flush()
        except Problem as refused:
            if refused.reason != "RELATION_EXISTS":
                problems.append(RowProblem.of(line, "", refused, "customer"))
            continue
        done.append(entry(run, line, RELATION, "CREATED", relation, {"version": 1}))
    if problems and not run.spec["skipErrors"]:
        raise FailedPrecondition("IMPORT_HAS_ERRORS", count=len(problems))
    await insert_rows(call, BulkRow.__table__, done)
    await note_problems(run, problems, call)
    run.count(failed=len(problems), relations=len(done))
    run.position = wishes[-1].line
    return True


def _tally(found: Import, run: Run) -> None:
    """Shows how far the run has come."""
    if run.phase == "":
        found.done = run.position
    found.created, found.updated = run.tally.get("created", 0), run.tally.get("updated", 0)
    found.skipped, found.held = run.tally.get("skipped", 0), run.tally.get("held", 0)
    # Counted anew at the end: a line that is wrong in two ways is one, and its relation comes later.
    found.failed = run.tally.get("failed", 0)
