"""The upsell proposal: what a customer may buy next, and why."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Validation, required
from crmkit.phones import e164
from crmkit.resource import Resource
from crmkit.values import Money
from sales.model.base import Base
from sales.model.call_list import OPEN as CALLABLE
from sales.model.call_list import CallEntry, CallList, refusing
from sales.model.opportunity import Opportunity
from sales.model.product import products
from sales.model.quote_records import last_price
from sales.model.sales_task import SalesTask
from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped

SILENT = timedelta(days=90)
# How far ahead a deal made of a proposal is expected to close, and a task is due.
CLOSES, DUE = timedelta(days=30), timedelta(days=7)


class UpsellProposal(Resource, Base):
    """A ground to talk with a customer. One that is open for each account, product or contract, and kind."""

    __message__ = pb.UpsellProposal
    # What was proposed to a merged customer ends; what it has bought is the survivor's.
    follows_merges = False
    __table_args__ = (
        Index(
            "upsell_proposals_open_key", "account", "product", "contract", "kind", unique=True,
            postgresql_where=text("state = 'OPEN'"),
        ),
        Index(
            "upsell_proposals_silent_index", "account", "silent_until_date",
            postgresql_where=text("silent_until_date IS NOT NULL"),
        ),
    )  # fmt: skip

    account: Mapped[str]
    product: Mapped[str]
    contract: Mapped[str]
    kind: Mapped[str]
    reason: Mapped[str]
    reason_en: Mapped[str]
    figures: Mapped[Any]
    dismiss_reason: Mapped[str]
    silent_until_date: Mapped[date | None]
    made: Mapped[str]
    state: Mapped[str]

    def dismiss(self, reason: str, call: Call) -> None:
        """It does not fit; nothing of the kind comes again for 90 days."""
        self.check_state("OPEN")
        self.state, self.dismiss_reason = "DISMISSED", reason
        self.silent_until_date = today(call) + SILENT

    async def take(self, way: str, call_list: str, call: Call) -> None:
        """Makes a deal, somebody to call or a task of it, which names it as its origin."""
        self.check_state("OPEN")
        if way == "CALL":
            made = await self._call(call_list, call)
        else:
            made = await (self._deal(call) if way == "OPPORTUNITY" else self._task(call))
        self.state, self.made = "CONVERTED", made.name
        self.silent_until_date = today(call) + SILENT

    def end(self) -> None:
        """Its ground is gone."""
        self.state = "ENDED"

    async def _deal(self, call: Call) -> Opportunity:
        made = Opportunity(
            display_name=await self._title(call), account=self.account, need=self.reason, upsell_proposal=self.name,
            expected_close_date=today(call) + CLOSES, owner=call.caller.employee, department=call.caller.department,
        )  # fmt: skip
        if self.product:
            quantity = self.figures.quantity or "1"
            line = pb.Opportunity.Line(product=self.product, quantity=quantity)
            known = (await products([self.product], call)).get(self.product)
            paid = await last_price(self.account, self.product, "", call)
            if paid.found and (known is None or known.list_price is None):
                line.unit_price.CopyFrom(paid.net_unit_price)
            made.lines = [line]
        else:
            contract = await call.copy(self.contract) or {}
            net: dict[str, Any] = contract.get("net", {})
            if net:
                made.amount = Money(Decimal(net["amount"]), net["currencyCode"])
        return await call.add(made)

    async def _task(self, call: Call) -> SalesTask:
        made = SalesTask(
            display_name=await self._title(call), kind="ACTION", description=self.reason, about=self.account,
            source=self.name, executors=[self.owner or call.caller.employee], supervisor=call.caller.employee,
            due_time=call.now + DUE, owner=call.caller.employee, department=call.caller.department,
        )  # fmt: skip
        made = await call.add(made)
        made.hand_out(call)
        return made

    async def _call(self, name: str, call: Call) -> CallEntry:
        if not name:
            raise Validation(required("call_list"))
        async with call.everybody():
            book = await call.named(CallList, name)
        # Whoever calls from a list may put his customers on it.
        me = call.caller.employee
        if book is None or me not in (book.owner, *(member.employee for member in book.members)):
            book = await call.load(CallList, name, lock=False)
        book.check_state("DRAFT", "RUNNING", "PAUSED")
        customer = await call.copy(self.account) or {}
        phones = sorted(customer.get("phones", []), key=lambda one: not one.get("primary"))
        number = next((found for one in phones if (found := e164(str(one.get("number", ""))))), "")
        if not number:
            raise FailedPrecondition("PROPOSAL_WITHOUT_NUMBER")
        if await refusing([number, self.account], call):
            raise FailedPrecondition("DO_NOT_CALL")
        await call.one_at_a_time(["callEntries"])
        async with call.everybody():
            open_one = CallEntry.number_called == number, CallEntry.state.in_(CALLABLE)
            if await call.find(CallEntry, *open_one) is not None:
                raise FailedPrecondition("ENTRY_TAKEN")
            made = CallEntry(
                display_name=customer.get("displayName", number)[:200], call_list=book.name, subject=self.account,
                number_called=number, note=self.reason, origin=self.name, state="NEW", department=book.department,
            )  # fmt: skip
            made = await call.add(made)
            made.owner = ""
            await call.flush()
        return made

    async def _title(self, call: Call) -> str:
        label = self.described.fields["kind"].rule.label
        known = (await products([self.product], call)).get(self.product) if self.product else None
        what = known.display_name if known else (await call.copy(self.contract) or {}).get("displayName", "")
        return f"{_TITLES.get(self.kind, label.zh)}：{what}"[:200]


_TITLES = {
    "REORDER": "复购", "CROSS_SELL": "交叉销售", "VALUE_ADDED": "增值服务", "GROUP": "集团内推广", "UPGRADE": "升级替代",
    "RENEWAL": "续签",
}  # fmt: skip
