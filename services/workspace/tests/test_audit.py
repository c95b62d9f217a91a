"""The audit: complete, once, and proof against being altered."""

from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Service
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine


async def entries_of(workspace: Service, name: str, count: int) -> list[Any]:
    """The entries about a record, oldest first, once there are so many."""

    async def found() -> list[Any]:
        page = await workspace.admin.ListAuditEntries(filter=f'resource = "{name}"', orderBy="seq")
        return list(page.audit_entries) if len(page.audit_entries) >= count else []

    return await workspace.eventually(found)


async def verify(workspace: Service) -> Any:
    return await workspace.admin.VerifyAuditEntries()


async def test_every_change_says_who_did_what_from_where(workspace: Service) -> None:
    task = await workspace.sales1.CreateTask(task={"displayName": "写报价"})
    await workspace.sales1.UpdateTask(
        task={"name": task.name, "displayName": "写新报价"}, updateMask="displayName"
    )
    await workspace.sales1.DeleteTask(name=task.name)
    created, updated, deleted = await entries_of(workspace, task.name, 3)
    assert (created.action, created.actor) == ("CREATED", workspace.person("sales1").employee)
    assert (updated.action, updated.method) == ("UPDATED", "UpdateTask")
    assert '"displayName": "写报价"' in updated.before and '"displayName": "写新报价"' in updated.after
    assert deleted.action == "DELETED" and "写新报价" in deleted.before
    assert updated.prev_hash != updated.hash


async def test_the_change_of_another_service_told_twice_stands_once(workspace: Service) -> None:
    name = f"accounts/{uuid4()}"
    fact = {
        "name": name, "action": "UPDATED", "actor": "employees/x", "address": "10.1.2.3", "method": "UpdateAccount",
        "before": {"level": "A"}, "after": {"level": "B"}, "resource": {"name": name, "level": "B"},
    }  # fmt: skip
    await workspace.tell("crm.customer.v1.ResourceChanged", fact, name)
    (entry,) = await entries_of(workspace, name, 1)
    assert (entry.address, entry.before, entry.after) == ("10.1.2.3", '{"level": "A"}', '{"level": "B"}')
    async with workspace.running.sessions() as session, session.begin():
        # The same event once more, as after a crash between commit and acknowledgement.
        await session.execute(
            text(
                "UPDATE inbox SET handlers = array_remove(handlers, 'on_anything_happened') WHERE event_id = :id"
            ),
            {"id": entry.name.partition("/")[2]},
        )
    await again(workspace, entry, fact)
    assert len(await entries_of(workspace, name, 1)) == 1


async def again(workspace: Service, entry: Any, fact: dict[str, Any]) -> None:
    """Hands the fact to the handler a second time."""
    from datetime import UTC
    from uuid import UUID

    from crmkit.auth import system
    from crmkit.events import Fact
    from workspace.model.audit import append

    async with workspace.running.call("on_anything_happened", system("workspace")) as call:
        event = Fact(
            subject=entry.subject, id=UUID(entry.name.partition("/")[2]), time=entry.time.ToDatetime(UTC),
            actor=entry.actor, aggregate=entry.resource, version=1, payload=fact,
        )  # fmt: skip
        await append([event, event], call)


async def test_what_the_gateway_tells_is_audited_too(workspace: Service) -> None:
    person = f"employees/{uuid4()}"
    await workspace.tell("crm.gateway.v1.SignedIn", {"person": person, "address": "10.9.9.9"}, person)
    (entry,) = await entries_of(workspace, person, 1)
    assert (entry.action, entry.address) == ("SignedIn", "10.9.9.9")


async def test_of_private_notes_the_audit_says_only_that_they_were_written(workspace: Service) -> None:
    note = await workspace.sales1.CreateNote(note={"displayName": "私事", "body": "不给别人看的内容"})
    (entry,) = await entries_of(workspace, note.name, 1)
    assert (entry.action, entry.before, entry.after) == ("CREATED", "", "")


async def test_only_who_may_reads_it_and_nobody_writes_it(workspace: Service, office: Any) -> None:
    assert await office.refusal(workspace.sales1.ListAuditEntries()) == "PERMISSION_DENIED"
    assert await office.refusal(workspace.manager.ListAuditEntries()) == "PERMISSION_DENIED"
    assert not {"CreateAuditEntry", "UpdateAuditEntry", "DeleteAuditEntry"} & set(
        workspace.running.pipeline.methods
    )
    await workspace.sales1.CreateTask(task={"displayName": "要留痕"})
    for statement in (
        "UPDATE audit_entries SET actor = 'nobody'",
        "DELETE FROM audit_entries",
        "TRUNCATE audit_entries",
        "SELECT * FROM audit_months.audit_other",
        "ALTER TABLE audit_entries DISABLE ROW LEVEL SECURITY",
    ):
        async with workspace.running.engine.connect() as connection:
            with pytest.raises(DBAPIError) as refused:
                await connection.execute(text(statement))
            assert getattr(refused.value.orig, "sqlstate", "") == "42501", statement


class Intruder:
    """Somebody with the owner's password, who changes the table and puts it right again."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def run(self, statement: str, **values: Any) -> Any:
        """Runs one statement as the owner."""
        return await self.connection.execute(text(statement), values)


@pytest.fixture
async def intruder(workspace: Service) -> Any:
    engine = create_async_engine(workspace.running.settings.database("workspace", owner=True))
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE audit_entries NO FORCE ROW LEVEL SECURITY"))
    async with engine.connect() as connection:
        yield Intruder(await connection.execution_options(isolation_level="AUTOCOMMIT"))
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE audit_entries FORCE ROW LEVEL SECURITY"))
    await engine.dispose()


async def test_edit_delete_insert_reorder_and_cut_are_found_at_their_place(
    workspace: Service, intruder: Intruder
) -> None:
    task = await workspace.sales1.CreateTask(task={"displayName": "第一"})
    for title in ("第二", "第三", "第四"):
        await workspace.sales1.UpdateTask(
            task={"name": task.name, "displayName": title}, updateMask="displayName"
        )
    seqs = [entry.seq for entry in await entries_of(workspace, task.name, 4)]
    whole = await quiet(workspace)
    assert (whole.first_break, whole.kind, whole.next_seq, whole.verified) == (0, "", 0, whole.head_seq)
    first, second = seqs[1], seqs[2]
    row = f"FROM audit_entries WHERE seq = {second}"

    await intruder.run(f"UPDATE audit_entries SET actor = 'employees/someone' WHERE seq = {second}")
    assert await found(workspace) == (second, "CHANGED")
    await intruder.run(f"UPDATE audit_entries SET actor = :actor WHERE seq = {second}", actor=task.owner)
    assert await found(workspace) == (0, "")

    await intruder.run(f"CREATE TEMP TABLE hidden AS SELECT * {row}")
    await intruder.run(f"DELETE {row}")
    assert await found(workspace) == (second, "MISSING")
    await intruder.run("INSERT INTO audit_entries SELECT * FROM hidden")
    assert await found(workspace) == (0, "")

    await intruder.run("UPDATE hidden SET id = gen_random_uuid()")
    await intruder.run("INSERT INTO audit_entries SELECT * FROM hidden")
    assert (await found(workspace))[1] in {"INSERTED", "CHANGED"}
    await intruder.run("DELETE FROM audit_entries WHERE id IN (SELECT id FROM hidden)")
    assert await found(workspace) == (0, "")

    swap = f"UPDATE audit_entries SET seq = CASE seq WHEN {first} THEN {second} ELSE {first} END WHERE seq IN ({first}, {second})"
    await intruder.run(swap)
    assert await found(workspace) == (first, "CHANGED")
    await intruder.run(swap)
    assert await found(workspace) == (0, "")

    head = (await quiet(workspace)).head_seq
    await intruder.run(f"CREATE TEMP TABLE tail AS SELECT * FROM audit_entries WHERE seq = {head}")
    await intruder.run(f"DELETE FROM audit_entries WHERE seq = {head}")
    assert await found(workspace) == (head, "CUT")
    await intruder.run("INSERT INTO audit_entries SELECT * FROM tail")
    assert await found(workspace) == (0, "")


async def found(workspace: Service) -> tuple[int, str]:
    proof = await verify(workspace)
    return proof.first_break, proof.kind


async def quiet(workspace: Service) -> Any:
    """The proof, once nothing is on its way into the chain any more."""
    seen = [0] * 10

    async def settled() -> Any:
        # Longer than facts wait for more of them.
        proof = await verify(workspace)
        seen[:] = [*seen[1:], proof.head_seq]
        return proof if set(seen) == {proof.head_seq} else None

    return await workspace.eventually(settled)


async def test_the_chain_is_proven_in_parts(workspace: Service) -> None:
    whole = await quiet(workspace)
    part = await workspace.admin.VerifyAuditEntries(limit=5)
    assert (part.verified, part.next_seq) == (5, 6)
    rest = await workspace.admin.VerifyAuditEntries(fromSeq=part.next_seq)
    assert (rest.first_break, rest.next_seq, rest.verified) == (0, 0, whole.head_seq - 5)


async def test_a_month_has_its_own_table_before_it_begins(workspace: Service) -> None:
    from datetime import UTC, datetime

    from crmkit.auth import system
    from workspace.jobs import make_audit_months

    for _ in range(2):
        async with workspace.running.call("test", system("workspace")) as call:
            await make_audit_months(datetime(2027, 12, 31, tzinfo=UTC), call)
    async with workspace.running.engine.connect() as connection:
        tables = await connection.scalars(
            text(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_entries'::regclass"
            )
        )
        assert {f"audit_months.audit_{month}" for month in ("2027_12", "2028_01", "2028_02")} <= set(tables)


async def test_guarded_fields_are_shown_to_who_may_read_them_alone(workspace: Service, office: Any) -> None:
    name = f"products/{uuid4()}"
    fact = {
        "name": name, "action": "UPDATED", "actor": "employees/x", "method": "UpdateProduct",
        "before": {"unit": "台"}, "after": {"unit": "套"}, "resource": {"name": name, "unit": "套"},
        "guarded": [{
            "permission": "sales.products.read_cost", "resource": {"cost": {"amount": "88.0001"}},
            "before": {"cost": {"amount": "77.0001"}}, "after": {"cost": {"amount": "88.0001"}},
        }],
    }  # fmt: skip
    await workspace.tell("crm.sales.v1.ResourceChanged", fact, name)
    (entry,) = await entries_of(workspace, name, 1)
    (part,) = entry.guarded
    assert (part.permission, part.before) == ("sales.products.read_cost", '{"cost": {"amount": "77.0001"}}')
    role = {
        "displayName": "审计员", "englishName": "Auditor", "code": f"auditor_{uuid4().hex[:8]}", "scope": "ALL",
        "permissions": ["workspace.auditEntries.read", "workspace.auditEntries.read_values"],
    }  # fmt: skip
    made = await workspace.admin.CreateRole(role=role)
    auditor = await office.client_of(await office.hire(f"auditor{uuid4().hex[:8]}", [made.code]))
    seen = await auditor.GetAuditEntry(name=entry.name)
    assert (seen.after, list(seen.guarded)) == ('{"unit": "套"}', [])
    # Who shapes the platform is told what changed, not from what to what.
    shapes = await office.client_of(await office.hire(f"shapes{uuid4().hex[:8]}", ["system_administrator"]))
    told = await shapes.GetAuditEntry(name=entry.name)
    assert (told.before, told.after, list(told.guarded)) == ('{"unit": null}', '{"unit": null}', [])
    assert await office.refusal(shapes.ListAuditEntries(filter='after:"套"')) == "FILTER_INVALID"
    for condition in ("", f'resource = "{name}"'):
        page = await auditor.ListAuditEntries(filter=condition)
        assert page.audit_entries and not any("88.0001" in str(found) for found in page.audit_entries)
    assert await office.refusal(workspace.admin.ListAuditEntries(filter="guarded:*")) == "FILTER_INVALID"
    assert not (await verify(workspace)).first_break


async def test_a_tail_cut_with_the_head_and_a_chain_worked_out_anew_are_found_by_the_seals(
    workspace: Service, intruder: Intruder
) -> None:
    from crmkit.auth import system
    from sqlalchemy import select
    from workspace.jobs import seal_audit
    from workspace.model.audit import SEALED, AuditEntry, seal

    async def sealed() -> None:
        for _ in range(2):
            async with workspace.running.call("test", system("workspace")) as call:
                await seal_audit(call.now, call)

    await quiet(workspace)
    await sealed()
    before = (await quiet(workspace)).head_seq
    await workspace.sales1.CreateTask(task={"displayName": "封存之后"})

    async def more() -> bool:
        return (await verify(workspace)).head_seq > before

    await workspace.eventually(more)
    head = (await quiet(workspace)).head_seq
    await sealed()
    proof = await verify(workspace)
    assert (proof.first_break, proof.sealed_seq) == (0, head)

    # The tail is cut and the head set back, so that the chain fits in itself.
    await intruder.run(f"CREATE TEMP TABLE gone AS SELECT * FROM audit_entries WHERE seq = {head}")
    await intruder.run("CREATE TEMP TABLE heads AS SELECT * FROM audit_heads")
    await intruder.run(f"DELETE FROM audit_entries WHERE seq = {head}")
    await intruder.run(
        f"UPDATE audit_heads SET seq = {head - 1}, hash = (SELECT hash FROM audit_entries WHERE seq = {head - 1})"
    )
    assert await found(workspace) == (head, "CUT")
    await intruder.run("INSERT INTO audit_entries SELECT * FROM gone")
    await intruder.run("UPDATE audit_heads SET seq = heads.seq, hash = heads.hash FROM heads")
    assert await found(workspace) == (0, "")

    # An entry is changed and every hash behind it worked out anew.
    async with workspace.running.call("test", system("workspace")) as call:
        columns = [getattr(AuditEntry, name) for name in SEALED]
        rows = (
            await call.db.execute(
                select(AuditEntry.id, AuditEntry.prev_hash, *columns)
                .where(AuditEntry.seq > before)
                .order_by(AuditEntry.seq)
            )
        ).all()
    await intruder.run(f"CREATE TEMP TABLE kept AS SELECT * FROM audit_entries WHERE seq > {before}")
    previous = rows[0].prev_hash
    for row in rows:
        values = {**row._mapping, "actor": "employees/forged"}
        new = seal(previous, row.id, values)
        await intruder.run(
            f"UPDATE audit_entries SET actor = 'employees/forged', prev_hash = '{previous}', hash = '{new}' WHERE seq = {row.seq}"
        )
        previous = new
    await intruder.run("UPDATE audit_heads SET hash = :hash", hash=previous)
    assert await found(workspace) == (before + 1, "REHASHED")
    await intruder.run(f"DELETE FROM audit_entries WHERE seq > {before}")
    await intruder.run("INSERT INTO audit_entries SELECT * FROM kept")
    await intruder.run("UPDATE audit_heads SET hash = heads.hash FROM heads")
    assert await found(workspace) == (0, "")

    # A seal is forged.
    path = workspace.parts.directory / "files" / "audit-seals" / f"{head:012}.json"
    genuine = path.read_text()
    path.write_text(genuine.replace('"hash": "', '"hash": "0', 1))
    assert await found(workspace) == (head, "SEAL")
    path.write_text(genuine)
    assert await found(workspace) == (0, "")
