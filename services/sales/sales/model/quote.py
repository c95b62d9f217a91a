"""The quote: one version of what we offer."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED, check_currency
from crmkit.call import Call, changed_fields
from crmkit.company import today
from crmkit.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Validation, Violation
from crmkit.listing import ZONE
from crmkit.mapping import to_timestamp
from crmkit.numbering import draw
from crmkit.resource import Resource
from crmkit.values import Money, zero
from google.protobuf import json_format
from sales.model.base import HANDOVER, Base
from sales.model.opportunity import Opportunity, works_at
from sales.model.partnership import check_agreement
from sales.model.quote_pricing import price, write
from sales.model.quote_records import keep, remember_sale, reserve_budgets
from sqlalchemy import Index, inspect, select, text
from sqlalchemy.orm import Mapped

ACCEPTABLE = ("APPROVED", "SENT")
# What a version keeps of the one that it was copied from.
_COPIED = (
    "display_name",
    "account",
    "contact",
    "opportunity",
    "channel",
    "currency",
    "terms",
    "valid_until_date",
    "channel_partner",
    "coupons",
    "order_discount",
    "order_discount_percent",
)
# What bears on prices.
_PRICED = frozenset(
    ["lines", "currency", "account", "channel", "channel_partner", "coupons", "order_discount", "order_discount_percent"]
)  # fmt: skip
FREE_TEXT = "sales.quotes.free_text"
# What the customer sees of a line.
_SHOWN = frozenset(
    [
        "key", "product", "bundle", "choices", "freeWith", "description", "quantity", "unit", "unitListPrice",
        "discountPercent", "taxRate", "netAmount", "taxAmount",
    ]
)  # fmt: skip


class Quote(Resource, Base):
    """One version of a quotation. Only a draft changes; at most one version can be accepted (QV-1, QV-2)."""

    __message__ = pb.Quote
    __table_args__ = (
        Index("quotes_one_draft_key", "root", unique=True, postgresql_where=text("state = 'DRAFT'")),
        Index(
            "quotes_one_acceptable_key",
            "root",
            unique=True,
            postgresql_where=text("state IN ('APPROVED', 'SENT')"),
        ),
        Index("quotes_one_accepted_key", "root", unique=True, postgresql_where=text("state = 'ACCEPTED'")),
        Index("quotes_root_version_key", "root", "version_number", unique=True),
        Index("quotes_partner_index", "channel_partner", postgresql_where=text("channel_partner <> ''")),
        Index("quotes_unprinted_index", "id", postgresql_where=text("pdf = '' AND state <> 'DRAFT'")),
    )

    display_name: Mapped[str]
    account: Mapped[str]
    contact: Mapped[str]
    opportunity: Mapped[str]
    channel: Mapped[str]
    currency: Mapped[str]
    version_number: Mapped[int]
    root: Mapped[str]
    lines: Mapped[Any]
    terms: Mapped[str]
    valid_until_date: Mapped[date | None]
    channel_partner: Mapped[str]
    price_book: Mapped[str]
    paid_total: Mapped[Money | None]
    coupons: Mapped[list[str]]
    order_discount: Mapped[Money | None]
    order_discount_percent: Mapped[Decimal | None]
    grounds: Mapped[Any]
    line_costs: Mapped[Any]
    hints: Mapped[Any]
    cash_terms: Mapped[Any]
    over_limit: Mapped[bool]
    engine_version: Mapped[int]
    price_date: Mapped[date | None]
    copied_from: Mapped[str]
    pdf: Mapped[str]
    list_total: Mapped[Money | None]
    discount_total: Mapped[Money | None]
    net_total: Mapped[Money | None]
    tax_total: Mapped[Money | None]
    gross_total: Mapped[Money | None]
    max_discount_percent: Mapped[Decimal | None]
    below_floor: Mapped[bool]
    margin_percent: Mapped[Decimal | None]
    digest: Mapped[str]
    origin: Mapped[Any]
    send_time: Mapped[datetime | None]
    shown_to: Mapped[str]
    acceptance: Mapped[Any]
    end_reason: Mapped[str]
    state: Mapped[str]

    # True for a copy to reckon with, which nobody stores.
    transient = False
    # What a version or a copy keeps of the one that it was made of.
    keeps: Collection[str] = ()

    async def creating(self, call: Call) -> None:
        """Completes and prices the version."""
        check_currency(self.currency, "quote.currency")
        if not self.root:
            self.root, self.version_number = self.name, 1
            self.number = f"{await draw(call, self.described, self, department=self.department)}-V1"
            self._check_free_text(call)
            await self._check_contact(call)
            await check_agreement(self.channel_partner, call)
        await self.complete(call)

    async def complete(self, call: Call) -> None:
        """Settles what a client leaves open, and prices."""
        self.state = "DRAFT"
        self.channel = self.channel or "DIRECT"
        await self._bind(call)
        await self.price(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only a draft changes; what bears on the price is priced anew."""
        if changed <= HANDOVER:
            return
        if self.state != "DRAFT":
            raise FailedPrecondition("QUOTE_FROZEN")
        if changed & {"account", "opportunity"}:
            await self._bind(call)
        if changed & {"account", "contact"}:
            await self._check_contact(call)
        check_currency(self.currency, "quote.currency")
        if "lines" in changed:
            self._check_free_text(call)
        if changed & _PRICED:
            await self.price(call)
        self.digest = self._digest()

    async def deleting(self, call: Call) -> None:
        """A number that the customer may have seen stays."""
        if self.state != "DRAFT":
            raise FailedPrecondition("QUOTE_FROZEN")

    async def price(self, call: Call) -> None:
        """Prices every line by the books and policies in force today and sums up."""
        if self.state != "DRAFT":
            raise FailedPrecondition("QUOTE_FROZEN")
        if self.order_discount is not None and self.order_discount.currency != self.currency:
            raise InvalidArgument(
                "CURRENCY_MISMATCH", expected=self.currency, found=self.order_discount.currency
            )
        if (self.order_discount_percent or 0) > HUNDRED:
            raise Validation(
                Violation("quote.order_discount_percent", "TOO_LARGE", "不能大于 100", "At most 100.")
            )
        pricing = await price(self, call)
        write(self, pricing)
        self.over_limit = pricing.over_limit(call)
        self.digest = self._digest()
        if not self.transient:
            call.after_flush(lambda: keep(self, pricing, call))

    def offered_before(self) -> Collection[str]:
        """Products and bundles that it offered before the call: what has left the sale since, it keeps."""
        if self.keeps or not inspect(self).persistent:
            return self.keeps
        told = changed_fields(self).get("lines")
        return _offered(
            self.lines if told is None else [json_format.ParseDict(one, pb.Quote.Line()) for one in told]
        )

    def unstored(self) -> Quote:
        """A copy to reckon with, which nobody stores."""
        copy = Quote(
            **{
                name: getattr(self, name)
                for name in (*_COPIED, "price_book", "lines", "version_number", "root", "origin")
            }
        )
        copy.transient, copy.keeps = True, _offered(self.lines)
        for name in (
            "id",
            "number",
            "owner",
            "department",
            "creator",
            "create_time",
            "update_time",
            "version",
            "state",
        ):
            setattr(copy, name, getattr(self, name))
        return copy

    async def priced_today(self, call: Call) -> Quote:
        """The quote with the prices of today; nothing is stored."""
        if self.state != "DRAFT":
            raise FailedPrecondition("QUOTE_FROZEN")
        copy = self.unstored()
        await copy.price(call)
        return copy

    async def submit(self, call: Call) -> None:
        """Approves the draft; the acceptable version before it is superseded in the same transaction.

        Books and policies are decided again: what has changed since must be looked at first. What somebody approved
        keeps the prices that he approved.
        """
        self._refuse_ended()
        self.check_state("DRAFT")
        # What nobody can accept must not end what somebody can.
        self._check_valid(call.now)
        if not self.lines:
            raise FailedPrecondition("QUOTE_EMPTY")
        if missing := [line.description for line in self.lines if line.price_source == pb.Quote.MISSING]:
            raise FailedPrecondition("PRICE_MISSING", items=", ".join(missing))
        if not call.caller.approved:
            today = await self.priced_today(call)
            if changes(self, today):
                raise FailedPrecondition("QUOTE_PRICES_CHANGED")
            self.over_limit = today.over_limit
        for other in await self._siblings(ACCEPTABLE, call):
            other.state = "SUPERSEDED"
        # The unique index over acceptable versions must see the old one go first.
        await call.flush()
        self.state = "APPROVED"

    def send(self, call: Call) -> None:
        """The customer sees it from now on."""
        self._refuse_ended()
        self.check_state("APPROVED")
        self._check_valid(call.now)
        self.state, self.send_time, self.shown_to = "SENT", call.now, self.account

    async def accept(self, digest: str, person: str, consent: str, call: Call) -> None:
        """Records the customer's yes to what was shown; open drafts end."""
        self._refuse_ended()
        self.check_state(*ACCEPTABLE)
        self._check_valid(call.now)
        if digest != self.digest:
            raise FailedPrecondition("QUOTE_CHANGED")
        self.acceptance = pb.Quote.Acceptance(
            person=person, time=to_timestamp(call.now), address=call.caller.address, digest=digest, consent=consent,
            actor=call.caller.actor,
        )  # fmt: skip
        self.state = "ACCEPTED"
        for draft in await self._siblings(("DRAFT",), call):
            draft.state = "CANCELLED"
        await reserve_budgets(self, call)
        call.after_flush(lambda: remember_sale(self, call))
        if opportunity := await self._opportunity(call, lock=True):
            opportunity.accepted_quote = self.name
        call.emit(events.QuoteAccepted, quote=self)

    def reject(self, reason: str, call: Call) -> None:
        """Records the customer's no."""
        self._refuse_ended()
        self.check_state(*ACCEPTABLE)
        self.state, self.end_reason = "REJECTED", reason
        call.emit(events.QuoteRejected, quote=self, reason=reason)

    def withdraw(self, reason: str) -> None:
        """Takes it back; its number stays."""
        self._refuse_ended()
        self.check_state(*ACCEPTABLE)
        self.state, self.end_reason = "WITHDRAWN", reason

    def expire(self, call: Call) -> None:
        """Publishes that the validity is over."""
        self.check_state(*ACCEPTABLE)
        self.state = "EXPIRED"
        call.emit(events.QuoteExpired, quote=self)

    async def new_version(self, call: Call) -> Quote:
        """A draft like this version; nothing follows an accepted one."""
        versions = await self._siblings((), call)
        if "ACCEPTED" in {self.state, *(version.state for version in versions)}:
            raise FailedPrecondition("QUOTE_ACCEPTED")
        number = max([self.version_number, *(version.version_number for version in versions)]) + 1
        base = self.number.rpartition("-V")[0]
        copy = Quote(
            **{name: getattr(self, name) for name in _COPIED}, lines=list(self.lines), root=self.root, copied_from=self.name,
            version_number=number, number=f"{base}-V{number}", owner=self.owner, department=self.department,
        )  # fmt: skip
        copy.keeps = _offered(self.lines)
        return await call.add(copy)

    async def copied(self, call: Call) -> Quote:
        """A quotation of its own like this version, priced anew."""
        kept = {name: getattr(self, name) for name in _COPIED if name != "valid_until_date"}
        copy = Quote(**kept, lines=list(self.lines), copied_from=self.name)
        if await copy.stranger(call) is not None:
            copy.contact = ""
        return await call.add(copy)

    def paid(self, money: Money) -> None:
        """Money came in for it, or with a negative amount went back."""
        self.paid_total = (self.paid_total or zero(money.currency)) + money

    async def _bind(self, call: Call) -> None:
        """Checks the opportunity and fills what it knows."""
        opportunity = await self._opportunity(call)
        if opportunity is not None and opportunity.account != self.account:
            raise Validation(
                Violation(
                    "quote.opportunity",
                    "OTHER_ACCOUNT",
                    "商机属于其他客户",
                    "The opportunity is another account's.",
                )
            )
        if not self.display_name:
            account = await call.copy(self.account) or {}
            self.display_name = opportunity.display_name if opportunity else account.get("displayName", "")
        origin = pb.Origin(quote=self.name)
        if opportunity is not None:
            origin.MergeFrom(opportunity.origin)
        self.origin, self.price_book = origin, opportunity.price_book if opportunity else ""

    async def stranger(self, call: Call) -> Any:
        """The contact as customer told it, where he does not work at the account today; who asks speaks for his own."""
        if not self.contact or self.contact == call.caller.actor:
            return None
        contact = await call.copy(self.contact) or {}
        return None if works_at(contact, self.account, today(call)) else contact

    async def _check_contact(self, call: Call) -> None:
        """CONTACT_NOT_OF_ACCOUNT: a quote that is sent to its contact would reach another customer."""
        contact = await self.stranger(call)
        if contact is not None:
            raise FailedPrecondition("CONTACT_NOT_OF_ACCOUNT", contact=contact.get("displayName", ""))

    async def _opportunity(self, call: Call, lock: bool = False) -> Opportunity | None:
        if not self.opportunity:
            return None
        return await call.named(Opportunity, self.opportunity, lock=lock)

    async def _siblings(self, states: Sequence[str], call: Call) -> list[Quote]:
        """The other versions of the quotation, of some states or all."""
        statement = select(Quote).where(Quote.root == self.root, Quote.id != self.id)
        if states:
            statement = statement.where(Quote.state.in_(states))
        async with call.everybody():
            return list(await call.db.scalars(statement.order_by(Quote.version_number)))

    def _check_free_text(self, call: Call) -> None:
        if any(not (line.product or line.bundle) for line in self.lines) and not call.caller.may(FREE_TEXT):
            raise PermissionDenied("FREE_TEXT_NOT_ALLOWED")

    def _digest(self) -> str:
        """SHA-256 of what the customer is shown."""
        shown = {
            "number": self.number, "account": self.account, "currency": self.currency, "terms": self.terms,
            "validUntil": str(self.valid_until_date or ""), "gross": str(self.gross_total and self.gross_total.rounded().amount),
            "lines": [
                {key: value for key, value in json_format.MessageToDict(line).items() if key in _SHOWN} for line in self.lines
            ],
        }  # fmt: skip
        return sha256(json.dumps(shown, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def _refuse_ended(self) -> None:
        """Names what ended a version, where that tells more than its state."""
        reasons = {
            "SUPERSEDED": "QUOTE_SUPERSEDED", "ACCEPTED": "QUOTE_ACCEPTED", "CANCELLED": "QUOTE_ACCEPTED",
        }  # fmt: skip
        if reason := reasons.get(self.state):
            raise FailedPrecondition(reason)
        if self.state == "EXPIRED":
            raise FailedPrecondition("QUOTE_EXPIRED", date=self.valid_until_date)

    def acceptable(self, now: datetime) -> bool:
        """Whether it can be accepted now."""
        return self.state in ACCEPTABLE and not self.over(now)

    def over(self, now: datetime) -> bool:
        """Whether its last day is over, in the seller's zone (QV-5)."""
        return self.valid_until_date is not None and now.astimezone(ZONE).date() > self.valid_until_date

    def _check_valid(self, now: datetime) -> None:
        """The validity ends at 24:00, whenever the job publishes it (QV-5)."""
        if self.over(now):
            raise FailedPrecondition("QUOTE_EXPIRED", date=self.valid_until_date)


def _offered(lines: Sequence[Any]) -> frozenset[str]:
    """The products and bundles that lines name, and what the bundles were configured of."""
    named = [name for line in lines for name in (line.product, line.bundle)]
    return frozenset([*named, *(part.product for line in lines for part in line.components)]) - {""}


def changes(before: Quote, after: Quote) -> list[Any]:
    """The lines whose amounts differ between two pricings, with the kinds of steps that make the difference."""
    old, new = ({line.key: line for line in quote.lines} for quote in (before, after))
    found: list[Any] = []
    for key in dict.fromkeys([*old, *new]):
        one, other = old.get(key), new.get(key)
        amounts = [line and (line.net_amount.amount, line.tax_amount.amount) for line in (one, other)]
        if amounts[0] == amounts[1]:
            continue
        line = other or one
        change = pb.RepriceQuoteResponse.Change(line=key, description=line.description if line else "")
        for name, there in (("before", one), ("after", other)):
            if there is not None:
                getattr(change, name).CopyFrom(there.net_amount)
        change.causes.extend(_causes(one, other))
        found.append(change)
    return found


def _causes(one: Any, other: Any) -> list[str]:
    steps = [
        {
            step.kind: (step.adjustment.amount, step.basis.amount if step.kind == "PRICE_BOOK" else "")
            for step in line.trace
        }
        if line is not None
        else {}
        for line in (one, other)
    ]
    return [
        kind for kind in dict.fromkeys([*steps[0], *steps[1]]) if steps[0].get(kind) != steps[1].get(kind)
    ]
