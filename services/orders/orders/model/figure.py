"""What other facts say about the money of contracts and orders: one row for each source, so twice changes nothing.

The figures on contracts and orders are sums of these rows, recomputed under the row's lock, and so right in
whatever order the facts come.
"""

import json
from decimal import Decimal
from typing import Any

from crm.orders.v1 import pb
from crmkit.amounts import number, plain
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.values import Money, zero
from orders.model.base import Base
from orders.model.contract import Contract
from orders.model.order import Order
from sqlalchemy import Boolean, Index, Numeric, Text, func, select, text
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Mapped, mapped_column

EXECUTED, INVOICED, COLLECTED = "EXECUTED", "INVOICED", "COLLECTED"


class Figure(Base):
    """One amount from one source. Inactive where the source was voided or undone."""

    __tablename__ = "figures"
    __table_args__ = (
        Index("figures_contract_index", "contract", postgresql_where=text("contract <> ''")),
        Index("figures_order_index", "order", postgresql_where=text("\"order\" <> ''")),
    )

    source: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    contract: Mapped[str] = mapped_column(Text)
    order: Mapped[str] = mapped_column(Text)
    amount: Mapped[Decimal] = mapped_column(Numeric(20, 4))
    items: Mapped[dict[str, Any]] = mapped_column(JSONB)
    active: Mapped[bool] = mapped_column(Boolean)


async def record(
    call: Call,
    source: str,
    kind: str,
    contract: str,
    order: str,
    amount: Decimal,
    items: dict[str, str] | None = None,
) -> None:
    """Keeps an amount once; one that was undone before it was told stays undone."""
    values = source, kind, contract, order, amount, json.dumps(items or {})
    await (await driver(call.db)).execute(_RECORD, *values)
    await refresh(call, contract, order)


_RECORD = (
    'INSERT INTO figures (source, kind, contract, "order", amount, items, active)'
    " VALUES ($1, $2, $3, $4, $5, $6, true) ON CONFLICT DO NOTHING"
)


async def undo(call: Call, source: str, kind: str, contract: str, order: str) -> None:
    """Takes an amount out, also where it has not been told yet."""
    row = {
        "source": source,
        "kind": kind,
        "contract": contract,
        "order": order,
        "amount": Decimal(0),
        "items": {},
    }
    statement = insert(Figure).values(**row, active=False)
    await call.db.execute(statement.on_conflict_do_update(index_elements=["source"], set_={"active": False}))
    await refresh(call, contract, order)


async def refresh(call: Call, contract: str, order: str) -> None:
    """Sums up a contract with its orders, or one order."""
    if contract:
        row = await call.named(Contract, contract, lock=True)
        if row is not None:
            sums = await _sums(call, Figure.contract == contract)
            collected = Money(sums[COLLECTED], row.currency)
            row.executed, row.invoiced = (
                Money(sums[EXECUTED], row.currency),
                Money(sums[INVOICED], row.currency),
            )
            row.collected, row.balance = collected, (row.gross or zero(row.currency)) - collected
            for name in await call.db.scalars(select(Order.id).where(Order.contract == contract)):
                await _refresh_order(call, f"orders/{name}", row)
            return
    if order:
        await _refresh_order(call, order, None)


async def _refresh_order(call: Call, name: str, contract: Contract | None) -> None:
    order = await call.named(Order, name, lock=True)
    if order is None:
        return
    sums = await _sums(call, Figure.order == name)
    order.invoiced, order.collected = (
        Money(sums[INVOICED], order.currency),
        Money(sums[COLLECTED], order.currency),
    )
    quantities: dict[str, Decimal] = {}
    for items in await call.db.scalars(select(Figure.items).where(Figure.order == name, Figure.active)):
        for key, quantity in items.items():
            quantities[key] = quantities.get(key, Decimal(0)) + Decimal(quantity)
    changed = list[Any]()
    for item in order.items:
        copy = pb.Order.Item()
        copy.CopyFrom(item)
        copy.invoiced = plain(quantities.get(item.key, number("0")))
        changed.append(copy)
    order.items = changed
    invoiced, collected = (_share(m, order.gross) for m in (order.invoiced, order.collected))
    if contract is not None:
        # A contract that is billed by its plan pays for its orders together.
        invoiced = max(invoiced, _share(contract.invoiced, contract.gross))
        collected = max(collected, _share(contract.collected, contract.gross))
    order.invoice_state = "FULL" if invoiced >= 1 else "PARTLY" if invoiced else "NONE"
    order.payment_state = "PAID" if collected >= 1 else "PARTLY_PAID" if collected else "UNPAID"


def _share(part: Money | None, whole: Money | None) -> Decimal:
    if part is None or not part:
        return Decimal(0)
    return part.amount / whole.amount if whole else Decimal(1)


async def _sums(call: Call, condition: Any) -> dict[str, Decimal]:
    statement = (
        select(Figure.kind, func.sum(Figure.amount)).where(condition, Figure.active).group_by(Figure.kind)
    )
    sums = {EXECUTED: Decimal(0), INVOICED: Decimal(0), COLLECTED: Decimal(0)}
    sums.update({row[0]: row[1] for row in await call.db.execute(statement)})
    return sums
