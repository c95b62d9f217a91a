"""The quote: one version of what we offer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.amounts import check_currency
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.listing import ZONE
from crmkit.mapping import to_timestamp
from crmkit.numbering import draw
from crmkit.resource import Resource
from crmkit.values import Money, zero
from google.protobuf import json_format
from sales.model.base import HANDOVER, Base
from sales.model.opportunity import Opportunity
from sales.model.price_book import books_for
from sales.model.product import products
from sales.model.quote_line import Priced, price_line
from sales.pricing import margin_percent, totals
from sqlalchemy import Index, select, text
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
)
# What the customer sees of a line.
_SHOWN = frozenset(
    ["key", "product", "description", "quantity", "unit", "unitListPrice", "discountPercent", "taxRate", "netAmount", "taxAmount"]
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

    async def creating(self, call: Call) -> None:
        """Completes and prices the version."""
        check_currency(self.currency, "quote.currency")
        if not self.root:
            self.root, self.version_number = self.name, 1
            self.number = f"{await draw(call, self.described)}-V1"
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
        check_currency(self.currency, "quote.currency")
        if changed & {"lines", "currency", "account"}:
            await self.price(call)
        self.digest = self._digest()

    async def deleting(self, call: Call) -> None:
        """A number that the customer may have seen stays."""
        if self.state != "DRAFT":
            raise FailedPrecondition("QUOTE_FROZEN")

    async def price(self, call: Call) -> None:
        """Prices every line from the books in force today and sums up."""
        if self.state != "DRAFT":
            raise FailedPrecondition("QUOTE_FROZEN")
        known = await products((line.product for line in self.lines), call)
        self._check_for_sale(known)
        account = {**(await call.copy(self.account) or {}), "name": self.account}
        books = await books_for(account, self.currency, call)
        priced = [
            price_line(line, known.get(line.product), books, self.currency, f"quote.lines[{place}]")
            for place, line in enumerate(_keyed(self.lines))
        ]
        self._sum(priced)
        self.digest = self._digest()

    async def submit(self, call: Call) -> None:
        """Approves the draft; the acceptable version before it is superseded in the same transaction."""
        self._refuse_ended()
        self.check_state("DRAFT")
        if not self.lines:
            raise FailedPrecondition("QUOTE_EMPTY")
        if missing := [line.description for line in self.lines if line.price_source == pb.Quote.MISSING]:
            raise FailedPrecondition("PRICE_MISSING", items=", ".join(missing))
        for other in await self._siblings(ACCEPTABLE, call):
            other.state = "SUPERSEDED"
        # The unique index over acceptable versions must see the old one go first.
        await call.flush()
        self.state = "APPROVED"

    def send(self, recipients: list[str], text: str, call: Call) -> None:
        """Sends it to the customer."""
        self._refuse_ended()
        self.check_state("APPROVED")
        self._check_valid(call.now)
        self.state, self.send_time, self.shown_to = "SENT", call.now, self.account
        call.emit(events.QuoteSent, quote=self, recipients=recipients, text=text)

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
            **{name: getattr(self, name) for name in _COPIED}, lines=list(self.lines), root=self.root,
            version_number=number, number=f"{base}-V{number}", owner=self.owner, department=self.department,
        )  # fmt: skip
        return await call.add(copy)

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
        self.origin = origin

    async def _opportunity(self, call: Call, lock: bool = False) -> Opportunity | None:
        if not self.opportunity:
            return None
        return await call.find(Opportunity, Opportunity.id == self.opportunity.rpartition("/")[2], lock=lock)

    async def _siblings(self, states: Sequence[str], call: Call) -> list[Quote]:
        """The other versions of the quotation, of some states or all."""
        statement = select(Quote).where(Quote.root == self.root, Quote.id != self.id)
        if states:
            statement = statement.where(Quote.state.in_(states))
        async with call.everybody():
            return list(await call.db.scalars(statement.order_by(Quote.version_number)))

    def _check_for_sale(self, known: dict[str, Any]) -> None:
        """A new quotation offers what is on sale; a later version keeps what the one before offered."""
        allowed = {"ACTIVE"} if self.version_number == 1 else {"ACTIVE", "END_OF_SALE"}
        wrong = [
            Violation(
                f"quote.lines[{place}].product", "NOT_FOR_SALE", "产品不在售", "The product is not on sale."
            )
            for place, line in enumerate(self.lines)
            if line.product and (line.product not in known or known[line.product].state not in allowed)
        ]
        if wrong:
            raise Validation(*wrong)

    def _sum(self, priced: Sequence[Priced]) -> None:
        amounts = totals((one.amounts for one in priced if one.amounts), self.currency)
        if not amounts.fits:
            raise Validation(Violation("quote.lines", "TOO_LARGE", "金额过大", "The amount is too large."))
        self.lines = [one.line for one in priced]
        self.list_total, self.discount_total = amounts.listed, amounts.discount
        self.net_total, self.tax_total, self.gross_total = amounts.net, amounts.tax, amounts.gross
        self.max_discount_percent = max(
            (Decimal(line.discount_percent or 0) for line in self.lines), default=None
        )
        self.below_floor = any(one.below_floor for one in priced)
        costs = [one.cost for one in priced if one.cost is not None]
        known = len(costs) == len(priced)
        self.margin_percent = margin_percent(amounts.net, sum(costs, zero(self.currency))) if known else None

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

    def _check_valid(self, now: datetime) -> None:
        """The validity ends at 24:00 in the seller's zone, whenever the job publishes it (QV-5)."""
        if self.valid_until_date and now.astimezone(ZONE).date() > self.valid_until_date:
            raise FailedPrecondition("QUOTE_EXPIRED", date=self.valid_until_date)


def _keyed(lines: Sequence[Any]) -> list[Any]:
    """The lines, each with a key of its own that later versions keep."""
    taken = {line.key for line in lines if line.key}
    free = (str(number) for number in range(1, 2 * len(lines) + 1) if str(number) not in taken)
    keyed: list[Any] = []
    seen: set[str] = set()
    for line in lines:
        copy = pb.Quote.Line()
        copy.CopyFrom(line)
        copy.key = line.key if line.key and line.key not in seen else next(free)
        seen.add(copy.key)
        keyed.append(copy)
    return keyed
