"""Deliveries through the front door."""

import asyncio
from typing import Any

import pytest
from crm.orders.v1 import pb
from crmkit.testing import Service

Order, Delivery = pb.Order, pb.Delivery


async def test_thirty_and_seventy_of_a_hundred_are_full_and_one_more_is_too_many(
    orders: Service, desk: Any
) -> None:
    customer = await desk.account()
    order = await desk.started(customer, ("100", "1.00"))
    first = await desk.delivered(customer, (order.name, "1", "30"))
    assert (first.state, first.number[:6], first.carrier) == (Delivery.DELIVERED, "SH2026", "顺丰")
    half = await orders.sales1.GetOrder(name=order.name)
    assert (half.delivery_state, half.items[0].delivered, half.state) == (
        Order.PARTLY,
        "30",
        Order.IN_PROGRESS,
    )
    over = await desk.note(customer, (order.name, "1", "70.002"))
    problem = await desk.refused(orders.manager.ReadyDelivery(name=over.name))
    assert (problem.reason, problem.info.metadata["left"]) == ("OVER_DELIVERY", "70")
    await desk.delivered(customer, (order.name, "1", "70"))
    full = await orders.sales1.GetOrder(name=order.name)
    assert (full.delivery_state, full.state, full.items[0].state) == (
        Order.FULL,
        Order.COMPLETED,
        Order.COMPLETED,
    )
    assert len(await orders.facts("crm.orders.v1.OrderCompleted", order.name)) == 1
    one = await desk.note(customer, (order.name, "1", "1"))
    assert (await desk.refused(orders.manager.ReadyDelivery(name=one.name))).reason == "ORDER_NOT_DELIVERABLE"


async def test_an_order_is_full_by_quantity_never_by_percentage(orders: Service, desk: Any) -> None:
    customer = await desk.account()
    order = await desk.started(customer, ("10000", "1.00"))
    await desk.delivered(customer, (order.name, "1", "9999.96"))
    assert (await orders.sales1.GetOrder(name=order.name)).delivery_state == Order.PARTLY


async def test_of_two_notes_for_the_last_ten_one_is_ready(orders: Service, desk: Any) -> None:
    customer = await desk.account()
    order = await desk.started(customer, ("10", "1.00"))
    notes = [await desk.note(customer, (order.name, "1", "10")) for _ in range(2)]
    answers = await asyncio.gather(
        *(orders.manager.ReadyDelivery(name=n.name) for n in notes), return_exceptions=True
    )
    assert sorted(
        getattr(answer, "reason", "") for answer in answers if isinstance(answer, BaseException)
    ) == ["OVER_DELIVERY"]
    cancelled = next(answer for answer in answers if not isinstance(answer, BaseException))
    await orders.manager.CancelDelivery(name=cancelled.name, reason="车辆坏了，改期")
    other = next(note for note in notes if note.name != cancelled.name)
    assert (await orders.manager.ReadyDelivery(name=other.name)).state == Delivery.READY


async def test_a_note_takes_several_orders_of_one_customer_and_none_of_another(
    orders: Service, desk: Any
) -> None:
    customer, stranger = await desk.account(), await desk.account("另一家")
    one, two = await desk.started(customer, ("5", "1.00")), await desk.started(customer, ("5", "1.00"))
    foreign = await desk.started(stranger, ("5", "1.00"))
    mixed = await desk.note(customer, (one.name, "1", "5"), (foreign.name, "1", "5"))
    assert (
        await desk.refused(orders.manager.ReadyDelivery(name=mixed.name))
    ).reason == "DELIVERY_MIXED_ACCOUNTS"
    done = await desk.delivered(customer, (one.name, "1", "5"), (two.name, "1", "5"))
    (fact,) = await orders.facts("crm.orders.v1.DeliveryConfirmed", done.name)
    assert {order["name"] for order in fact["orders"]} == {one.name, two.name}
    assert fact["value"] == {"currencyCode": "CNY", "amount": "11.30"}


async def test_what_was_refused_at_the_door_can_be_delivered_again(orders: Service, desk: Any) -> None:
    customer = await desk.account()
    order = await desk.started(customer, ("10", "1.00"), ("2", "5.00"))
    too_many = [{"line": 1, "accepted": "8", "refused": "3"}]
    note = await desk.note(customer, (order.name, "1", "10"), (order.name, "2", "2"))
    await orders.manager.ReadyDelivery(name=note.name)
    call = orders.manager.ConfirmDelivery(name=note.name)
    assert (await desk.refused(call)).reason == "ILLEGAL_TRANSITION"
    await orders.manager.ShipDelivery(name=note.name)
    call = orders.manager.ConfirmDelivery(name=note.name, received=too_many)
    assert (await desk.refused(call)).reason == "RECEIVED_EXCEEDS_SHIPPED"
    assert (
        await desk.refused(orders.manager.CancelDelivery(name=note.name, reason="客户要求取消"))
    ).reason == "DELIVERY_SHIPPED"
    received = [{"line": 1, "accepted": "8", "refusalReason": "外箱破损"}]
    done = await orders.manager.ConfirmDelivery(name=note.name, received=received, signatory="钱进")
    assert (done.state, done.lines[0].refused, done.lines[1].accepted) == (
        Delivery.PARTLY_DELIVERED,
        "2",
        "2",
    )
    now = await orders.sales1.GetOrder(name=order.name)
    assert [(item.prepared, item.delivered) for item in now.items] == [("0", "8"), ("0", "2")]
    assert (now.delivery_state, now.state) == (Order.PARTLY, Order.IN_PROGRESS)
    await desk.delivered(customer, (order.name, "1", "2"))
    assert (await orders.sales1.GetOrder(name=order.name)).state == Order.COMPLETED


async def test_the_address_of_a_note_stays_what_it_was(orders: Service, desk: Any) -> None:
    customer = await desk.account()
    order = await desk.started(customer, ("2", "1.00"), shipTo={"line": "延安西路 1 号"})
    note = await desk.note(customer, (order.name, "1", "1"))
    other = await desk.note(customer, (order.name, "1", "1"))
    change = {"delivery": {"name": other.name, "shipTo": {"line": "人民路 2 号"}}, "updateMask": "shipTo"}
    await orders.manager.UpdateDelivery(**change)
    assert (await orders.manager.GetDelivery(name=note.name)).ship_to.line == "延安西路 1 号"
    assert (await orders.sales1.GetOrder(name=order.name)).ship_to.line == "延安西路 1 号"
    await orders.manager.ReadyDelivery(name=other.name)
    again = {"delivery": {"name": other.name, "shipTo": {"line": "南京路 3 号"}}, "updateMask": "shipTo"}
    assert (await desk.refused(orders.manager.UpdateDelivery(**again))).reason == "DELIVERY_FROZEN"


async def test_a_held_order_that_is_delivered_meanwhile_ends_when_it_goes_on(
    orders: Service, desk: Any
) -> None:
    customer = await desk.account()
    order = await desk.started(customer, ("1", "1.00"))
    note = await desk.note(customer, (order.name, "1", "1"))
    await orders.manager.ReadyDelivery(name=note.name)
    await orders.manager.ShipDelivery(name=note.name)
    await orders.sales1.HoldOrder(name=order.name, reason="等待客户付款")
    await orders.manager.ConfirmDelivery(name=note.name)
    held = await orders.sales1.GetOrder(name=order.name)
    assert (held.state, held.delivery_state) == (Order.HELD, Order.FULL)
    assert (await orders.sales1.ResumeOrder(name=order.name)).state == Order.COMPLETED


async def test_goods_that_were_all_refused_leave_the_order_as_it_was(orders: Service, desk: Any) -> None:
    customer = await desk.account()
    order = await desk.started(customer, ("3", "0.00"))
    done = await desk.delivered(customer, (order.name, "1", "3"), received=[{"line": 1, "accepted": "0"}])
    assert (done.state, done.lines[0].refused) == (Delivery.REFUSED, "3")
    assert (await orders.sales1.GetOrder(name=order.name)).delivery_state == Order.NONE


@pytest.mark.parametrize(
    ("item", "quantity", "reason"),
    [("9", "1", "UNKNOWN_ITEM"), ("1", "0", "TOO_SMALL"), ("1", "-1", "TOO_SMALL")],
)
async def test_a_line_that_the_order_has_not_is_refused(
    orders: Service, desk: Any, item: str, quantity: str, reason: str
) -> None:
    customer = await desk.account()
    order = await desk.started(customer, ("1", "1.00"))
    problem = await desk.refused(desk.note(customer, (order.name, item, quantity)))
    assert reason in problem.violations.values()
