"""The order: what a customer wants, made, delivered, invoiced and paid."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from crm.orders.v1 import events_pb2 as events
from crm.orders.v1 import pb
from crmkit.amounts import check_currency, number, plain, price_lines, titled
from crmkit.call import Call
from crmkit.company import legal_entity, today
from crmkit.errors import (
    FailedPrecondition,
    InvalidArgument,
    Validation,
    Violation,
    check_frozen,
    check_reason,
)
from crmkit.resource import Resource
from crmkit.values import Money, zero
from orders.model.base import Base
from orders.model.contract import Contract
from orders.model.credit import check_credit
from orders.model.partnership import agreement_with
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

ORDERED_CONTENT = frozenset(
    {
        "account", "contract", "opportunity", "quote", "own_entity", "currency", "items", "ship_to", "payment_terms",
        "customer_order_no", "channel_partner", "invoicing",
    }
)  # fmt: skip
# The machine of a product order: 19 moves, every other is refused.
MOVES = frozenset(
    {
        ("ACKNOWLEDGED", "IN_PROGRESS"), ("ACKNOWLEDGED", "PENDING"),
        ("IN_PROGRESS", "PENDING"), ("PENDING", "IN_PROGRESS"),
        ("IN_PROGRESS", "HELD"), ("HELD", "IN_PROGRESS"),
        ("IN_PROGRESS", "ASSESSING_CANCELLATION"), ("PENDING", "ASSESSING_CANCELLATION"), ("HELD", "ASSESSING_CANCELLATION"),
        ("ASSESSING_CANCELLATION", "IN_PROGRESS"), ("ASSESSING_CANCELLATION", "PENDING"), ("ASSESSING_CANCELLATION", "HELD"),
        ("ASSESSING_CANCELLATION", "PENDING_CANCELLATION"), ("PENDING_CANCELLATION", "CANCELLED"),
        ("PENDING", "CANCELLED"), ("HELD", "CANCELLED"),
        ("IN_PROGRESS", "COMPLETED"), ("IN_PROGRESS", "FAILED"), ("IN_PROGRESS", "PARTIAL"),
    }
)  # fmt: skip
FINAL = frozenset({"REJECTED", "COMPLETED", "FAILED", "PARTIAL", "CANCELLED"})
DROPPED = ("CANCELLED", "REJECTED", "FAILED")
DEFAULT_PRIORITY = 2


class Order(Resource, Base):
    """An order. Its items run the same machine; from `submit` on its content is frozen."""

    __message__ = pb.Order
    keeps_personal = True
    __table_args__ = (
        # One draft of an accepted quote, however often the fact arrives.
        Index("orders_partner_index", "channel_partner", postgresql_where=text("channel_partner <> ''")),
        Index("orders_source_key", "source", unique=True, postgresql_where=text("source <> ''")),
    )

    display_name: Mapped[str]
    account: Mapped[str]
    contact: Mapped[str]
    contract: Mapped[str]
    opportunity: Mapped[str]
    quote: Mapped[str]
    channel: Mapped[str]
    channel_partner: Mapped[str]
    agreement: Mapped[str]
    own_entity: Mapped[str]
    currency: Mapped[str]
    items: Mapped[Any]
    payment_terms: Mapped[str]
    invoicing: Mapped[str]
    priority: Mapped[int]
    net: Mapped[Money]
    tax: Mapped[Money]
    gross: Mapped[Money]
    state: Mapped[str]
    state_before: Mapped[str]
    delivery_state: Mapped[str]
    invoice_state: Mapped[str]
    payment_state: Mapped[str]
    invoiced: Mapped[Money]
    collected: Mapped[Money]
    place_time: Mapped[datetime | None]
    reason: Mapped[str]
    source: Mapped[str]

    async def creating(self, call: Call) -> None:
        """A new order is a draft; with a contract and no items it takes what is left of the contract."""
        self.source = getattr(self, "source", None) or ""
        self.state = "DRAFT"
        self.delivery_state = self.invoice_state = "NONE"
        self.payment_state = "UNPAID"
        self.invoicing = self.invoicing or "DELIVERED"
        # What was agreed while the agreement was in force goes on: an accepted quote, a contract.
        goes_on = bool(self.source)
        if self.contract:
            goes_on = await self._follow_contract(call) or goes_on
        await self._come_by_partner(call, goes_on)
        self.own_entity = self.own_entity or legal_entity(self.department, call)
        self.invoiced = self.collected = zero(self.currency)
        await self.complete(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Content changes in the draft alone."""
        if self.state != "DRAFT":
            check_frozen("ORDER_FROZEN", changed & ORDERED_CONTENT)
        elif changed & ORDERED_CONTENT:
            if "channel_partner" in changed:
                await self._come_by_partner(call, goes_on=False)
            await self.complete(call)

    async def deleting(self, call: Call) -> None:
        """What has a number stays."""
        if self.number:
            raise FailedPrecondition("NUMBERED_NOT_DELETABLE")

    async def complete(self, call: Call) -> None:
        """Computes the amounts; counters of a draft are nothing."""
        check_currency(self.currency, "order.currency")
        if self.contract:
            await self._check_against(await call.load(Contract, self.contract, lock=False))
        items, total = price_lines(self.items, self.currency, "order.items")
        for item in items:
            item.prepared = item.delivered = item.invoiced = "0"
            item.state = pb.Order.DRAFT
        self.items, self.net, self.tax, self.gross = items, total.net, total.tax, total.gross
        if not self.display_name:
            self.display_name = await titled(self.account, items, call)

    async def _check_against(self, contract: Contract) -> None:
        if contract.account != self.account:
            raise FailedPrecondition("ACCOUNT_MISMATCH")
        if contract.currency != self.currency:
            raise InvalidArgument("CURRENCY_MISMATCH", expected=contract.currency, found=self.currency)

    async def _follow_contract(self, call: Call) -> bool:
        """Takes parties and, where it has no items yet, what is left of the lines. Two at once wait for each other.

        Tells whether the contract came by a partner.
        """
        contract = await call.load(Contract, self.contract)
        contract.check_orderable()
        await self._check_against(contract)
        self.own_entity = self.own_entity or contract.own_entity
        self.contact = self.contact or contract.contact
        self.quote, self.opportunity = self.quote or contract.quote, self.opportunity or contract.opportunity
        self.channel_partner = contract.channel_partner or self.channel_partner
        if not self.items:
            self.items = await remaining_items(contract, call)
        return bool(contract.channel_partner)

    async def _come_by_partner(self, call: Call, goes_on: bool) -> None:
        """Whoever brings something new needs an agreement in force."""
        agreement = await agreement_with(self.channel_partner, call)
        if agreement is not None and not goes_on and not agreement.in_force(today(call)):
            raise FailedPrecondition("PARTNER_NO_AGREEMENT")
        self.agreement = agreement.name if agreement is not None else ""
        if self.channel_partner:
            self.channel = self.channel or "AGENT"

    async def submit(self, call: Call) -> None:
        """Places the order and gives it its number."""
        self.check_state("DRAFT")
        if not self.items:
            raise FailedPrecondition("ORDER_EMPTY")
        await check_credit(self.account, call)
        contract = await call.load(Contract, self.contract, lock=False) if self.contract else None
        if contract is not None:
            contract.check_orderable()
        await call.number(self)
        self.state, self.place_time = "ACKNOWLEDGED", call.now
        self._items_follow()
        call.emit(events.OrderPlaced, order=self, contract=contract)

    def move(self, to: str, call: Call, reason: str = "") -> None:
        """One of the 19 moves, with exactly one fact; every other is refused."""
        before = self.state
        if (before, to) not in MOVES:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=before)
        self.state = to
        if reason:
            self.reason = reason
        self._items_follow()
        match to:
            case "COMPLETED":
                call.emit(events.OrderCompleted, order=self)
            case "CANCELLED":
                call.emit(events.OrderCancelled, order=self, reason=self.reason)
            case _:
                call.emit(events.OrderStateChanged, order=self, to=to, **{"from": before})

    def go_on(self, call: Call) -> None:
        """Back to work; ends at once where everything was delivered meanwhile."""
        self.move("IN_PROGRESS", call)
        self.settle(call)

    def wait(self, reason: str, call: Call) -> None:
        """Waits for something from outside."""
        self.move("PENDING", call, check_reason(reason))

    def hold(self, reason: str, call: Call) -> None:
        """Held by us."""
        self.move("HELD", call, check_reason(reason))

    def resume(self, call: Call) -> None:
        """A waiting or held order goes on."""
        self.check_state("PENDING", "HELD")
        self.go_on(call)

    def start(self, call: Call) -> None:
        """Work begins."""
        self.check_state("ACKNOWLEDGED")
        self.go_on(call)

    def request_cancel(self, reason: str, call: Call) -> None:
        """A cancellation was asked for; where the order came from is remembered."""
        before = self.state
        self.move("ASSESSING_CANCELLATION", call, check_reason(reason))
        self.state_before = before

    def refuse_cancel(self, reason: str, call: Call) -> None:
        """Back to exactly the state of origin."""
        self.check_state("ASSESSING_CANCELLATION")
        self.move(self.state_before, call, check_reason(reason))
        self.settle(call)

    def accept_cancel(self, call: Call) -> None:
        """The cancellation is granted."""
        self.check_state("ASSESSING_CANCELLATION")
        self.move("PENDING_CANCELLATION", call)

    def finish_cancel(self, call: Call) -> None:
        """Everything is undone."""
        self.check_state("PENDING_CANCELLATION")
        self.move("CANCELLED", call)

    def cancel(self, reason: str, call: Call) -> None:
        """Cancels a waiting or held order at once."""
        self.check_state("PENDING", "HELD")
        self.move("CANCELLED", call, check_reason(reason))

    def item(self, key: str) -> Any:
        """The item with the key; None if there is none."""
        return next((item for item in self.items if item.key == key), None)

    def count(self, changes: Iterable[tuple[str, Decimal, Decimal]], call: Call) -> None:
        """Adds to the counters of items: key, prepared, delivered; then state and delivery state follow."""
        items = _copies(self.items)
        by_key = {item.key: item for item in items}
        for key, prepared, delivered in changes:
            item = by_key[key]
            item.prepared = plain(number(item.prepared) + prepared)
            item.delivered = plain(number(item.delivered) + delivered)
        self.items = items
        done = [number(item.delivered) for item in items]
        full = all(d >= number(item.quantity) for item, d in zip(items, done, strict=True))
        self.delivery_state = "FULL" if full else "PARTLY" if any(done) else "NONE"
        self.settle(call)

    def settle(self, call: Call) -> None:
        """Items that are delivered whole are completed; the order when all are."""
        if self.state != "IN_PROGRESS":
            return
        items = _copies(self.items)
        for item in items:
            if number(item.delivered) >= number(item.quantity):
                item.state = pb.Order.COMPLETED
        self.items = items
        if items and all(item.state == pb.Order.COMPLETED for item in items):
            self.move("COMPLETED", call)

    def _items_follow(self) -> None:
        items = _copies(self.items)
        for item in items:
            if pb.Order.State.Name(item.state) not in FINAL:
                item.state = pb.Order.State.Value(self.state)
        self.items = items


async def remaining_items(contract: Contract, call: Call) -> list[Any]:
    """What no order of the contract has taken yet. CONTRACT_FULLY_ORDERED where nothing is left."""
    statement = select(Order).where(Order.contract == contract.name, Order.state.not_in(DROPPED))
    taken: dict[str, Decimal] = {}
    async with call.everybody():
        for order in await call.db.scalars(statement):
            for item in order.items:
                taken[item.contract_line] = taken.get(item.contract_line, Decimal(0)) + number(item.quantity)
    items = list[Any]()
    for line in contract.lines:
        ordered, quantity = taken.get(line.key, Decimal(0)), number(line.quantity)
        if ordered < quantity:
            items.append(_item_of(line, quantity - ordered, whole=not ordered))
    if not items and contract.lines:
        raise FailedPrecondition("CONTRACT_FULLY_ORDERED")
    if not items and taken:
        raise FailedPrecondition("CONTRACT_FULLY_ORDERED")
    return items or [_item_of_sum(contract)]


def _item_of(line: Any, quantity: Decimal, whole: bool) -> Any:
    """The contract's line as item. The rest of a line takes its share of the line's discount."""
    item = pb.Order.Item(
        product=line.product, description=line.description, specification=line.specification, quantity=plain(quantity),
        unit=line.unit, unit_price=line.unit_price, tax_rate=line.tax_rate, contract_line=line.key, quote_line=line.quote_line,
    )  # fmt: skip
    discount = Money.parse(line.discount)
    if discount is not None:
        share = discount if whole else (discount * (quantity / number(line.quantity))).rounded()
        item.discount.CopyFrom(share.message())
    return item


def _item_of_sum(contract: Contract) -> Any:
    """The one item of a contract that has an amount and no lines."""
    if contract.net is None or contract.tax is None or not contract.net:
        raise Validation(Violation("order.items", "REQUIRED", "必填", "This field is required."))
    rate = contract.tax.amount / contract.net.amount * 100
    item = pb.Order.Item(description=contract.display_name, quantity="1", tax_rate=plain(round(rate, 6)))
    item.unit_price.CopyFrom(contract.net.message())
    return item


def _copies(items: Iterable[Any]) -> list[Any]:
    copies = list[Any]()
    for item in items:
        copy = pb.Order.Item()
        copy.CopyFrom(item)
        copies.append(copy)
    return copies
