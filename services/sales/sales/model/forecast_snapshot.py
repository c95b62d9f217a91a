"""The forecast of a department for a month, as it was in a week."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.company import with_beneath
from crmkit.errors import FailedPrecondition
from crmkit.listing import ZONE
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from crmkit.values import Money
from sales.forecast import sums
from sales.model.base import Base
from sales.model.opportunity import Opportunity
from sqlalchemy import Index, select
from sqlalchemy.orm import Mapped

# What a forecast promises: what has come and what will.
_EXPECTED = ("CLOSED", "COMMIT")


class Forecast(Resource, Base):
    """A snapshot. Its figures never change; while the week lasts, people may say what they think differently."""

    __message__ = pb.Forecast
    handed_over = False
    __table_args__ = (Index("forecasts_week_key", "node", "week_date", unique=True),)

    month: Mapped[str]
    week_date: Mapped[date | None]
    node: Mapped[str]
    figures: Mapped[Any]
    adjustments: Mapped[Any]
    state: Mapped[str]

    def submit(self) -> None:
        """Gives it to the superior."""
        self._refuse_frozen()
        self.check_state("OPEN")
        self.state = "SUBMITTED"

    def adjust(self, amount: Money, note: str, call: Call) -> None:
        """Says that more or less will come."""
        self._refuse_frozen()
        said = pb.Forecast.Adjustment(
            actor=call.caller.actor, amount=amount.message(), note=note, time=to_timestamp(call.now)
        )
        self.adjustments = [*self.adjustments, said]

    async def accuracy(self, call: Call) -> pb.GetForecastAccuracyResponse:
        """What was expected against what was won in the month."""
        expected: dict[str, Decimal] = defaultdict(Decimal)
        for one in (*(figure for figure in self.figures if figure.category in _EXPECTED), *self.adjustments):
            if one.amount.currency_code:
                expected[one.amount.currency_code] += Decimal(one.amount.amount)
        actual = await self._won(call)
        reply = pb.GetForecastAccuracyResponse()
        for currency in sorted({*expected, *actual}):
            came = actual.get(currency, Decimal(0))
            row = reply.rows.add(currency=currency)
            row.expected.CopyFrom(Money(expected[currency], currency).message())
            row.actual.CopyFrom(Money(came, currency).message())
            if came:
                missed = abs(came - expected[currency]) * 100 / came
                row.percent = str(max(100 - missed, Decimal(0)).quantize(Decimal("0.1")))
        return reply

    async def _won(self, call: Call) -> dict[str, Decimal]:
        first = datetime.strptime(self.month, "%Y-%m").replace(tzinfo=ZONE)
        next_month = (first + timedelta(days=32)).replace(day=1)
        won = select(Opportunity.amount).where(
            Opportunity.state == "WON", Opportunity.close_time >= first, Opportunity.close_time < next_month,
            Opportunity.department.in_(with_beneath([self.node], call)),
        )  # fmt: skip
        found: dict[str, Decimal] = defaultdict(Decimal)
        async with call.everybody():
            for amount in await call.db.scalars(won):
                if amount is not None:
                    found[amount.currency] += amount.amount
        return found

    def _refuse_frozen(self) -> None:
        if self.state == "FROZEN":
            raise FailedPrecondition("FORECAST_FROZEN")


async def take_snapshots(as_of: datetime, call: Call) -> None:
    """Freezes the weeks before and makes one snapshot for each department with deals, once a week."""
    day = as_of.astimezone(ZONE).date()
    monday = day - timedelta(days=day.weekday())
    await call.one_at_a_time(["forecasts"])
    for row in await call.db.scalars(
        select(Forecast).where(Forecast.state != "FROZEN", Forecast.week_date < monday).with_for_update()
    ):
        row.state = "FROZEN"
    done = set(await call.db.scalars(select(Forecast.node).where(Forecast.week_date == monday)))
    first = monday.replace(day=1)
    last = (first + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    for key, entry in call.running.config.prefix("department.").items():
        node = f"departments/{key}"
        if node in done:
            continue
        figures = await _figures(with_beneath([node], call), first, last, day, call)
        if figures:
            forecast = Forecast(
                month=f"{first:%Y-%m}", week_date=monday, node=node, figures=figures, state="OPEN",
                owner=str(entry.get("manager") or ""), department=node,
            )  # fmt: skip
            await call.add(forecast)


async def _figures(departments: tuple[str, ...], first: date, last: date, day: date, call: Call) -> list[Any]:
    buckets = await sums(first, last, day, call, Opportunity.department.in_(departments))
    figures: list[Any] = []
    for (category, currency), one in sorted(buckets.items()):
        figure = pb.Forecast.Figure(category=category, deals=one.deals)
        if currency:
            figure.amount.CopyFrom(Money(one.amount, currency).message())
            figure.weighted.CopyFrom(Money(one.weighted, currency).message())
        figures.append(figure)
    return figures
