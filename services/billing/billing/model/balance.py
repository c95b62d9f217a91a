"""What a customer owes one legal entity in one currency."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from billing.model.base import Base
from billing.model.invoice import Invoice
from billing.model.payment import Allocation, Payment
from billing.model.plan import PaymentPlan
from crm.billing.v1 import events_pb2 as events
from crm.billing.v1 import pb
from crmkit.call import Call
from crmkit.resource import Resource
from crmkit.values import Money, zero
from sqlalchemy import Index, func, select
from sqlalchemy.orm import Mapped


class AccountBalance(Resource, Base):
    """balance = issued − allocated, without what was credited and refunded; money tied to nothing stands apart."""

    __message__ = pb.AccountBalance
    # Reckoned anew from the documents, which follow.
    follows_merges = False
    __table_args__ = (Index("account_balances_key", "account", "own_entity", "currency", unique=True),)

    display_name: Mapped[str]
    account: Mapped[str]
    own_entity: Mapped[str]
    currency: Mapped[str]
    issued: Mapped[Money]
    allocated: Mapped[Money]
    balance: Mapped[Money]
    unapplied: Mapped[Money]
    advances: Mapped[Money]
    credit: Mapped[Money]

    async def recompute(self, call: Call) -> None:
        """The figures from the documents themselves."""
        await call.one_at_a_time([f"{self.account}|{self.own_entity}|{self.currency}"])
        await call.db.refresh(self)
        same = (
            Invoice.account == self.account,
            Invoice.own_entity == self.own_entity,
            Invoice.currency == self.currency,
        )
        sums = select(
            func.sum(_amount(Invoice, "gross") - _amount(Invoice, "credited")),
            func.sum(_amount(Invoice, "paid") - _amount(Invoice, "refunded")),
        ).where(*same, Invoice.state == "ISSUED")
        issued, allocated = (await call.db.execute(sums)).one()
        left = select(func.sum(_amount(Payment, "unapplied")), func.sum(_amount(Payment, "credit"))).where(
            Payment.account == self.account, Payment.own_entity == self.own_entity, Payment.state == "RECEIVED",
            Payment.__table__.c.amount_currency == self.currency,
        )  # fmt: skip
        unapplied, credit = (await call.db.execute(left)).one()
        advances = select(func.sum(_amount(Allocation, "amount"))).where(
            Allocation.account == self.account,
            Allocation.invoice == "",
            Allocation.state == "ACTIVE",
            Allocation.__table__.c.amount_currency == self.currency,
            Allocation.plan.in_(
                select(PaymentPlan.sql_name()).where(
                    PaymentPlan.own_entity == self.own_entity, PaymentPlan.account == self.account
                )
            ),
        )
        ahead = Money(await call.db.scalar(advances) or Decimal(0), self.currency)
        for name, value in (("advances", ahead), ("credit", Money(credit or Decimal(0), self.currency))):
            if getattr(self, name) != value:
                setattr(self, name, value)
        self._set(issued or Decimal(0), allocated or Decimal(0), unapplied or Decimal(0))

    def _set(self, issued: Decimal, allocated: Decimal, unapplied: Decimal) -> None:
        found = tuple(
            Money(value, self.currency) for value in (issued, allocated, issued - allocated, unapplied)
        )
        for name, value in zip(("issued", "allocated", "balance", "unapplied"), found, strict=True):
            if getattr(self, name) != value:
                setattr(self, name, value)


async def after_merge(call: Call, merge: str, redirects: Mapping[str, str], undone: bool) -> None:
    """The balances of all accounts of the merge, from the documents that are theirs now."""
    names = sorted({*redirects, *redirects.values()})
    rows = list(await call.db.scalars(select(AccountBalance).where(AccountBalance.account.in_(names))))
    known = {(row.account, row.own_entity, row.currency) for row in rows}
    for row in list(rows):
        survivor = redirects.get(row.account, "")
        key = (survivor, row.own_entity, row.currency)
        if undone or not survivor or key in known:
            continue
        known.add(key)
        nothing, copy = zero(row.currency), await call.copy(survivor) or {}
        made = AccountBalance(
            account=survivor, own_entity=row.own_entity, currency=row.currency, issued=nothing, allocated=nothing,
            balance=nothing, unapplied=nothing, advances=nothing, credit=nothing, display_name=copy.get("displayName", ""),
            owner=copy.get("owner", "") or row.owner, department=copy.get("department", "") or row.department,
        )  # fmt: skip
        rows.append(await call.add(made))
    await call.flush()
    for row in rows:
        before = row.balance
        await row.recompute(call)
        if row.balance != before:
            call.emit(events.BalanceChanged, balance=row)


async def post(
    call: Call,
    document: Invoice | Payment,
    *,
    account: str = "",
    issued: Money | None = None,
    allocated: Money | None = None,
    unapplied: Money | None = None,
    advances: Money | None = None,
    credit: Money | None = None,
) -> None:
    """Adds to the balance of an account, the document's where none is given, and tells it. Two at once wait for each other."""
    currency = document.currency if isinstance(document, Invoice) else document.amount.currency
    key = (account or document.account, document.own_entity, currency)
    await call.one_at_a_time(["|".join(key)])
    await call.flush()
    row = await call.find(
        AccountBalance,
        AccountBalance.account == key[0], AccountBalance.own_entity == key[1], AccountBalance.currency == key[2],
    )  # fmt: skip
    nothing = zero(currency)
    if row is None:
        copy = await call.copy(key[0]) or {}
        row = await call.add(
            AccountBalance(
                account=key[0], own_entity=key[1], currency=currency, display_name=copy.get("displayName", ""),
                owner=copy.get("owner", "") or document.owner, department=copy.get("department", "") or document.department,
                issued=nothing, allocated=nothing, balance=nothing, unapplied=nothing, advances=nothing, credit=nothing,
            )
        )  # fmt: skip
    row.issued += issued or nothing
    row.allocated += allocated or nothing
    row.unapplied += unapplied or nothing
    row.advances += advances or nothing
    row.credit += credit or nothing
    row.balance = row.issued - row.allocated
    call.emit(events.BalanceChanged, balance=row)


async def post_each(call: Call, payment: Payment, entries: Iterable[tuple[str, str, Money]]) -> None:
    """Adds each amount to a figure of an account: a payer's money may pay what others owe. In order, as all do."""
    figures = dict[str, dict[str, Money]]()
    for account, figure, amount in entries:
        mine = figures.setdefault(account, {})
        mine[figure] = mine[figure] + amount if figure in mine else amount
    for account in sorted(figures):
        await post(call, payment, account=account, **figures[account])


def _amount(model: type[Resource], name: str) -> Any:
    return model.__table__.c[f"{name}_amount"]  # type: ignore[attr-defined]
