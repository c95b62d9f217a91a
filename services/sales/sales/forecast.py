"""What may come, and what past deals say about one that is open."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from math import sqrt
from statistics import median
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import check_currency
from crmkit.call import Call
from crmkit.company import today, with_beneath
from crmkit.errors import Validation, required
from crmkit.exchange import rate_of
from crmkit.listing import ZONE
from crmkit.mapping import read_date, to_date
from crmkit.scope import predicate
from crmkit.values import Money, zero
from sqlalchemy import select

from sales.model.opportunity import Opportunity
from sales.model.pipeline import RUNNING

FEWEST = 20
# Of the normal distribution, for an interval that holds nine times in ten.
Z = 1.6448536269514722


@dataclass
class Sum:
    """Deals, their amounts, and these weighted."""

    deals: int = 0
    amount: Decimal = Decimal(0)
    weighted: Decimal = Decimal(0)

    def join(self, other: Sum) -> None:
        """Takes in another sum."""
        self.deals, self.amount = self.deals + other.deals, self.amount + other.amount
        self.weighted += other.weighted

    def add(self, amount: Money | None, weighted: Money | None) -> None:
        """Takes in a deal."""
        self.deals += 1
        self.amount += amount.amount if amount else Decimal(0)
        # Weighted amounts are rounded deal by deal; the sum is never rounded again.
        self.weighted += weighted.amount if weighted else Decimal(0)


async def sums(statement: Any, start: date, end: date, day: date, call: Call) -> dict[tuple[str, str], Sum]:
    """The deals by category and currency, each in exactly one."""
    buckets: dict[tuple[str, str], Sum] = defaultdict(Sum)
    for deal in await call.db.scalars(statement):
        if category := _category(deal, start, end, day):
            buckets[category, deal.amount.currency if deal.amount else ""].add(
                deal.amount, deal.weighted_amount
            )
    return buckets


async def forecast(request: pb.EvaluateForecastRequest, call: Call) -> pb.EvaluateForecastResponse:
    """Every open deal in exactly one bucket, and what was won in the period."""
    start, end = read_date(request.from_date), read_date(request.to_date)
    if start is None or end is None:
        raise Validation(required("from_date" if start is None else "to_date"))
    day = today(call)
    statement = select(Opportunity).where(
        Opportunity.state.in_((*RUNNING, "WON")), predicate(Opportunity, call.caller)
    )
    if request.department:
        statement = statement.where(Opportunity.department.in_(with_beneath([request.department], call)))
    buckets = await sums(statement, start, end, day, call)
    whole: dict[str, Sum] = defaultdict(Sum)
    for (category, currency), one in buckets.items():
        if category != "CLOSED":
            whole[currency].join(one)
    reply = pb.EvaluateForecastResponse(
        buckets=[_bucket(category, currency, one) for (category, currency), one in sorted(buckets.items())],
        open=[_bucket("", currency, one) for currency, one in sorted(whole.items())],
    )
    if request.currency:
        _convert(reply, buckets, request.currency, call)
    return reply


def _category(deal: Opportunity, start: date, end: date, day: date) -> str:
    """The one bucket of a deal; empty where it is none of the period's."""
    if deal.state == "WON":
        closed = deal.close_time.astimezone(ZONE).date() if deal.close_time else None
        return "CLOSED" if closed and start <= closed <= end else ""
    due = deal.expected_close_date
    if due is None:
        return "UNDATED"
    if due < day:
        return "SLIPPED"
    if due > end:
        return "LATER"
    return "EARLIER" if due < start else deal.forecast_category or "PIPELINE"


def _bucket(category: str, currency: str, one: Sum) -> Any:
    told = pb.EvaluateForecastResponse.Bucket(category=category, currency=currency, deals=one.deals)
    if currency:
        told.amount.CopyFrom(Money(one.amount, currency).message())
        told.weighted.CopyFrom(Money(one.weighted, currency).message())
    return told


def _convert(
    reply: pb.EvaluateForecastResponse, buckets: dict[tuple[str, str], Sum], currency: str, call: Call
) -> None:
    """Converts what is due in the period by the rates of today; what has no rate is left out and counted."""
    check_currency(currency, "currency")
    amount, weighted, oldest = zero(currency), zero(currency), None
    for (category, own), one in buckets.items():
        if category not in ("PIPELINE", "BEST_CASE", "COMMIT") or not own:
            continue
        rate = rate_of(own, currency, today(call), call)
        if rate is None:
            reply.unconverted += one.deals
            continue
        amount += Money(one.amount * rate.value, currency).rounded()
        weighted += Money(one.weighted * rate.value, currency).rounded()
        if rate.day is not None:
            oldest = min(filter(None, (oldest, rate.day)))
    reply.converted_amount.CopyFrom(amount.message())
    reply.converted_weighted.CopyFrom(weighted.message())
    if oldest is not None:
        reply.rate_date.CopyFrom(to_date(oldest))


async def outlook(deal: Opportunity, call: Call) -> pb.GetOpportunityOutlookResponse:
    """How long won deals of the pipeline still took from this stage, and how often they were won.

    Everybody's deals count: the figures tell of nobody's. To a partner his own alone: how we sell is not told.
    """
    closed = select(Opportunity.state, Opportunity.stage_history, Opportunity.close_time).where(
        Opportunity.pipeline == deal.pipeline, Opportunity.state.in_(("WON", "LOST"))
    )
    if call.caller.account:
        closed = closed.where(predicate(Opportunity, call.caller))
    days: list[int] = []
    won = passed = 0
    async with call.everybody():
        for state, history, close_time in await call.db.execute(closed):
            visit = next((visit for visit in history or () if visit.stage == deal.stage), None)
            if visit is None or close_time is None:
                continue
            passed += 1
            if state == "WON":
                won += 1
                entered = visit.enter_time.ToDatetime(close_time.tzinfo)
                days.append(max((close_time - entered) // timedelta(days=1), 0))
    last = deal.stage_history[-1].enter_time.ToDatetime(call.now.tzinfo) if deal.stage_history else call.now
    reply = pb.GetOpportunityOutlookResponse(won=won, closed=passed, days_in_stage=(call.now - last).days)
    if won >= FEWEST:
        reply.basis, reply.days_needed = True, round(median(days))
    if passed:
        low, high = wilson(won, passed)
        reply.win_percent = _percent(won / passed)
        reply.lowest_percent, reply.highest_percent = _percent(low), _percent(high)
    return reply


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 90 % interval of a share."""
    share = successes / trials
    middle = (share + Z * Z / (2 * trials)) / (1 + Z * Z / trials)
    half = Z * sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials)) / (1 + Z * Z / trials)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _percent(share: float) -> str:
    return f"{share * 100:.2f}"
