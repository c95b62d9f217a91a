"""The contract: what both sides have agreed on."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from crm.orders.v1 import events_pb2 as events
from crm.orders.v1 import pb
from crmkit import approvals
from crmkit.amounts import HUNDRED, check_currency, number, price_lines, same_currency
from crmkit.call import Call
from crmkit.company import legal_entity, today
from crmkit.errors import FailedPrecondition, Validation, Violation, check_frozen, check_reason
from crmkit.resource import Resource
from crmkit.values import Money, zero
from orders.model.base import Base
from orders.model.credit import check_credit
from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped

# What both sides sign; nothing of it changes once the draft is submitted.
SIGNED_CONTENT = frozenset(
    {
        "display_name", "direction", "type", "account", "contact", "other_parties", "own_entity", "opportunity", "quote",
        "lines", "currency", "net", "tax", "gross", "effective_from", "effective_to", "instalments", "terms",
        "channel_partner",
    }
)  # fmt: skip
BEFORE_SIGNATURE = ("DRAFT", "IN_APPROVAL", "AWAITING_SIGNATURE")
RUNNING = ("ACTIVE", "SUSPENDED", "CLOSING")
ORDERABLE = ("SIGNED", "ACTIVE")


class Contract(Resource, Base):
    """A contract. Its draft is free; from `submit` on its content is frozen, and its number stays for ever."""

    __message__ = pb.Contract
    __table_args__ = (
        # One deal, one contract, however often and in whatever order the facts of the deal arrive.
        Index(
            "contracts_opportunity_key", "opportunity", unique=True,
            postgresql_where=text("opportunity <> '' AND state <> 'CANCELLED'"),
        ),
        Index("contracts_partner_index", "channel_partner", postgresql_where=text("channel_partner <> ''")),
        Index(
            "contracts_quote_key", "quote", unique=True, postgresql_where=text("quote <> '' AND state <> 'CANCELLED'")
        ),
    )  # fmt: skip

    display_name: Mapped[str]
    direction: Mapped[str]
    account: Mapped[str]
    contact: Mapped[str]
    channel_partner: Mapped[str]
    own_entity: Mapped[str]
    opportunity: Mapped[str]
    quote: Mapped[str]
    lines: Mapped[Any]
    currency: Mapped[str]
    net: Mapped[Money | None]
    tax: Mapped[Money | None]
    gross: Mapped[Money | None]
    effective_from: Mapped[date | None]
    effective_to: Mapped[date | None]
    instalments: Mapped[Any]
    signatory: Mapped[str]
    counterparty_signatory: Mapped[str]
    terms: Mapped[str]
    state: Mapped[str]
    sign_date: Mapped[date | None]
    activation_date: Mapped[date | None]
    end_date: Mapped[date | None]
    reason: Mapped[str]
    executed: Mapped[Money]
    invoiced: Mapped[Money]
    collected: Mapped[Money]
    balance: Mapped[Money]

    async def creating(self, call: Call) -> None:
        """A new contract is a draft."""
        self.state, self.direction = "DRAFT", self.direction or "INCOME"
        self.own_entity = self.own_entity or legal_entity(self.department, call)
        self.complete(frozenset())

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Content changes in the draft alone."""
        if self.state != "DRAFT":
            check_frozen("CONTRACT_FROZEN", changed & SIGNED_CONTENT)
        elif changed & SIGNED_CONTENT:
            self.complete(changed)

    async def deleting(self, call: Call) -> None:
        """What has a number stays."""
        if self.number:
            raise FailedPrecondition("NUMBERED_NOT_DELETABLE")

    def complete(self, changed: frozenset[str]) -> None:
        """Checks dates and currency and computes the amounts."""
        check_currency(self.currency, "contract.currency")
        if self.effective_from and self.effective_to and self.effective_to < self.effective_from:
            raise Validation(
                Violation(
                    "contract.effective_to",
                    "BEFORE_START",
                    "到期日期早于生效日期",
                    "The end lies before the start.",
                )
            )
        same_currency(self.currency, (self.net, self.tax, self.gross))
        if self.lines:
            self.lines, total = price_lines(self.lines, self.currency, "contract.lines")
            self.net, self.tax, self.gross = total.net, total.tax, total.gross
        elif self.gross is not None:
            self._complete_entered(self.gross, changed)
        check_instalments(self.instalments, self.currency)
        nothing = zero(self.currency)
        self.executed = self.invoiced = self.collected = nothing
        self.balance = self.gross or nothing

    def _complete_entered(self, gross: Money, changed: frozenset[str]) -> None:
        """Net, tax and gross of a contract without lines, entered by hand."""
        tax = self.tax or zero(self.currency)
        net = gross - tax if self.net is None or (changed and "net" not in changed) else self.net
        self.net, self.tax = net, tax
        if (net + tax).amount != gross.amount or net.amount < 0:
            raise Validation(
                Violation(
                    "contract.gross",
                    "SUM_MISMATCH",
                    "金额应等于不含税金额加税额",
                    "The amount is not net and tax.",
                )
            )

    async def submit(self, call: Call) -> None:
        """Sends the draft into its approval; the number is drawn here and stays."""
        self.check_state("DRAFT")
        missing = [
            name for name in ("account", "own_entity", "effective_from", "owner") if not getattr(self, name)
        ]
        if missing:
            raise FailedPrecondition("CONTRACT_INCOMPLETE", fields=", ".join(missing))
        if not self.gross:
            raise FailedPrecondition("CONTRACT_EMPTY")
        check_sum(self.instalments, self.gross)
        await check_credit(self.account, call)
        await call.number(self)
        self.state, self.reason = "IN_APPROVAL", ""
        call.emit(events.ContractSubmitted, contract=self)

    def return_to_draft(self, reason: str) -> None:
        """Takes the contract back for changes; its number stays."""
        self.check_state("IN_APPROVAL", "AWAITING_SIGNATURE")
        self.reason = check_reason(reason)
        self.state = "DRAFT"

    def approve(self) -> None:
        """Approves; countersigning and sealing are not asked for without a template."""
        self.check_state("IN_APPROVAL")
        self.state = "AWAITING_SIGNATURE"

    def sign(self, sign_date: date | None, counterparty_signatory: str, call: Call) -> None:
        """Both sides have signed."""
        self.check_state("AWAITING_SIGNATURE")
        if sign_date is not None and sign_date > today(call):
            raise Validation(
                Violation(
                    "sign_date", "DATE_IN_FUTURE", "签署日期不能晚于今天", "The date lies in the future."
                )
            )
        self.sign_date = sign_date or today(call)
        self.signatory = self.signatory or self.owner
        self.counterparty_signatory = counterparty_signatory or self.counterparty_signatory
        self.state = "SIGNED"
        call.emit(events.ContractSigned, contract=self)

    async def activate(self, call: Call) -> None:
        """Puts the contract in force, running the remaining stages where no approval policy holds them."""
        self.check_state(*BEFORE_SIGNATURE, "SIGNED")
        if self.state in ("DRAFT", "IN_APPROVAL") and self._approval_is_asked_for(call):
            raise FailedPrecondition("STAGE_OPEN", stages=call.text("审批", "approval"))
        if self.state == "DRAFT":
            await self.submit(call)
        if self.state == "IN_APPROVAL":
            self.approve()
        if self.state == "AWAITING_SIGNATURE":
            self.sign(None, "", call)
        if self.effective_from and self.effective_from > today(call):
            raise FailedPrecondition("NOT_YET_EFFECTIVE", date=self.effective_from.isoformat())
        self.state, self.activation_date = "ACTIVE", today(call)
        call.emit(events.ContractActivated, contract=self)

    def _approval_is_asked_for(self, call: Call) -> bool:
        method = call.running.pipeline.methods["ApproveContract"]
        return (
            approvals.matching(approvals.policies_for(method, call), call.message_of(self), call) is not None
        )

    def suspend(self, reason: str, call: Call) -> None:
        """Stops a running contract."""
        self.check_state("ACTIVE")
        self.reason = check_reason(reason)
        self.state = "SUSPENDED"
        call.emit(events.ContractSuspended, contract=self, reason=self.reason)

    def resume(self, call: Call) -> None:
        """Lets it go on."""
        self.check_state("SUSPENDED")
        self.state = "ACTIVE"
        call.emit(events.ContractResumed, contract=self)

    def terminate(self, reason: str, date: date | None, call: Call) -> None:
        """Ends a running contract before its time."""
        self.check_state(*RUNNING)
        last = date or today(call)
        self.reason, self.end_date = check_reason(reason), last
        if self.effective_from and last < self.effective_from:
            raise FailedPrecondition("TERMINATION_DATE_INVALID", date=self.effective_from.isoformat())
        self.state = "TERMINATED"
        call.emit(events.ContractTerminated, contract=self, date=last, reason=self.reason)
        call.emit(events.ContractEnded, contract=self, how="TERMINATED", date=last)

    def start_closing(self) -> None:
        """Begins the settlement."""
        self.check_state("ACTIVE")
        self.state = "CLOSING"

    def close(self, call: Call) -> None:
        """Closes a contract whose money is settled."""
        self.check_state("CLOSING")
        if self.balance:
            raise FailedPrecondition("BALANCE_OPEN", amount=_shown(self.balance))
        self.state, self.end_date = "CLOSED", today(call)
        call.emit(events.ContractEnded, contract=self, how="CLOSED", date=self.end_date)

    def cancel(self, reason: str, call: Call) -> None:
        """Drops a contract that was never in force."""
        self.check_state(*BEFORE_SIGNATURE, "SIGNED")
        self.reason, self.end_date = check_reason(reason), today(call)
        self.state = "CANCELLED"
        call.emit(events.ContractEnded, contract=self, how="CANCELLED", date=self.end_date)

    def check_orderable(self) -> None:
        """Refuses orders from a contract that is not signed, or over."""
        if self.state not in ORDERABLE:
            raise FailedPrecondition("CONTRACT_NOT_SIGNED", state=self.state)


def check_instalments(instalments: Sequence[Any], currency: str) -> None:
    """An instalment has either a percent or an amount, and a date where a date makes it due."""
    violations: list[Violation] = []
    for index, part in enumerate(instalments):
        amount = Money.parse(part.amount)
        same_currency(currency, (amount,))
        if (amount is None) == (not part.percent):
            violations.append(
                Violation(
                    f"contract.instalments[{index}].percent",
                    "ONE_OF",
                    "比例与金额填一项",
                    "Give a percent or an amount.",
                )
            )
        if part.trigger == pb.Contract.DATE and not part.date.year:
            violations.append(
                Violation(
                    f"contract.instalments[{index}].date", "REQUIRED", "必填", "This field is required."
                )
            )
    if violations:
        raise Validation(*violations)


def check_sum(instalments: Sequence[Any], gross: Money) -> None:
    """Instalments add up to the amount: percents to 100, or everything to the gross."""
    if not instalments:
        return
    percents = sum((number(part.percent) for part in instalments if part.percent), Decimal(0))
    fixed = sum((number(part.amount.amount) for part in instalments if not part.percent), Decimal(0))
    # Percents that are the whole give the rest of rounding to the last; else each is rounded for itself.
    if percents == HUNDRED and not fixed:
        return
    rounded = [
        (gross * (number(part.percent) / HUNDRED)).rounded().amount for part in instalments if part.percent
    ]
    difference = gross.amount - fixed - sum(rounded, Decimal(0))
    if difference:
        raise FailedPrecondition("PLAN_TOTAL_MISMATCH", difference=_shown(Money(difference, gross.currency)))


def _shown(money: Money) -> str:
    return f"{money.rounded().amount} {money.currency}"
