"""Orders through the front door."""

import asyncio
from itertools import product
from typing import Any

import pytest
from crm.orders.v1 import pb
from crmkit.errors import FailedPrecondition
from crmkit.testing import Service
from orders.model.credit import check_credit
from orders.model.order import MOVES, Order

State = pb.Order.State
REASON = "客户暂缓收货"
STATES = [name for name, _ in State.items() if name not in {"STATE_UNSPECIFIED", "DRAFT"}]


class Told:
    """Stands where a call stands; keeps the facts."""

    def __init__(self) -> None:
        self.facts: list[str] = []

    def emit(self, event: Any, /, **fields: Any) -> None:
        self.facts.append(event.DESCRIPTOR.name)


def test_nineteen_of_121_moves_pass_with_one_fact_each_and_102_are_refused() -> None:
    passed = 0
    for before, after in product(STATES, STATES):
        order, call = (
            Order(state=before, items=[pb.Order.Item(key="1", quantity="1", state=State.Value(before))]),
            Told(),
        )
        try:
            order.move(after, call)  # type: ignore[arg-type]
        except FailedPrecondition as problem:
            assert problem.reason == "ILLEGAL_TRANSITION"
            assert (order.state, call.facts) == (before, [])
        else:
            own = {"COMPLETED": "OrderCompleted", "CANCELLED": "OrderCancelled"}.get(
                after, "OrderStateChanged"
            )
            assert (order.state, call.facts) == (after, [own])
            passed += 1
    assert (len(STATES), passed, len(MOVES)) == (11, 19, 19)


async def test_an_order_is_numbered_when_it_is_placed_and_told_once(orders: Service, desk: Any) -> None:
    customer = await desk.account()
    made = await orders.sales1.CreateOrder(
        order={"account": customer, "currency": "CNY", "items": desk.lines(("7.2", "25.00"), rate="0")}
    )
    assert (made.state, made.number, made.gross.amount) == (State.DRAFT, "", "180.00")
    assert made.display_name == "华东机械 · 产品1"
    placed = await orders.sales1.SubmitOrder(name=made.name, etag=made.etag)
    assert placed.number.startswith("DD2026")
    assert placed.state == State.ACKNOWLEDGED
    assert (await desk.refused(orders.sales1.SubmitOrder(name=made.name))).reason == "ILLEGAL_TRANSITION"
    (fact,) = await orders.facts("crm.orders.v1.OrderPlaced", made.name)
    assert (fact["order"]["number"], fact["order"]["items"][0]["state"]) == (placed.number, "ACKNOWLEDGED")


@pytest.mark.capability("c.credit")
async def test_a_customer_whose_credit_is_on_hold_neither_orders_nor_signs(
    orders: Service, desk: Any
) -> None:
    customer = await desk.account()
    body = {"account": customer, "currency": "CNY", "items": desk.lines(("1", "25.00"))}
    order, contract = (
        await orders.sales1.CreateOrder(order=body),
        await desk.contract(customer, lines=desk.lines(("1", "9.00"))),
    )
    profile = f"creditProfiles/{customer.partition('/')[2]}"

    async def tell(hold: bool) -> None:
        told = {"name": profile, "account": customer, "reason": "票据拒付" if hold else ""}
        await orders.tell("crm.customer.v1.CreditProfileChanged", {"profile": told, "hold": hold}, profile)

    async def refused() -> Any:
        async with orders.running.system_call("test", None) as call:
            try:
                await check_credit(customer, call)
            except FailedPrecondition as problem:
                return problem.reason
        return ""

    await tell(True)
    assert await orders.eventually(refused, 30) == "CREDIT_ON_HOLD"
    problem = await desk.refused(orders.sales1.SubmitOrder(name=order.name))
    assert (problem.reason, problem.info.metadata["reason"]) == ("CREDIT_ON_HOLD", "票据拒付")
    assert (await desk.refused(orders.sales1.SubmitContract(name=contract.name))).reason == "CREDIT_ON_HOLD"
    assert not (await orders.sales1.GetOrder(name=order.name)).number
    await tell(False)

    async def free() -> bool:
        return not await refused()

    await orders.eventually(free, 30)
    assert (await orders.sales1.SubmitOrder(name=order.name)).number
    assert (await orders.sales1.SubmitContract(name=contract.name)).number


async def test_an_order_without_items_is_not_placed(orders: Service, desk: Any) -> None:
    made = await orders.sales1.CreateOrder(order={"account": await desk.account(), "currency": "CNY"})
    assert (await desk.refused(orders.sales1.SubmitOrder(name=made.name))).reason == "ORDER_EMPTY"
    assert not (await orders.sales1.GetOrder(name=made.name)).number


async def test_a_draft_is_deleted_a_numbered_order_is_not_and_does_not_change(
    orders: Service, desk: Any
) -> None:
    placed = await desk.placed(await desk.account(), ("1", "10.00"))
    assert (
        await desk.refused(orders.manager.DeleteOrder(name=placed.name))
    ).reason == "NUMBERED_NOT_DELETABLE"
    change = {"order": {"name": placed.name, "items": desk.lines(("9", "10.00"))}, "updateMask": "items"}
    assert (await desk.refused(orders.sales1.UpdateOrder(**change))).reason == "ORDER_FROZEN"


async def test_a_client_does_not_write_counters(orders: Service, desk: Any) -> None:
    item = desk.lines(("1", "10.00"))[0] | {
        "delivered": "1",
        "invoiced": "1",
        "state": "COMPLETED",
        "gross": desk.cny("0.01"),
    }
    made = await orders.sales1.CreateOrder(
        order={"account": await desk.account(), "currency": "CNY", "items": [item]}
    )
    assert (made.items[0].delivered, made.items[0].invoiced, made.items[0].state) == ("0", "0", State.DRAFT)
    assert made.gross.amount == "11.30"


async def test_a_refused_cancellation_returns_to_the_state_it_came_from_also_the_second_time(
    orders: Service, desk: Any
) -> None:
    order = await desk.started(await desk.account(), ("1", "10.00"))
    sales, name = orders.sales1, order.name
    await sales.HoldOrder(name=name, reason=REASON)
    await sales.RequestCancelOrder(name=name, reason=REASON)
    assert (await sales.RefuseCancelOrder(name=name, reason="货已备好了")).state == State.HELD
    await sales.ResumeOrder(name=name)
    await sales.RequestCancelOrder(name=name, reason=REASON)
    assert (await sales.RefuseCancelOrder(name=name, reason="货已备好了")).state == State.IN_PROGRESS
    await sales.RequestCancelOrder(name=name, reason=REASON)
    assert (await desk.refused(sales.CancelOrder(name=name, reason=REASON))).reason == "ILLEGAL_TRANSITION"
    await sales.AcceptCancelOrder(name=name)
    done = await sales.FinishCancelOrder(name=name)
    assert (done.state, done.items[0].state) == (State.CANCELLED, State.CANCELLED)
    for verb in ("StartOrder", "ResumeOrder", "AcceptCancelOrder", "FinishCancelOrder"):
        assert (await desk.refused(getattr(sales, verb)(name=name))).reason == "ILLEGAL_TRANSITION"
    changes = await orders.facts("crm.orders.v1.OrderStateChanged", name)
    assert [change["to"] for change in changes][-2:] == ["ASSESSING_CANCELLATION", "PENDING_CANCELLATION"]
    assert len(await orders.facts("crm.orders.v1.OrderCancelled", name)) == 1


async def test_a_verb_that_needs_a_reason_says_so(orders: Service, desk: Any) -> None:
    order = await desk.started(await desk.account(), ("1", "10.00"))
    assert (
        await desk.refused(orders.sales1.HoldOrder(name=order.name, reason="等等"))
    ).reason == "REASON_REQUIRED"
    assert (await orders.sales1.GetOrder(name=order.name)) == order


async def test_an_order_takes_what_is_left_of_its_contract_and_never_twice(
    orders: Service, desk: Any
) -> None:
    customer = await desk.account()
    priced = desk.lines(("10", "100.00"), ("3", "33.33"))
    priced[0]["discount"] = desk.cny("50.00")
    contract = await desk.contract(customer, lines=priced)
    assert (
        await desk.refused(orders.sales1.CreateOrderFromContract(name=contract.name))
    ).reason == "CONTRACT_NOT_SIGNED"
    await orders.manager.ActivateContract(name=contract.name)
    first = desk.lines(("4", "100.00"))[0] | {"contractLine": "1"}
    part = {"account": customer, "currency": "CNY", "contract": contract.name, "items": [first]}
    await orders.sales1.CreateOrder(order=part)
    answers = await asyncio.gather(
        *(orders.sales1.CreateOrderFromContract(name=contract.name) for _ in range(4)), return_exceptions=True
    )
    (rest,) = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert [(i.description, i.quantity, i.contract_line) for i in rest.items] == [
        ("产品1", "6", "1"),
        ("产品2", "3", "2"),
    ]
    assert rest.items[0].discount.amount == "30.00"
    assert {answer.reason for answer in answers if isinstance(answer, BaseException)} == {
        "CONTRACT_FULLY_ORDERED"
    }  # type: ignore[union-attr]


async def test_a_whole_contract_becomes_an_order_equal_to_the_cent(orders: Service, desk: Any) -> None:
    customer = await desk.account()
    contract = await desk.contract(customer, lines=desk.lines(("3", "333.33"), ("7", "0.49"), rate="6"))
    await orders.manager.ActivateContract(name=contract.name)
    order = await orders.sales1.CreateOrderFromContract(name=contract.name)
    assert (order.net, order.tax, order.gross) == (contract.net, contract.tax, contract.gross)
    assert (order.contract, order.account, order.own_entity) == (contract.name, customer, contract.own_entity)


async def test_a_lump_sum_contract_becomes_an_order_of_one_item_once(orders: Service, desk: Any) -> None:
    contract = await desk.contract(await desk.account(), gross=desk.cny("113.00"), tax=desk.cny("13.00"))
    await orders.manager.ActivateContract(name=contract.name)
    order = await orders.sales1.CreateOrderFromContract(name=contract.name)
    assert (order.gross.amount, len(order.items)) == ("113.00", 1)
    assert (
        await desk.refused(orders.sales1.CreateOrderFromContract(name=contract.name))
    ).reason == "CONTRACT_FULLY_ORDERED"


async def test_an_order_follows_its_contract_in_account_and_currency(orders: Service, desk: Any) -> None:
    contract = await desk.contract(await desk.account(), gross=desk.cny("100.00"))
    await orders.manager.ActivateContract(name=contract.name)
    other = {"account": await desk.account("另一家"), "currency": "CNY", "contract": contract.name}
    assert (await desk.refused(orders.sales1.CreateOrder(order=other))).reason == "ACCOUNT_MISMATCH"
    foreign = {"account": contract.account, "currency": "USD", "contract": contract.name}
    assert (await desk.refused(orders.sales1.CreateOrder(order=foreign))).reason == "CURRENCY_MISMATCH"


@pytest.mark.parametrize("person", ["sales2"])
async def test_another_persons_order_does_not_exist(orders: Service, desk: Any, person: str) -> None:
    order = await desk.placed(await desk.account(), ("1", "10.00"))
    assert (await desk.refused(orders.client(person).StartOrder(name=order.name))).reason == "NOT_FOUND"
