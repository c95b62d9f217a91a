"""Contracts through the front door."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from crm.orders.v1 import pb
from crmkit.testing import Service

State = pb.Contract.State
REASON = "客户要求修改"


async def test_a_draft_has_no_number_and_its_totals_are_those_of_its_lines(
    orders: Service, desk: Any
) -> None:
    made = await desk.contract(
        await desk.account(), lines=desk.lines(("3", "333.33"), ("1", "0.50")), gross=desk.cny("1.00")
    )
    assert made.state == State.DRAFT
    assert not made.number
    assert [line.key for line in made.lines] == ["1", "2"]
    assert (made.net.amount, made.tax.amount, made.gross.amount) == ("1000.49", "130.07", "1130.56")
    assert made.balance.amount == "1130.56"
    assert made.own_entity == "departments/01900000-0000-7000-8000-0000000000d0"


async def test_a_contract_without_lines_is_valid_with_an_amount(orders: Service, desk: Any) -> None:
    made = await desk.contract(await desk.account(), gross=desk.cny("5000.00"), tax=desk.cny("500.00"))
    assert made.net.amount == "4500.00"
    answer = await orders.sales1.SubmitContract(name=made.name)
    assert answer.state == State.IN_APPROVAL
    empty = await desk.contract(made.account)
    assert (await desk.refused(orders.sales1.SubmitContract(name=empty.name))).reason == "CONTRACT_EMPTY"


async def test_what_is_missing_is_named_when_it_is_submitted(orders: Service, desk: Any) -> None:
    made = await desk.contract(await desk.account(), effectiveFrom=None, gross=desk.cny("1.00"))
    problem = await desk.refused(orders.sales1.SubmitContract(name=made.name))
    assert (problem.reason, problem.info.metadata["fields"]) == ("CONTRACT_INCOMPLETE", "effective_from")
    assert not (await orders.sales1.GetContract(name=made.name)).number


async def test_the_way_from_draft_to_closed(orders: Service, desk: Any) -> None:
    made = await desk.contract(await desk.account(), gross=desk.cny("100.00"))
    sales, manager, name = orders.sales1, orders.manager, made.name
    assert (await sales.SubmitContract(name=name, etag=made.etag)).number.startswith("HT-S2026")
    assert (await manager.ApproveContract(name=name)).state == State.AWAITING_SIGNATURE
    done = await manager.SignContract(name=name, counterpartySignatory="钱进")
    assert (done.state, done.counterparty_signatory, done.signatory) == (
        State.SIGNED,
        "钱进",
        orders.person("sales1").employee,
    )
    assert (await manager.ActivateContract(name=name)).state == State.ACTIVE
    assert (await manager.SuspendContract(name=name, reason="工期顺延两周")).state == State.SUSPENDED
    assert (await manager.ResumeContract(name=name)).state == State.ACTIVE
    assert (await manager.StartClosingContract(name=name)).state == State.CLOSING
    assert (await desk.refused(manager.CloseContract(name=name))).reason == "BALANCE_OPEN"
    for subject in (
        "ContractSubmitted",
        "ContractSigned",
        "ContractActivated",
        "ContractSuspended",
        "ContractResumed",
    ):
        assert len(await orders.facts(f"crm.orders.v1.{subject}", name)) == 1, subject
    assert not await orders.facts("crm.orders.v1.ContractEnded", name)


VERBS: dict[str, tuple[str, ...]] = {
    "SubmitContract": ("DRAFT",),
    "ReturnContractToDraft": ("IN_APPROVAL", "AWAITING_SIGNATURE"),
    "ApproveContract": ("IN_APPROVAL",),
    "SignContract": ("AWAITING_SIGNATURE",),
    "ActivateContract": ("DRAFT", "IN_APPROVAL", "AWAITING_SIGNATURE", "SIGNED"),
    "SuspendContract": ("ACTIVE",),
    "ResumeContract": ("SUSPENDED",),
    "StartClosingContract": ("ACTIVE",),
    "CloseContract": ("CLOSING",),
    "TerminateContract": ("ACTIVE", "SUSPENDED", "CLOSING"),
    "CancelContract": ("DRAFT", "IN_APPROVAL", "AWAITING_SIGNATURE", "SIGNED"),
}
WAYS = {
    "DRAFT": [], "IN_APPROVAL": ["SubmitContract"], "AWAITING_SIGNATURE": ["SubmitContract", "ApproveContract"],
    "SIGNED": ["SubmitContract", "ApproveContract", "SignContract"], "ACTIVE": ["ActivateContract"],
    "SUSPENDED": ["ActivateContract", "SuspendContract"], "CLOSING": ["ActivateContract", "StartClosingContract"],
    "TERMINATED": ["ActivateContract", "TerminateContract"], "CANCELLED": ["CancelContract"],
}  # fmt: skip


@pytest.mark.parametrize("state", WAYS)
async def test_every_other_transition_is_refused_and_changes_nothing(
    orders: Service, desk: Any, state: str
) -> None:
    made = await desk.contract(await desk.account(), gross=desk.cny("100.00"))
    for verb in WAYS[state]:
        made = await send(orders, verb, made.name)
    assert State.Name(made.state) == state
    for verb, allowed in VERBS.items():
        if state not in allowed:
            assert (await desk.refused(send(orders, verb, made.name))).reason == "ILLEGAL_TRANSITION", verb
    now = await orders.manager.GetContract(name=made.name)
    assert (now.state, now.number, now.reason, now.end_date) == (
        made.state,
        made.number,
        made.reason,
        made.end_date,
    )


async def send(orders: Service, verb: str, name: str) -> Any:
    needs = verb in {"ReturnContractToDraft", "SuspendContract", "TerminateContract", "CancelContract"}
    return await getattr(orders.manager, verb)(name=name, **({"reason": REASON} if needs else {}))


async def test_a_stale_etag_and_a_thin_reason_are_refused(orders: Service, desk: Any) -> None:
    made = await desk.contract(await desk.account(), gross=desk.cny("100.00"))
    await orders.sales1.SubmitContract(name=made.name)
    assert (
        await desk.refused(orders.sales1.SubmitContract(name=made.name, etag=made.etag))
    ).reason == "ETAG_MISMATCH"
    assert (
        await desk.refused(orders.manager.CancelContract(name=made.name, reason="  不要 "))
    ).reason == "REASON_REQUIRED"


async def test_a_submitted_contract_keeps_its_content_and_its_number(orders: Service, desk: Any) -> None:
    made = await desk.contract(await desk.account(), lines=desk.lines(("1", "100.00")))
    number = (await orders.sales1.SubmitContract(name=made.name)).number
    change = {
        "contract": {"name": made.name, "currency": "USD", "displayName": "另一份"},
        "updateMask": "currency,displayName",
    }
    problem = await desk.refused(orders.sales1.UpdateContract(**change))
    assert (problem.reason, problem.info.metadata["fields"]) == ("CONTRACT_FROZEN", "currency, display_name")
    assert (
        await desk.refused(orders.manager.DeleteContract(name=made.name))
    ).reason == "NUMBERED_NOT_DELETABLE"
    await orders.sales1.ReturnContractToDraft(name=made.name, reason=REASON)
    await orders.sales1.UpdateContract(
        contract={"name": made.name, "displayName": "另一份"}, updateMask="displayName"
    )
    assert (await orders.sales1.SubmitContract(name=made.name)).number == number


async def test_one_contract_has_one_currency(orders: Service, desk: Any) -> None:
    mixed = desk.lines(("1", "100.00"))
    mixed[0]["discount"] = {"currencyCode": "USD", "amount": "1.00"}
    customer = await desk.account()
    assert (await desk.refused(desk.contract(customer, lines=mixed))).reason == "CURRENCY_MISMATCH"
    negative = desk.lines(("1", "-100.00"))
    assert (await desk.refused(desk.contract(customer, lines=negative))).violations == {
        "contract.lines[0].unit_price": "TOO_SMALL"
    }


async def test_instalments_add_up_to_the_amount(orders: Service, desk: Any) -> None:
    customer = await desk.account()
    parts = [
        {"title": "首付", "percent": "30", "trigger": "ACTIVATION"},
        {"title": "尾款", "amount": desk.cny("60.00"), "trigger": "DELIVERY"},
    ]
    made = await desk.contract(customer, gross=desk.cny("100.00"), instalments=parts)
    problem = await desk.refused(orders.sales1.SubmitContract(name=made.name))
    assert (problem.reason, problem.info.metadata["difference"]) == ("PLAN_TOTAL_MISMATCH", "10.00 CNY")
    bad = [{"title": "首付", "trigger": "DATE"}]
    assert (await desk.refused(desk.contract(customer, gross=desk.cny("1.00"), instalments=bad))).violations == {
        "contract.instalments[0].percent": "ONE_OF", "contract.instalments[0].date": "REQUIRED",
    }  # fmt: skip


async def test_without_a_policy_a_draft_is_put_in_force_in_one_call(orders: Service, desk: Any) -> None:
    made = await desk.contract(await desk.account(), gross=desk.cny("100.00"))
    active = await orders.manager.ActivateContract(name=made.name)
    assert (active.state, bool(active.number), bool(active.sign_date.year)) == (State.ACTIVE, True, True)
    for subject in ("ContractSubmitted", "ContractSigned", "ContractActivated"):
        assert len(await orders.facts(f"crm.orders.v1.{subject}", made.name)) == 1


async def test_a_policy_holds_the_approval_and_nothing_leads_past_it(orders: Service, desk: Any) -> None:
    customer = await desk.account()
    policy = {"action": "orders.contracts.approve", "condition": 'display_name = "大额合同"', "priority": 1}
    async with orders.parts.configuration() as config:
        await config.put("approvalPolicy.large", policy)
        await orders.eventually(lambda: orders.running.config.get("approvalPolicy.large"))
        try:
            made = await desk.contract(customer, gross=desk.cny("100.00"), displayName="大额合同")
            problem = await desk.refused(orders.manager.ActivateContract(name=made.name))
            assert problem.reason == "STAGE_OPEN"
            await orders.sales1.SubmitContract(name=made.name)
            held = await orders.manager.ApproveContract(name=made.name)
            assert (held.state, bool(held.pending_approval)) == (State.IN_APPROVAL, True)
            assert (
                await desk.refused(orders.manager.ActivateContract(name=made.name))
            ).reason == "PENDING_APPROVAL"
            (fact,) = await orders.facts("crm.orders.v1.ActionHeld", made.name)
            approval = {"approval": {"name": "approvals/1", "heldAction": fact["heldAction"]}}
            await orders.tell("crm.workspace.v1.ApprovalApproved", approval)

            async def approved() -> bool:
                return (await orders.sales1.GetContract(name=made.name)).state == State.AWAITING_SIGNATURE

            await orders.eventually(approved)
        finally:
            await config.delete("approvalPolicy.large")
            await orders.eventually(lambda: orders.running.config.get("approvalPolicy.large") is None)


async def test_a_contract_of_the_future_waits_and_the_job_puts_it_in_force(
    orders: Service, desk: Any
) -> None:
    from datetime import UTC, datetime

    from orders.jobs import activate_effective_contracts

    ahead = datetime.now(UTC) + timedelta(days=40)
    start = {"year": ahead.year, "month": ahead.month, "day": ahead.day}
    done = await desk.signed(await desk.account(), gross=desk.cny("100.00"), effectiveFrom=start)
    assert (await desk.refused(orders.manager.ActivateContract(name=done.name))).reason == "NOT_YET_EFFECTIVE"
    for _ in range(2):
        async with orders.running.system_call("activate", None) as call:
            await activate_effective_contracts.function(ahead, call)
    assert (await orders.sales1.GetContract(name=done.name)).state == State.ACTIVE
    assert len(await orders.facts("crm.orders.v1.ContractActivated", done.name)) == 1


async def test_a_termination_before_the_first_day_is_refused_and_tells_two_facts_else(
    orders: Service, desk: Any
) -> None:
    made = await desk.contract(await desk.account(), gross=desk.cny("100.00"))
    await orders.manager.ActivateContract(name=made.name)
    early = {"year": 2025, "month": 12, "day": 31}
    call = orders.manager.TerminateContract(name=made.name, reason=REASON, date=early)
    assert (await desk.refused(call)).reason == "TERMINATION_DATE_INVALID"
    await orders.manager.TerminateContract(name=made.name, reason=REASON)
    assert len(await orders.facts("crm.orders.v1.ContractTerminated", made.name)) == 1
    (ended,) = await orders.facts("crm.orders.v1.ContractEnded", made.name)
    assert ended["how"] == "TERMINATED"


async def test_numbers_have_no_gap_and_no_double_whoever_is_refused_meanwhile(
    orders: Service, desk: Any
) -> None:
    customer = await desk.account()
    good = [await desk.contract(customer, gross=desk.cny("100.00")) for _ in range(16)]
    bad = [
        await desk.contract(
            customer,
            gross=desk.cny("9.00"),
            instalments=[{"title": "款", "percent": "50", "trigger": "ACTIVATION"}],
        )
        for _ in range(4)
    ]
    answers = await asyncio.gather(
        *(orders.sales1.SubmitContract(name=one.name) for one in [*good, *bad]), return_exceptions=True
    )
    numbers = sorted(int(answer.number[-4:]) for answer in answers if not isinstance(answer, BaseException))
    assert len(numbers) == 16
    assert numbers == list(range(numbers[0], numbers[0] + 16))


async def test_another_persons_contract_does_not_exist(orders: Service, desk: Any) -> None:
    made = await desk.contract(await desk.account(), gross=desk.cny("100.00"))
    assert (await desk.refused(orders.sales2.SubmitContract(name=made.name))).reason == "NOT_FOUND"
    assert (await desk.refused(orders.sales2.CreateOrderFromContract(name=made.name))).reason == "NOT_FOUND"
