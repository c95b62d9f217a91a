"""Verbs that wait for an approval: tried, rolled back, held, and run as their requester once approved."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.auth import system
from crmkit.scope import enter
from crmkit.tables import DeadLetter, HeldAction
from crmkit.testing import Refused, Service
from customer.model.account import Account
from sqlalchemy import select, update

ACTION = "customer.accounts.archive"
Policy = Callable[[str], AbstractAsyncContextManager[None]]


@pytest.fixture
def policy(customer: Service) -> Policy:
    """A policy over archiving, as workspace would publish it, as long as the block lasts."""

    @asynccontextmanager
    async def publish(condition: str) -> AsyncIterator[None]:
        key = f"approvalPolicy.{uuid4()}"
        config = customer.running.config
        async with customer.parts.configuration() as bucket:
            await bucket.put(key, {"action": ACTION, "condition": condition, "priority": 1})
            await customer.eventually(lambda: config.get(key) is not None)
            try:
                yield
            finally:
                await bucket.delete(key)
                await customer.eventually(lambda: config.get(key) is None)

    return publish


async def create(customer: Service, website: str = "") -> pb.Account:
    body = {"displayName": f"审批样例{uuid4().hex}", "employeeCount": 500, "website": website}
    return await customer.manager.CreateAccount(account=body)


async def held(customer: Service, account: pb.Account) -> HeldAction:
    async with customer.running.sessions() as session:
        return (await session.scalars(select(HeldAction).where(HeldAction.target == account.name))).one()


async def decide(customer: Service, account: pb.Account, how: str) -> None:
    waiting = await held(customer, account)
    approval = {"name": f"approvals/{uuid4()}", "heldAction": str(waiting.id)}
    await customer.tell(f"crm.workspace.v1.Approval{how}", {"approval": approval}, approval["name"])


async def outcome(customer: Service, account: pb.Account) -> dict[str, Any]:
    async def told() -> list[dict[str, Any]]:
        return await customer.facts("crm.customer.v1.HeldActionEnded", account.name)

    ended = await customer.eventually(told)
    assert len(ended) == 1
    return ended[0]


async def refusal(call: Awaitable[Any]) -> str:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def test_a_held_verb_changes_nothing_and_marks_the_record(customer: Service, policy: Policy) -> None:
    account = await create(customer)
    async with policy("state = ARCHIVED AND employee_count > 100"):
        answer = await customer.manager.ArchiveAccount(name=account.name)
    assert answer.state == pb.Account.ACTIVE
    assert answer.pending_approval.startswith(f"{ACTION}#")
    waiting = await held(customer, account)
    assert (waiting.state, waiting.method) == ("HELD", "ArchiveAccount")
    (told,) = await customer.facts("crm.customer.v1.ActionHeld", account.name)
    assert (told["action"], told["requester"]) == (ACTION, customer.person("manager").employee)
    assert told["digest"] == waiting.digest
    assert await refusal(customer.manager.ArchiveAccount(name=account.name)) == "PENDING_APPROVAL"
    update = customer.manager.UpdateAccount(
        account={"name": account.name, "website": "a.example"}, updateMask="website"
    )
    assert await refusal(update) == "PENDING_APPROVAL"


async def test_a_condition_that_does_not_fit_holds_nothing(customer: Service, policy: Policy) -> None:
    account = await create(customer)
    async with policy("employee_count > 1000"):
        answer = await customer.manager.ArchiveAccount(name=account.name)
    assert (answer.state, answer.pending_approval) == (pb.Account.ARCHIVED, "")


async def test_a_condition_that_cannot_be_read_holds_everything(customer: Service, policy: Policy) -> None:
    for broken in ("state = = x", "((", "no_such_field = 1"):
        account = await create(customer)
        async with policy(broken):
            answer = await customer.manager.ArchiveAccount(name=account.name)
        assert answer.pending_approval, broken


async def test_an_approved_verb_runs_as_its_requester(customer: Service, policy: Policy) -> None:
    account = await create(customer)
    async with policy(""):
        await customer.manager.ArchiveAccount(name=account.name)
        await decide(customer, account, "Approved")
        assert (await outcome(customer, account))["outcome"] == "EXECUTED"
    found = await customer.manager.GetAccount(name=account.name)
    assert (found.state, found.pending_approval) == (pb.Account.ARCHIVED, "")
    changes = await customer.facts("crm.customer.v1.ResourceChanged", account.name)
    assert changes[-1]["actor"] == customer.person("manager").employee
    assert changes[-1]["method"] == "ArchiveAccount"


@pytest.mark.parametrize("how", ["Rejected", "Returned", "Withdrawn"])
async def test_a_verb_that_is_not_approved_is_dropped(customer: Service, policy: Policy, how: str) -> None:
    account = await create(customer)
    async with policy(""):
        await customer.manager.ArchiveAccount(name=account.name)
        await decide(customer, account, how)
        assert (await outcome(customer, account))["outcome"] == "DROPPED"
    found = await customer.manager.GetAccount(name=account.name)
    assert (found.state, found.pending_approval) == (pb.Account.ACTIVE, "")


async def test_a_decision_about_what_has_changed_since_is_stale(customer: Service, policy: Policy) -> None:
    account = await create(customer)
    async with policy(""):
        await customer.manager.ArchiveAccount(name=account.name)
        async with customer.running.sessions() as session, session.begin():
            await enter(session, system("customer"))
            row = Account.id == account.name.partition("/")[2]
            await session.execute(update(Account).where(row).values(industry="ELSE"))
        await decide(customer, account, "Approved")
        assert (await outcome(customer, account))["outcome"] == "STALE"
    found = await customer.manager.GetAccount(name=account.name)
    assert (found.state, found.pending_approval) == (pb.Account.ACTIVE, "")


async def test_a_decision_twice_and_one_about_nothing_have_no_effect(
    customer: Service, policy: Policy
) -> None:
    account = await create(customer)
    async with policy(""):
        await customer.manager.ArchiveAccount(name=account.name)
        await decide(customer, account, "Approved")
        await outcome(customer, account)
        await decide(customer, account, "Approved")
        for strange in ("", "not-a-uuid", str(uuid4())):
            approval = {"name": f"approvals/{uuid4()}", "heldAction": strange}
            await customer.tell("crm.workspace.v1.ApprovalApproved", {"approval": approval}, approval["name"])
        await customer.tell("crm.workspace.v1.ApprovalApproved", {}, "approvals/x")
        second = await create(customer)
        await customer.manager.ArchiveAccount(name=second.name)
        await decide(customer, second, "Approved")
        await outcome(customer, second)
    assert len(await customer.facts("crm.customer.v1.HeldActionEnded", account.name)) == 1
    async with customer.running.sessions() as session:
        letters = (await session.scalars(select(DeadLetter.handler))).all()
    assert "on_approval_ended" not in letters


async def test_the_same_key_gives_the_held_reply_again(customer: Service, policy: Policy) -> None:
    account, key = await create(customer), uuid4().hex
    async with policy(""):
        first = await customer.manager.ArchiveAccount(name=account.name, requestId=key)
        assert await customer.manager.ArchiveAccount(name=account.name, requestId=key) == first
