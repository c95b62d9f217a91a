"""What the audit tells of whom, what is missing in it, and months that leave the database."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crmkit.auth import system
from crmkit.errors import FailedPrecondition
from crmkit.events import Fact
from crmkit.testing import Service
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from workspace.jobs import look_for_audit_gaps
from workspace.model.audit import AuditEntry, append
from workspace.model.audit_archive import AuditArchive
from workspace.proof import prove

pytestmark = pytest.mark.usefixtures("workspace")


async def entries_of(workspace: Service, name: str, count: int, client: Any = None) -> list[Any]:
    """The entries about a record, oldest first, once there are so many."""

    async def found() -> list[Any]:
        page = await (client or workspace.admin).ListAuditEntries(
            filter=f'resource = "{name}"', orderBy="seq"
        )
        return list(page.audit_entries) if len(page.audit_entries) >= count else []

    return await workspace.eventually(found)


async def auditor_of(workspace: Service, office: Any, *permissions: str) -> Any:
    """A client of somebody who reads the audit and has these permissions."""
    code = f"auditor_{uuid4().hex[:8]}"
    role = {"displayName": f"审计{code}", "englishName": code, "code": code, "scope": "ALL",
            "permissions": ["workspace.auditEntries.read", "workspace.auditEntries.read_values", *permissions]}  # fmt: skip
    await workspace.admin.CreateRole(role=role)
    return await office.client_of(await office.hire(code, [code]))


def changed(name: str, **said: Any) -> dict[str, Any]:
    return {"name": name, "action": "UPDATED", "actor": "employees/x", "method": "UpdateContact", **said}


async def test_personal_values_are_sealed_in_the_chain_read_by_who_may_and_gone_when_erased(
    workspace: Service, office: Any
) -> None:
    name = f"contacts/{uuid4()}"
    fact = changed(
        name, before={"displayName": "旧名", "title": "经理"}, after={"displayName": "机密甲", "title": "总监"},
        resource={"name": name},
    )  # fmt: skip
    await workspace.tell("crm.customer.v1.ResourceChanged", fact, name)
    (entry,) = await entries_of(workspace, name, 1)
    (part,) = entry.guarded
    assert (part.permission, json.loads(part.after)) == ("customer.contacts.read", {"displayName": "机密甲"})
    assert json.loads(entry.after) == {"title": "总监"}
    async with workspace.running.engine.begin() as connection:
        await connection.execute(text("SELECT set_config('crm.scope', 'SYSTEM', true)"))
        stored = str((await connection.execute(text("SELECT guarded, after FROM audit_entries"))).all())
        keys = str((await connection.execute(text("SELECT * FROM audit_keys"))).all())
    assert "机密甲" not in stored and name in keys

    blind = await auditor_of(workspace, office)
    assert not (await entries_of(workspace, name, 1, blind))[0].guarded
    seeing = await auditor_of(workspace, office, "customer.contacts.read")
    assert "机密甲" in (await seeing.GetAuditEntry(name=entry.name)).guarded[0].after
    assert (
        "机密甲" in (await seeing.BatchGetAuditEntries(names=[entry.name])).audit_entries[0].guarded[0].after
    )

    await workspace.tell("crm.customer.v1.PersonalDataErased", {"person": name}, name)

    async def erased() -> bool:
        return not (await seeing.GetAuditEntry(name=entry.name)).guarded[0].after

    await workspace.eventually(erased)
    await workspace.tell("crm.customer.v1.ResourceChanged", {**fact, "after": {"displayName": "晚到"}}, name)
    _, late = await entries_of(workspace, name, 2)
    assert not late.guarded[0].after
    assert not (await workspace.admin.VerifyAuditEntries()).first_break


async def test_an_entry_says_why_from_where_and_by_what(workspace: Service, office: Any) -> None:
    person = (await office.hire(f"leaver{uuid4().hex[:8]}", ["sales_representative"])).name
    await workspace.admin.FreezeEmployee(name=person, reason="可能离职，先行冻结")
    *_, frozen = await entries_of(workspace, person, 2)
    assert (frozen.reason, frozen.method, frozen.origin) == ("可能离职，先行冻结", "FreezeEmployee", 1)
    did = [("apiKeys/1", "UpdateAccount"), ("employees/1", "BulkImport"), ("system/customer", "recycle")]
    names = {f"accounts/{uuid4()}": one for one in did}
    origins: list[str] = []
    async with workspace.running.call("on_anything_happened", system("workspace")) as call:
        for name, (actor, method) in names.items():
            fact = Fact("crm.customer.v1.ResourceChanged", uuid4(), call.now, actor, name, 1,
                        {**changed(name), "method": method}, "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")  # fmt: skip
            await append([fact], call)
    for name in names:
        (entry,) = await entries_of(workspace, name, 1)
        origins.append(AuditEntry.__message__.Origin.Name(entry.origin))
        assert entry.request == "ab" * 16
    assert origins == ["KEY", "JOB", "SYSTEM"]
    signed = f"employees/{uuid4()}"
    fact = {"person": signed, "address": "10.0.0.9", "device": "Firefox"}
    await workspace.tell("crm.gateway.v1.SignedIn", fact, signed)
    (entry,) = await entries_of(workspace, signed, 1)
    assert (entry.action, entry.address, entry.device) == ("SignedIn", "10.0.0.9", "Firefox")
    approval, replaced = f"approvals/{uuid4()}", f"employees/{uuid4()}"
    vote = {"approver": signed, "vote": "AGREE", "replaced": replaced}
    fact = {**changed(approval), "before": {"decisions": []}, "after": {"decisions": [vote]}}
    async with workspace.running.call("on_anything_happened", system("workspace")) as call:
        await append(
            [Fact("crm.workspace.v1.ResourceChanged", uuid4(), call.now, signed, approval, 1, fact)], call
        )
    (entry,) = await entries_of(workspace, approval, 1)
    assert (entry.actor, entry.on_behalf_of) == (signed, replaced)


async def test_the_audit_is_filtered_by_person_record_action_and_time(workspace: Service) -> None:
    task = await workspace.sales1.CreateTask(task={"displayName": "可筛选"})
    await workspace.sales1.UpdateTask(
        task={"name": task.name, "displayName": "可筛选二"}, updateMask="displayName"
    )
    _, updated = await entries_of(workspace, task.name, 2)
    person, at = workspace.person("sales1").employee, updated.time.ToDatetime(UTC).isoformat()
    conditions = (
        f'actor = "{person}" AND resource = "{task.name}" AND action = "UPDATED" AND time >= "{at}"'
        f' AND time <= "{at}" AND origin = "PERSON"'
    )
    page = await workspace.admin.ListAuditEntries(filter=conditions)
    assert [entry.name for entry in page.audit_entries] == [updated.name]


async def test_every_way_of_writing_an_entry_is_refused(workspace: Service, office: Any) -> None:
    for client in (workspace.admin, workspace.sales1):
        assert await office.refusal(client.WriteAuditEntry()) == "AUDIT_READ_ONLY"


async def look(workspace: Service) -> None:
    """Lets a minute pass for what was told, and looks for gaps."""
    async with workspace.running.call("test", system("workspace")) as call:
        await call.db.execute(text("UPDATE audit_tallies SET told_time = told_time - interval '61 seconds'"))
        await look_for_audit_gaps(call.now, call)


async def test_a_fact_that_was_sent_and_never_came_is_a_gap_until_it_comes(
    workspace: Service, office: Any
) -> None:
    name, lost, area = f"accounts/{uuid4()}", uuid4(), "insight"
    async with workspace.running.call("on_anything_happened", system("workspace")) as call:
        come = Fact(
            "crm.insight.v1.ResourceChanged", uuid4(), call.now, "employees/x", name, 1, changed(name)
        )
        await append([come], call)
    await workspace.tell(f"crm.{area}.v1.FactsTold", {"number": 1, "ids": [str(come.id), str(lost)]}, "")
    await workspace.tell(f"crm.{area}.v1.FactsTold", {"number": 3, "ids": [str(come.id)]}, "")

    async def heard() -> bool:
        async with workspace.running.engine.connect() as connection:
            return await connection.scalar(
                text(f"SELECT count(*) = 2 FROM audit_tallies WHERE area = '{area}'")
            )

    await workspace.eventually(heard)
    before = len(await workspace.facts("crm.workspace.v1.AuditGapFound"))
    await look(workspace)
    await look(workspace)

    async def told() -> list[Any]:
        return (await workspace.facts("crm.workspace.v1.AuditGapFound"))[before:]

    (gap,) = await workspace.eventually(told)
    assert (gap["area"], gap["missing"], gap["ids"]) == (area, 2, [str(lost), "FactsTold 2"])
    assert (await workspace.admin.VerifyAuditEntries()).missing_facts == 2
    notices = (await workspace.admin.ListNotifications(filter='kind = "security"')).notifications
    assert any("insight" in one.display_name for one in notices)

    async with workspace.running.call("on_anything_happened", system("workspace")) as call:
        await append(
            [Fact("crm.insight.v1.ResourceChanged", lost, call.now, "employees/x", name, 2, changed(name))],
            call,
        )
    await workspace.tell(f"crm.{area}.v1.FactsTold", {"number": 2, "ids": []}, "")

    async def closed() -> bool:
        await look(workspace)
        return not (await workspace.admin.VerifyAuditEntries()).missing_facts

    await workspace.eventually(closed)
    assert len(await told()) == 1


async def test_a_service_says_which_facts_it_has_sent(workspace: Service) -> None:
    from crmkit.tally import COUNTER, tell_facts

    task = await workspace.sales1.CreateTask(task={"displayName": "要计数"})
    (entry,) = await entries_of(workspace, task.name, 1)
    number = await _state(workspace)
    async with workspace.running.call("test", system("workspace")) as call:
        # As if everything sent in the last hour had been sent long enough ago, and nothing been told of it.
        await call.db.execute(
            text(
                "UPDATE outbox SET published_at = published_at - interval '60 seconds' WHERE published_at IS NOT NULL"
            )
        )
        since = text("INSERT INTO number_counters VALUES (:rule, 'until', 0), (:rule, 'number', :number)"
                     " ON CONFLICT (rule, period) DO UPDATE SET last = excluded.last")  # fmt: skip
        await call.db.execute(since, {"rule": COUNTER, "number": number})
        await tell_facts(call.now, call)

    async def told() -> list[Any]:
        facts = await workspace.facts("crm.workspace.v1.FactsTold")
        return [one for one in facts if entry.name.partition("/")[2] in one["ids"]]

    (fact, *_) = await workspace.eventually(told)
    assert fact["number"] == number + 1


async def _state(workspace: Service) -> int:
    from crmkit.tally import COUNTER

    async with workspace.running.engine.connect() as connection:
        found = text("SELECT last FROM number_counters WHERE rule = :rule AND period = 'number'")
        return await connection.scalar(found, {"rule": COUNTER}) or 0


async def test_the_history_of_a_record_is_read_by_an_index_in_every_month(workspace: Service) -> None:
    async with workspace.running.engine.begin() as connection:
        await connection.execute(text("SELECT set_config('crm.scope', 'SYSTEM', true)"))
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        found = await connection.execute(
            text(
                "EXPLAIN SELECT * FROM audit_entries WHERE resource = 'accounts/x' ORDER BY time DESC LIMIT 50"
            )
        )
        plan = "\n".join(row[0] for row in found)
    assert "Seq Scan" not in plan and "resource" in plan and "->  Sort" not in plan, plan


async def test_a_month_leaves_the_database_only_behind_its_proven_archive(
    workspace: Service, office: Any
) -> None:
    now = datetime.now(UTC)
    archive = workspace.admin.ArchiveAuditMonth
    assert await office.refusal(archive(month=f"{now:%Y-%m}")) == "AUDIT_MONTH_OPEN"
    assert await office.refusal(archive(month="2026-13")) == "VALIDATION"
    assert await office.refusal(workspace.sales1.ArchiveAuditMonth(month="2020-01")) == "PERMISSION_DENIED"
    task = await workspace.sales1.CreateTask(task={"displayName": "归档前"})
    await entries_of(workspace, task.name, 1)
    with pytest.raises(Undone):
        async with workspace.running.call("test", system("workspace")) as call:
            await archived_and_dropped(workspace, call)
            raise Undone
    assert not (await workspace.admin.VerifyAuditEntries()).archived_seq


class Undone(Exception):
    """Takes the transaction back: the other tests read the same chain."""


async def archived_and_dropped(workspace: Service, call: Any) -> None:
    """As in two months' time: this month is archived, proven, dropped, and the rest proven behind it."""
    today, call.now = call.now, call.now + timedelta(days=62)
    months = "SELECT count(*) FROM pg_class WHERE relname = 'audit_2019_07'"
    await call.db.execute(text("SELECT audit_month('2019-07-01')"))
    month = await AuditArchive.of_month(f"{today:%Y-%m}", call)
    await call.flush()
    assert (month.state, month.first_seq, month.before_hash) == ("VERIFIED", 1, "0" * 64)
    assert (await AuditArchive.of_month(f"{today:%Y-%m}", call)) is month
    with pytest.raises(FailedPrecondition, match="REASON_REQUIRED"):
        await month.drop("短", call)

    path = workspace.parts.directory / "files" / "sha256" / month.sha256[:2] / month.sha256
    content = path.read_bytes()
    path.write_bytes(content[:-20] + b"x" * 20)
    with pytest.raises(FailedPrecondition, match="AUDIT_ARCHIVE_BROKEN"):
        await month.drop("归档超过保存期", call)
    path.write_bytes(content)
    signature, month.signature = month.signature, "00"
    with pytest.raises(FailedPrecondition, match="AUDIT_ARCHIVE_BROKEN"):
        await month.drop("归档超过保存期", call)
    month.signature = signature
    with pytest.raises(DBAPIError, match="not archived"):
        async with call.db.begin_nested():
            await call.db.execute(text("SELECT audit_drop(1, 'x')"))

    assert await call.db.scalar(text(months)) == 1
    await month.drop("归档超过保存期", call)
    await call.flush()
    assert await call.db.scalar(text(months)) == 0
    assert await call.db.scalar(text("SELECT count(*) FROM audit_entries")) == 0
    fact = Fact(
        "crm.customer.v1.ResourceChanged",
        uuid4(),
        today,
        "employees/x",
        "accounts/1",
        1,
        changed("accounts/1"),
    )
    await append([fact], call)
    found = await prove(0, 0, call)
    assert (found.first_break, found.verified, found.archived_seq) == (0, 1, month.last_seq)
    with pytest.raises(FailedPrecondition, match="ILLEGAL_TRANSITION"):
        await month.drop("归档超过保存期", call)
