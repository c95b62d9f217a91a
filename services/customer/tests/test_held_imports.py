"""Rows of an import that a policy wants decided: held one by one, made once decided, with what hangs on them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.tables import HeldAction
from crmkit.testing import Refused, Service
from sqlalchemy import select

from .test_imports import State, accounts, checked, ran, settled, table


@asynccontextmanager
async def policy(customer: Service, action: str, condition: str) -> AsyncIterator[str]:
    """A policy as workspace would publish it, as long as the block lasts; its id."""
    key, config = f"approvalPolicy.{uuid4()}", customer.running.config
    async with customer.parts.configuration() as bucket:
        await bucket.put(key, {"action": action, "condition": condition, "priority": 1})
        await customer.eventually(lambda: config.get(key) is not None)
        try:
            yield key.partition(".")[2]
        finally:
            await bucket.delete(key)
            await customer.eventually(lambda: config.get(key) is None)


async def held_by(customer: Service, policy: str) -> list[HeldAction]:
    async with customer.running.sessions() as session:
        mine = select(HeldAction).where(HeldAction.policy == policy).order_by(HeldAction.id)
        return list(await session.scalars(mine))


async def decide(customer: Service, held: HeldAction, how: str) -> None:
    approval = {"name": f"approvals/{uuid4()}", "heldAction": str(held.id)}
    await customer.tell(f"crm.workspace.v1.Approval{how}", {"approval": approval}, approval["name"])


@pytest.mark.capability("a.approval")
async def test_new_customers_of_a_file_are_held_row_by_row_and_their_contacts_and_parents_follow_them(
    customer: Service,
) -> None:
    mark = f"审批进口{uuid4().hex[:6]}"
    parent = await customer.sales1.CreateAccount(account={"displayName": f"{mark}集团有限公司"})
    header = ("客户名称", "员工人数", "联系人姓名", "上级客户")
    rows = [
        (f"{mark}{n}有限公司", str(n), f"赵{n}", parent.display_name if n == 5000 else "")
        for n in (10, 5000, 20, 6000)
    ]
    async with policy(customer, "customer.accounts.create", "employee_count >= 5000") as name:
        found = await checked(customer, customer.sales1, table(header, *rows), kind="MIXED")
        done = await ran(customer, customer.sales1, found)
        assert (State.Name(done.state), done.created, done.held, done.failed) == ("DONE", 4, 2, 0), (
            done.failure
        )
    # Nothing of what is held exists, the others do.
    assert await accounts(customer.sales1, mark) == [
        f"{mark}{n}" for n in ("10有限公司", "20有限公司", "集团有限公司")
    ]
    first, second = await held_by(customer, name)
    with pytest.raises(Refused) as refused:
        await customer.sales1.GetAccount(name=first.target)
    assert refused.value.reason == "NOT_FOUND"
    await decide(customer, second, "Rejected")
    await decide(customer, first, "Approved")

    async def relations() -> Any:
        page = await customer.sales1.ListAccountRelations(filter=f'to = "{first.target}"')
        return page.account_relations

    (relation,) = await customer.eventually(relations)
    assert (getattr(relation, "from"), relation.kind) == (parent.name, pb.AccountRelation.PARENT_OF)
    account = await customer.sales1.GetAccount(name=first.target)
    assert (account.employee_count, bool(account.number)) == (5000, True)
    people = (await customer.sales1.ListContacts(q="赵5000")).contacts
    assert [one.account for one in people] == [first.target]
    with pytest.raises(Refused):
        await customer.sales1.GetAccount(name=second.target)
    assert not (await customer.sales1.ListContacts(q="赵6000")).contacts
    # What was made later is taken back with the rest of the file.
    await customer.sales1.RevertImport(name=found.name, requestId=uuid4().hex)
    back = await settled(customer.sales1, customer, found.name)
    assert (State.Name(back.state), back.left) == ("REVERTED", 0), back.errors
    assert await accounts(customer.sales1, mark) == [parent.display_name]


@pytest.mark.capability("a.approval")
async def test_changes_that_a_file_brings_to_customers_are_held_and_leave_them_as_they_are(
    customer: Service,
) -> None:
    mark = f"审批变更{uuid4().hex[:6]}"
    small, large, same = [
        await customer.sales1.CreateAccount(account={"displayName": f"{mark}{n}有限公司", "employeeCount": 1})
        for n in "甲乙丙"
    ]
    rows = [(small.display_name, "10"), (large.display_name, "7000"), (same.display_name, "8000")]
    async with policy(customer, "customer.accounts.update", "employee_count >= 5000") as name:
        content = table(("客户名称", "员工人数"), *rows)
        found = await checked(customer, customer.sales1, content, duplicatePolicy="UPDATE")
        done = await ran(customer, customer.sales1, found)
        assert (State.Name(done.state), done.updated, done.held, done.failed) == ("DONE", 1, 2, 0), (
            done.failure
        )
        waiting = await customer.sales1.GetAccount(name=large.name)
        assert waiting.pending_approval
        waiting.pending_approval = ""
        # Byte for byte what it was.
        assert waiting == large
    assert (await customer.sales1.GetAccount(name=small.name)).employee_count == 10
    for one in await held_by(customer, name):
        await decide(customer, one, "Approved" if one.target == large.name else "Withdrawn")

    async def changed() -> bool:
        return (await customer.sales1.GetAccount(name=large.name)).employee_count == 7000

    async def free() -> Any:
        now = await customer.sales1.GetAccount(name=same.name)
        return None if now.pending_approval else now

    await customer.eventually(changed)
    assert await customer.eventually(free) == same


async def test_follow_ups_and_contacts_of_a_file_are_held_too_and_an_old_one_counts_for_no_sea(
    customer: Service,
) -> None:
    mark = f"审批跟进{uuid4().hex[:6]}"
    account = await customer.sales1.CreateAccount(account={"displayName": f"{mark}有限公司"})
    people = table(("客户", "姓名"), (account.display_name, f"钱{mark}"))
    async with policy(customer, "customer.contacts.create", f'display_name = "孙{mark}"') as name:
        cards = "".join(f"BEGIN:VCARD\nVERSION:3.0\nFN:{who}{mark}\nEND:VCARD\n" for who in "孙李")
        answer = await customer.sales1.ImportContactVcards(text=cards, account=account.name)
        assert [one.display_name for one in answer.contacts] == [f"李{mark}"]
        (card,) = await held_by(customer, name)
        assert [(one.reason, one.contact) for one in answer.skipped] == [("HELD_FOR_APPROVAL", card.target)]
    await decide(customer, card, "Approved")
    async with policy(customer, "customer.contacts.create", "") as name:
        found = await checked(customer, customer.sales1, people, kind="CONTACTS")
        done = await ran(customer, customer.sales1, found)
        assert (State.Name(done.state), done.created, done.held) == ("DONE", 0, 1), (
            done.failure,
            done.errors,
        )
    (contact,) = await held_by(customer, name)
    await decide(customer, contact, "Approved")

    async def known() -> Any:
        return (await customer.sales1.ListContacts(q=f"钱{mark}")).contacts

    assert [one.name for one in await customer.eventually(known)] == [contact.target]
    assert (await customer.sales1.GetContact(name=card.target)).account == account.name
    words = "谈了新的设备和明年的采购计划，双方都很满意"
    talks = table(("客户", "方式", "时间", "内容"), (account.display_name, "电话", "2026-01-05 10:00", words))
    async with policy(customer, "customer.interactions.create", "") as name:
        found = await checked(customer, customer.sales1, talks, kind="INTERACTIONS")
        done = await ran(customer, customer.sales1, found)
        assert (State.Name(done.state), done.created, done.held) == ("DONE", 0, 1), (
            done.failure,
            done.errors,
        )
    (talk,) = await held_by(customer, name)
    await decide(customer, talk, "Approved")

    async def logged() -> Any:
        return (await customer.sales1.ListInteractions(filter=f'account = "{account.name}"')).interactions

    (one,) = await customer.eventually(logged)
    assert (one.summary, one.counts_for_sea, one.why_not) == (words, False, "IMPORT")
