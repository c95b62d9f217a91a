"""Merges over all eight services, and back: nothing is lost, and nothing is left behind."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.tables import HeldAction
from crmkit.testing import Refused, Service
from customer import merges
from sqlalchemy import select, text

State = pb.Merge.State
# Columns that go on to name a merged record: what it itself is, and what was reckoned or decided about it then.
SPEAK_OF_IT = {
    "accounts.id", "account_balances.account", "duplicate_cases.pair", "target_facts.account", "target_facts.key",
    "target_facts.source", "sales_tasks.source",
}  # fmt: skip


async def reached(service: Service, merge: str, state: int) -> Any:
    async def look() -> Any:
        found = await service.admin.GetMerge(name=merge)
        return found if found.state == state else None

    return await service.eventually(look, 60)


async def previewed(service: Service, survivor: str, *losers: str, **fields: Any) -> Any:
    made = await service.admin.CreateMerge(merge={"survivor": survivor, "losers": list(losers), **fields})
    await service.admin.PreviewMerge(name=made.name)
    return await reached(service, made.name, State.PREVIEWED)


async def merged(service: Service, survivor: str, *losers: str, **fields: Any) -> Any:
    made = await previewed(service, survivor, *losers, **fields)
    await service.admin.RunMerge(name=made.name, requestId=uuid4().hex)
    return await reached(service, made.name, State.DONE)


async def refusal(awaitable: Any) -> str:
    with pytest.raises(Refused) as refused:
        await awaitable
    return refused.value.reason


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What is not the same in both."""
    found: dict[str, Any] = {}
    for key in before.keys() | after.keys():
        one, other = before.get(key), after.get(key)
        if one != other:
            found[key] = (
                {k: (one[k], other[k]) for k in one if one[k] != other.get(k)}
                if one and other
                else (one, other)
            )
    return found


async def test_everything_of_the_merged_customer_is_the_survivors_in_all_services_and_comes_back(
    world: Any,
) -> None:
    stays = await world.business("合并甲机床有限公司")
    goes = await world.business("合流乙锻压股份公司", "sales2")
    customer = world.customer
    yes = {"subject": stays["account"], "channel": "EMAIL", "purpose": "MARKETING", "source": "FORM"}
    await customer.admin.CreateConsent(consent={**yes, "subject": goes["account"], "decision": "WITHDRAWN"})
    await customer.admin.CreateConsent(consent={**yes, "decision": "GRANTED"})
    await world.settled()
    before = await world.contents()

    merge = await previewed(customer, stays["account"], goes["account"])
    counted = {
        (one.service, one.collection, one.field) for one in merge.preview if one.name == goes["account"]
    }
    assert {
        ("customer", "contacts", "account"), ("customer", "interactions", "account"), ("sales", "opportunities", "account"),
        ("orders", "contracts", "account"), ("billing", "invoices", "account"), ("servicedesk", "tickets", "account"),
    } <= counted  # fmt: skip
    assert [(pair.survivor, pair.loser) for pair in merge.proposed_pairs] == [
        (stays["contact"], goes["contact"])
    ]
    pair = {"survivor": stays["contact"], "loser": goes["contact"]}
    await customer.admin.UpdateMerge(
        merge={"name": merge.name, "contactPairs": [pair]}, updateMask="contactPairs"
    )
    assert (
        await refusal(customer.admin.RunMerge(name=merge.name, requestId=uuid4().hex))
        == "MERGE_PREVIEW_INCOMPLETE"
    )
    await customer.admin.PreviewMerge(name=merge.name)
    await reached(customer, merge.name, State.PREVIEWED)
    await customer.admin.RunMerge(name=merge.name, requestId=uuid4().hex)
    done = await reached(customer, merge.name, State.DONE)
    await world.settled()

    loser = await customer.admin.GetAccount(name=goes["account"])
    assert (pb.Account.State.Name(loser.state), loser.merged_into) == ("MERGED", stays["account"])
    survivor = await customer.admin.GetAccount(name=stays["account"])
    assert [alias.text for alias in survivor.aliases] == ["合流乙锻压股份公司"] and len(survivor.emails) == 2
    assert customer.person("sales2").employee in survivor.collaborators
    found = (await customer.admin.ListAccounts(q="合流乙")).accounts
    assert [account.name for account in found] == [stays["account"]]
    assert (await world.sales.admin.GetOpportunity(name=goes["deal"])).account == stays["account"]
    assert (await world.sales.admin.GetOpportunity(name=goes["deal"])).contacts[0].contact == stays["contact"]
    assert (await world.orders.admin.GetContract(name=goes["contract"])).account == stays["account"]
    assert (await world.servicedesk.admin.GetTicket(name=goes["ticket"])).related == [stays["account"]]
    task = await world.workspace.sales2.GetTask(name=goes["task"])
    assert list(task.links) == [stays["account"], stays["contact"]]
    balances = (
        await world.billing.admin.ListAccountBalances(filter=f'account = "{stays["account"]}"')
    ).account_balances
    assert [balance.balance.amount for balance in balances] == ["200.00"]
    decisions = (
        await customer.admin.ListConsents(filter=f'subject = "{stays["account"]}"', orderBy="time desc")
    ).consents
    assert pb.Consent.Decision.Name(decisions[0].decision) == "WITHDRAWN" and len(decisions) == 3
    lines = (
        await customer.admin.ListTimeline(filter=f'account = "{stays["account"]}"', pageSize=200)
    ).timeline
    assert {goes["deal"], goes["ticket"], stays["deal"]} <= {line.ref for line in lines}
    # What still names the merged ones says so on purpose, or is what the merged record itself is.
    names = await world.refers(goes["account"].partition("/")[2])
    assert names <= SPEAK_OF_IT, names
    moved = {(one.service, one.collection): one.count for one in done.moved if one.field == "account"}
    assert moved["sales", "opportunities"] == moved["billing", "invoices"] == 1
    # What comes late with the old name is the survivor's.
    late = await world.sales.sales2.CreateOpportunity(
        opportunity={
            "displayName": "迟到商机", "account": goes["account"], "need": "x",
            "amount": {"currencyCode": "CNY", "amount": "1.00"},
            "expectedCloseDate": {"year": 2027, "month": 3, "day": 31},
        }
    )  # fmt: skip
    assert late.account == stays["account"]
    await world.sales.sales2.DeleteOpportunity(name=late.name)

    await customer.admin.UndoMerge(name=merge.name, requestId=uuid4().hex)
    undone = await reached(customer, merge.name, State.UNDONE)
    assert not undone.left
    await world.settled()
    after = await world.contents()
    # The entries and figures of the late deal are new since.
    new = {key for key in after.keys() - before.keys() if "timeline" in key or "迟到商机" in str(after[key])}
    assert not difference(before, {key: value for key, value in after.items() if key not in new})


async def test_what_a_person_changed_since_stays_and_is_listed_and_later_merges_come_first(
    world: Any,
) -> None:
    customer = world.customer
    names = [
        (await customer.sales1.CreateAccount(account={"displayName": name})).name
        for name in ("先并铸造有限公司", "次并冶炼股份公司", "末并矿业集团")
    ]
    deals = [
        await world.sales.sales1.CreateOpportunity(
            opportunity={
                "displayName": "炉料", "account": names[1], "need": "x", "amount": {"currencyCode": "CNY", "amount": "1.00"},
                "expectedCloseDate": {"year": 2027, "month": 3, "day": 31},
            }
        )
        for _ in range(2)
    ]  # fmt: skip
    assert (
        await refusal(customer.admin.CreateMerge(merge={"survivor": names[0], "losers": names[:1]}))
        == "VALIDATION"
    )
    stale = await previewed(customer, names[0], names[1])
    await customer.sales1.UpdateAccount(account={"name": names[1], "needs": "焦炭"}, updateMask="needs")
    assert await refusal(customer.admin.RunMerge(name=stale.name, requestId=uuid4().hex)) == "PREVIEW_STALE"
    await customer.admin.CancelMerge(name=stale.name)

    first = await merged(customer, names[0], names[1])
    # Told twice the fact changes nothing.
    (fact,) = await customer.facts("crm.customer.v1.AccountMerged", first.name)
    await customer.tell("crm.customer.v1.AccountMerged", fact, first.name, times=2)
    await world.settled()
    again = await customer.admin.GetMerge(name=first.name)
    assert (again.moved, again.acknowledgements) == (first.moved, first.acknowledgements)
    assert (await customer.sales1.GetAccount(name=names[0])).needs == "焦炭"
    assert (
        await refusal(
            customer.sales1.UpdateAccount(account={"name": names[1], "needs": "x"}, updateMask="needs")
        )
        == "ILLEGAL_TRANSITION"
    )
    for deal in deals:
        assert (await world.sales.sales1.GetOpportunity(name=deal.name)).account == names[0]
    change = {"name": deals[0].name, "displayName": "炉料改过"}
    await world.sales.sales1.UpdateOpportunity(opportunity=change, updateMask="displayName")
    await customer.sales1.UpdateAccount(account={"name": names[0], "needs": "生铁"}, updateMask="needs")

    second = await merged(customer, names[2], names[0])
    assert (await customer.admin.GetAccount(name=names[1])).merged_into == names[2]
    assert (await world.sales.sales1.GetOpportunity(name=deals[1].name)).account == names[2]
    undo_first = customer.admin.UndoMerge(name=first.name, requestId=uuid4().hex)
    assert await refusal(undo_first) == "MERGE_HAS_LATER_MERGE"
    await customer.admin.UndoMerge(name=second.name, requestId=uuid4().hex)
    await reached(customer, second.name, State.UNDONE)
    await customer.admin.UndoMerge(name=first.name, requestId=uuid4().hex)
    undone = await reached(customer, first.name, State.UNDONE)
    assert [(one.service, one.name, one.reason) for one in undone.left] == [
        ("sales", deals[0].name, "CHANGED")
    ]
    assert (await world.sales.sales1.GetOpportunity(name=deals[0].name)).account == names[0]
    assert (await world.sales.sales1.GetOpportunity(name=deals[1].name)).account == names[1]
    # What somebody wrote into the survivor since is not undone.
    assert (await customer.sales1.GetAccount(name=names[0])).needs == "生铁"
    assert (await customer.sales1.GetAccount(name=names[1])).needs == "焦炭"
    async with customer.running.system_call("test", None) as call:
        await call.db.execute(text("UPDATE merges SET undo_until_time = now(), state = 'DONE'"))
    assert await refusal(customer.admin.UndoMerge(name=first.name, requestId=uuid4().hex)) == "UNDO_EXPIRED"


async def test_services_killed_in_the_middle_end_as_if_nothing_had_happened(world: Any) -> None:
    stays, goes = (
        await world.business("断点甲轴承有限公司"),
        await world.business("续传乙齿轮股份公司", "sales2"),
    )
    await world.settled()
    before = await world.contents()
    merge = await previewed(world.customer, stays["account"], goes["account"])
    tables = {
        "customer": "interactions", "sales": "opportunities", "orders": "contracts", "billing": "invoices",
        "servicedesk": "tickets", "workspace": "tasks", "marketing": "", "insight": "",
    }  # fmt: skip
    for verb, state in (("RunMerge", State.DONE), ("UndoMerge", State.UNDONE)):
        async with AsyncExitStack() as stack:
            for name, table in tables.items():
                if table:
                    # A row that somebody else holds stops the service on its way.
                    call = await stack.enter_async_context(
                        world.services[name].running.system_call("test", None)
                    )
                    await call.db.execute(text(f"SELECT 1 FROM {table} FOR UPDATE"))
                else:
                    await world.killed(name)
            await getattr(world.customer.admin, verb)(name=merge.name, requestId=uuid4().hex)
            for name, table in tables.items():
                if table:
                    await world.customer.eventually(world.held_up(name), 60)
                    await world.killed(name)
        for name in tables:
            await world.started(name)
        done = await reached(world.customer, merge.name, state)
        await world.settled()
        if state == State.DONE:
            moved = {(one.service, one.collection): one.count for one in done.moved if one.field == "account"}
            everywhere = {("customer", "contacts"), ("sales", "opportunities"), ("orders", "contracts"),
                          ("billing", "invoices"), ("servicedesk", "tickets")}  # fmt: skip
            assert {key: moved.get(key) for key in everywhere} == dict.fromkeys(everywhere, 1)
            assert await world.refers(goes["account"].partition("/")[2]) <= SPEAK_OF_IT
        assert not done.left
    assert not difference(before, await world.contents())


async def test_a_customer_of_a_pool_is_its_owners_after_the_merge_and_the_pools_again(world: Any) -> None:
    customer = world.customer
    made = {"displayName": "并户公海", "memberEmployees": [customer.person("sales1").employee]}
    pool = (await customer.admin.CreatePool(pool=made)).name

    async def account(name: str, who: str = "sales1") -> str:
        return (await customer.client(who).CreateAccount(account={"displayName": name})).name

    waits, owned, also = (
        await account("候鸟皮革"),
        await account("留鸟纺织", "sales2"),
        await account("旅鸟箱包"),
    )
    for name in (waits, also):
        await customer.sales1.ReleaseAccount(name=name, pool=pool, reason="暂不跟进")
    await world.settled()
    # That an owner changed twice stays on the time line.
    before = await world.contents(told=False)

    async def waiting() -> list[str]:
        return [
            item.account
            for item in (await customer.sales1.ListPoolItems(filter=f'pool = "{pool}"')).pool_items
        ]

    # Nothing is chosen: who has an owner keeps it, whichever of them stays.
    for survivor, *losers in ((waits, owned, also), (owned, waits)):
        merge = await merged(customer, survivor, *losers)
        found = await customer.admin.GetAccount(name=survivor)
        assert (pb.Account.State.Name(found.state), found.owner) == (
            "ACTIVE",
            customer.person("sales2").employee,
        )
        assert found.pool == "" and not {*losers, survivor} & set(await waiting())
        await customer.admin.UndoMerge(name=merge.name, requestId=uuid4().hex)
        assert not (await reached(customer, merge.name, State.UNDONE)).left
        await world.settled()
        assert not difference(before, await world.contents(told=False))
    # The pool is chosen: the owner goes on working with it for a while, as with another owner.
    chosen = {"choices": [{"field": "owner", "source": waits}]}
    merge = await merged(customer, owned, waits, **chosen)
    found = await customer.admin.GetAccount(name=owned)
    assert (pb.Account.State.Name(found.state), found.owner, found.pool) == ("POOLED", "", pool)
    assert [one.employee for one in found.collaborations] == [customer.person("sales2").employee]
    assert await waiting() == [also, owned] or await waiting() == [owned, also]
    await customer.admin.UndoMerge(name=merge.name, requestId=uuid4().hex)
    await reached(customer, merge.name, State.UNDONE)
    await world.settled()
    assert not difference(before, await world.contents(told=False))


async def test_two_invoiced_tax_ids_need_finance_and_what_came_after_the_count_is_listed(
    world: Any, tax_id: Callable[[], str]
) -> None:
    customer, finance = world.customer, world.billing.client("finance")
    ids = (tax_id(), tax_id())
    names = [
        (await customer.sales1.CreateAccount(account={"displayName": name, "taxId": tax})).name
        for name, tax in zip(("双税甲木业", "双税乙竹业"), ids, strict=True)
    ]
    line = {
        "description": "板材",
        "quantity": "1",
        "unitPrice": {"currencyCode": "CNY", "amount": "10.00"},
        "taxRate": "0",
    }
    bills = [
        (await finance.CreateInvoice(invoice={"account": name, "currency": "CNY", "lines": [line]})).name
        for name in names
    ]
    await finance.IssueInvoice(name=bills[0])
    # A draft invoice stands against nothing.
    assert not (await previewed(customer, *names)).blockers
    issued = await finance.IssueInvoice(name=bills[1])
    merge = await previewed(customer, *names)
    assert [one.reason for one in merge.blockers] == ["TAX_IDS_DIFFER"]
    assert await refusal(customer.admin.RunMerge(name=merge.name, requestId=uuid4().hex)) == "MERGE_BLOCKED"
    assert await refusal(customer.sales1.LiftMerge(name=merge.name, reason="x")) in (
        "NOT_FOUND",
        "PERMISSION_DENIED",
    )
    lifted = await customer.client("finance").LiftMerge(name=merge.name, reason="2026 年换证，同一法人")
    assert not lifted.blockers and lifted.lifted

    deal = await world.sales.sales1.CreateOpportunity(
        opportunity={
            "displayName": "预览后商机", "account": names[1], "need": "x", "amount": {"currencyCode": "CNY", "amount": "1.00"},
            "expectedCloseDate": {"year": 2027, "month": 3, "day": 31},
        }
    )  # fmt: skip
    await world.settled()
    await customer.admin.RunMerge(name=merge.name, requestId=uuid4().hex)
    done = await reached(customer, merge.name, State.DONE)
    assert ("sales", deal.name) in {(one.service, one.name) for one in done.arrived}
    # What was moved is what was counted and these, wherever a record refers by a field of its own.
    arrived = {one.name.partition("/")[0] for one in done.arrived}
    counted = {
        (one.service, one.collection, one.field): one.count for one in merge.preview if one.name == names[1]
    }
    moved = {(one.service, one.collection, one.field): one.count for one in done.moved}
    assert counted and {key: moved.get(key) for key in counted if key[1] not in arrived} == {
        key: count for key, count in counted.items() if key[1] not in arrived
    }
    # An issued document keeps its text, and a loser's number finds the survivor.
    assert (await finance.GetInvoice(name=bills[1])).buyer == issued.buyer
    # Each fact told twice changes nothing.
    before = await world.contents()
    for subject in ("MergePreviewRequested", "AccountMerged"):
        (fact, *_) = await customer.facts(f"crm.customer.v1.{subject}", merge.name)
        await customer.tell(f"crm.customer.v1.{subject}", fact, merge.name)
    for name, service in world.services.items():
        for subject in ("MergePreviewed", "MergeRepointed"):
            for fact in await service.facts(f"crm.{name}.v1.{subject}"):
                if fact["merge"] == merge.name:
                    await service.tell(f"crm.{name}.v1.{subject}", fact)
    await world.settled()
    assert not difference(before, await world.contents())


async def test_a_merge_waits_for_its_approval_and_for_services_that_keep_silent(customer: Service) -> None:
    one = await customer.sales1.CreateAccount(account={"displayName": "静候甲仪表有限公司"})
    other = await customer.sales1.CreateAccount(account={"displayName": "肃立乙电缆有限公司"})
    made = await customer.admin.CreateMerge(merge={"survivor": one.name, "losers": [other.name]})
    await customer.admin.PreviewMerge(name=made.name)

    async def answer(subject: str, **fields: Any) -> None:
        for service in merges.SERVICES - {"customer"}:
            body = {"merge": made.name, "service": service, **fields}
            await customer.tell(f"crm.{service}.v1.{subject}", body)

    assert (
        await refusal(customer.admin.RunMerge(name=made.name, requestId=uuid4().hex))
        == "MERGE_PREVIEW_INCOMPLETE"
    )
    digest = (await customer.admin.GetMerge(name=made.name)).digest
    await answer("MergePreviewed", digest="of another request")
    await answer("MergePreviewed", digest=digest)
    await reached(customer, made.name, State.PREVIEWED)
    key = f"approvalPolicy.{uuid4()}"
    async with customer.parts.configuration() as bucket:
        await bucket.put(key, {"action": "customer.merges.run", "condition": "", "priority": 1})
        await customer.eventually(lambda: customer.running.config.get(key) is not None)
        held = await customer.admin.RunMerge(name=made.name, requestId=uuid4().hex)
        assert held.pending_approval and held.state == State.PREVIEWED
        assert (await customer.sales1.GetAccount(name=other.name)).state == pb.Account.ACTIVE
        async with customer.running.sessions() as session:
            waiting = (await session.scalars(select(HeldAction).where(HeldAction.target == made.name))).one()
        approval = {"name": f"approvals/{uuid4()}", "heldAction": str(waiting.id)}
        await customer.tell("crm.workspace.v1.ApprovalApproved", {"approval": approval}, approval["name"])
        await reached(customer, made.name, State.RUNNING)
        await bucket.delete(key)
    assert (
        await refusal(
            customer.sales1.UpdateAccount(account={"name": one.name, "needs": "x"}, updateMask="needs")
        )
        == "ACCOUNT_MERGING"
    )
    # Nobody answers: a quarter of an hour later it is told again.
    async with customer.running.system_call("test", None) as call:
        call.now = datetime.now(UTC) + timedelta(minutes=16)
        await merges.watch_merges(call.now, call)
    assert len(await customer.facts("crm.customer.v1.AccountMerged", made.name)) == 2
    await answer("MergeRepointed", direction="RUN")
    await reached(customer, made.name, State.DONE)
    assert (
        await customer.sales1.UpdateAccount(account={"name": one.name, "needs": "x"}, updateMask="needs")
    ).needs == "x"
