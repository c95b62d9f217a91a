"""The delivery note: what goes out on orders of one customer."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from crm.orders.v1 import events_pb2 as events
from crm.orders.v1 import pb
from crmkit.amounts import number, plain, titled
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, NotFound, Validation, Violation, check_frozen, check_reason
from crmkit.resource import Resource
from crmkit.values import Money
from orders.model.base import Base
from orders.model.contract import Contract
from orders.model.order import Order
from sqlalchemy.orm import Mapped

PICKED_CONTENT = frozenset(["account", "lines", "ship_to", "kind"])
UNDER_WAY = ("SHIPPED", "DELIVERED", "PARTLY_DELIVERED", "REFUSED")


class Delivery(Resource, Base):
    """A delivery note. It takes quantities of orders when it is ready, and gives back what was refused."""

    __message__ = pb.Delivery

    display_name: Mapped[str]
    kind: Mapped[str]
    account: Mapped[str]
    lines: Mapped[Any]
    ship_to: Mapped[Any]
    carrier: Mapped[str]
    tracking: Mapped[str]
    signatory: Mapped[str]
    signed_time: Mapped[datetime | None]
    ship_time: Mapped[datetime | None]
    state: Mapped[str]
    reason: Mapped[str]

    async def creating(self, call: Call) -> None:
        """A new note is a draft."""
        self.state, self.kind = "DRAFT", self.kind or "SHIP"
        await self.complete(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """What was picked does not change."""
        if self.state != "DRAFT":
            check_frozen("DELIVERY_FROZEN", changed & PICKED_CONTENT)
        elif changed & PICKED_CONTENT:
            await self.complete(call)

    async def deleting(self, call: Call) -> None:
        """What has a number stays."""
        if self.number:
            raise FailedPrecondition("NUMBERED_NOT_DELETABLE")

    async def complete(self, call: Call) -> None:
        """Copies what the lines are, and where they go, from the orders: later changes there change nothing here."""
        violations: list[Violation] = []
        lines = list[Any]()
        orders = {
            name: await _visible(name, call) for name in dict.fromkeys(line.order for line in self.lines)
        }
        for index, line in enumerate(self.lines):
            path, order = f"delivery.lines[{index}]", orders[line.order]
            item = order.item(line.item) if order is not None else None
            if item is None:
                unknown = Violation(
                    f"{path}.item", "UNKNOWN_ITEM", "订单没有此明细", "The order has no such item."
                )
                violations.append(unknown)
            elif number(line.quantity) <= 0:
                small = Violation(
                    f"{path}.quantity", "TOO_SMALL", "数量必须大于零", "The quantity must be above zero."
                )
                violations.append(small)
            else:
                copy = pb.Delivery.Line(
                    order=line.order, item=line.item, quantity=line.quantity, packages=line.packages,
                    description=item.description, unit=item.unit,
                )  # fmt: skip
                lines.append(copy)
        if violations:
            raise Validation(*violations)
        self.lines = lines
        first = orders[lines[0].order] if lines else None
        if self.ship_to is None and first is not None:
            self.ship_to = getattr(first, "ship_to")  # noqa: B009  # a column that only this copies
        if not self.display_name:
            self.display_name = await titled(self.account, lines, call)

    async def ready(self, call: Call) -> None:
        """Takes the quantities of the orders, never more than is left, and draws the number."""
        self.check_state("DRAFT")
        orders = await self._lock_orders(call)
        for order in orders.values():
            if order.account != self.account:
                raise FailedPrecondition("DELIVERY_MIXED_ACCOUNTS")
            if order.state != "IN_PROGRESS":
                raise FailedPrecondition(
                    "ORDER_NOT_DELIVERABLE", order=order.number or order.name, state=order.state
                )
        for name, taken in self._by_order((line, number(line.quantity)) for line in self.lines).items():
            for key, quantity in taken.items():
                item = orders[name].item(key)
                left = number(item.quantity) - number(item.prepared) - number(item.delivered)
                if quantity > left:
                    raise FailedPrecondition(
                        "OVER_DELIVERY", item=item.description, left=plain(left), quantity=plain(quantity)
                    )
            orders[name].count([(key, quantity, Decimal(0)) for key, quantity in taken.items()], call)
        await call.number(self)
        self.state = "READY"

    def ship(self, carrier: str, tracking: str, call: Call) -> None:
        """Sends it off."""
        self.check_state("READY")
        self.carrier, self.tracking = carrier or self.carrier, tracking or self.tracking
        self.state, self.ship_time = "SHIPPED", call.now
        call.emit(events.DeliveryShipped, delivery=self)

    async def confirm(
        self, received: Sequence[Any], signatory: str, signed_time: datetime | None, call: Call
    ) -> None:
        """What the customer took and refused. Lines that are not named were accepted whole."""
        self.check_state("SHIPPED")
        orders = await self._lock_orders(call)
        self.lines = self._received(received)
        for name, shipped in self._by_order((line, number(line.quantity)) for line in self.lines).items():
            accepted = self._by_order((line, number(line.accepted)) for line in self.lines)[name]
            orders[name].count([(key, -quantity, accepted[key]) for key, quantity in shipped.items()], call)
        accepted_all = sum(number(line.accepted) for line in self.lines)
        whole = all(number(line.accepted) == number(line.quantity) for line in self.lines)
        self.state = "DELIVERED" if whole else "PARTLY_DELIVERED" if accepted_all else "REFUSED"
        self.signatory, self.signed_time = signatory, signed_time or call.now
        contracts = dict[str, Contract]()
        for order in orders.values():
            if order.contract and order.contract not in contracts:
                found = await call.named(Contract, order.contract)
                if found is not None:
                    contracts[order.contract] = found
        call.emit(
            events.DeliveryConfirmed, delivery=self, orders=list(orders.values()), contracts=list(contracts.values()),
            value=value_accepted(self.lines, orders),
        )  # fmt: skip

    async def cancel(self, reason: str, call: Call) -> None:
        """Drops a note that has not left; what it took is free again."""
        if self.state in UNDER_WAY:
            raise FailedPrecondition("DELIVERY_SHIPPED")
        self.check_state("DRAFT", "READY")
        self.reason = check_reason(reason)
        if self.state == "READY":
            orders = await self._lock_orders(call)
            for name, taken in self._by_order((line, number(line.quantity)) for line in self.lines).items():
                orders[name].count([(key, -quantity, Decimal(0)) for key, quantity in taken.items()], call)
        self.state = "CANCELLED"

    def _received(self, received: Sequence[Any]) -> list[Any]:
        told = {one.line: one for one in received}
        violations = [
            Violation(
                f"received[{i}].line", "UNKNOWN_LINE", "送货单没有此行", "The delivery has no such line."
            )
            for i, one in enumerate(received)
            if not 1 <= one.line <= len(self.lines)
        ]
        if violations:
            raise Validation(*violations)
        lines = list[Any]()
        for index, line in enumerate(self.lines, start=1):
            one, shipped = told.get(index), number(line.quantity)
            accepted = number(one.accepted) if one is not None else shipped
            refused = (
                number(one.refused)
                if one is not None and one.refused
                else max(shipped - accepted, Decimal(0))
            )
            if accepted + refused > shipped:
                raise FailedPrecondition("RECEIVED_EXCEEDS_SHIPPED", line=index, shipped=plain(shipped))
            copy = pb.Delivery.Line()
            copy.CopyFrom(line)
            copy.accepted, copy.refused = plain(accepted), plain(refused)
            copy.refusal_reason = one.refusal_reason if one is not None else ""
            lines.append(copy)
        return lines

    async def _lock_orders(self, call: Call) -> dict[str, Order]:
        """The orders on the note, locked in one order so that two notes cannot wait for each other."""
        return {name: await call.load(Order, name) for name in sorted({line.order for line in self.lines})}

    def _by_order(self, quantities: Iterable[tuple[Any, Decimal]]) -> dict[str, dict[str, Decimal]]:
        found: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        for line, quantity in quantities:
            found[line.order][line.item] += quantity
        return found


def value_accepted(lines: Iterable[Any], orders: dict[str, Order]) -> Money | None:
    """Value of what was accepted, with tax; None where the orders have several currencies."""
    currencies = {order.currency for order in orders.values()}
    if len(currencies) != 1:
        return None
    total = Decimal(0)
    for line in lines:
        item = orders[line.order].item(line.item)
        total += number(item.gross.amount) * number(line.accepted) / number(item.quantity)
    return Money(total, currencies.pop()).rounded()


async def _visible(name: str, call: Call) -> Order | None:
    try:
        return await call.load(Order, name, lock=False)
    except NotFound:
        return None
