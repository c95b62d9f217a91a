"""How deals ended where competitors were named."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.listing import ZONE
from crmkit.mapping import read_date, to_timestamp
from crmkit.notices import raise_notice
from crmkit.scope import predicate
from sqlalchemy import select

from sales.model.competitor import Competitor
from sales.model.opportunity import Opportunity

FEW = 5
# What a card tells of the news.
NEWS = 5


async def win_rates(start: date | None, end: date | None, call: Call) -> pb.ListWinRatesResponse:
    """Counts the closed deals that the caller sees, once for each competitor that they name."""
    statement = select(
        Opportunity.state, Opportunity.competitors, Opportunity.lost_to, Opportunity.loss_reason
    ).where(Opportunity.state.in_(("WON", "LOST")), predicate(Opportunity, call.caller))
    if start is not None:
        statement = statement.where(Opportunity.close_time >= datetime.combine(start, time(), ZONE))
    if end is not None:
        statement = statement.where(
            Opportunity.close_time < datetime.combine(end + timedelta(days=1), time(), ZONE)
        )
    deals, won, lost = Counter[str](), Counter[str](), Counter[str]()
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for state, rivals, lost_to, reason in await call.db.execute(statement):
        for name in {*(rival.competitor for rival in rivals or ()), *([lost_to] if lost_to else [])}:
            deals[name] += 1
            won[name] += state == "WON"
            lost[name] += lost_to == name
            if state == "LOST":
                reasons[name][reason] += 1
    known = {row.name: row.display_name for row in await call.db.scalars(select(Competitor))}
    rates = [
        pb.ListWinRatesResponse.WinRate(
            competitor=name, display_name=known.get(name, ""), deals=count, won=won[name], lost_to_them=lost[name],
            win_percent=_percent(won[name], count), few=count < FEW,
            reasons=[
                pb.ListWinRatesResponse.Reason(reason=reason, count=times) for reason, times in reasons[name].most_common()
            ],
        )
        for name, count in sorted(deals.items(), key=lambda one: (-one[1], one[0]))
    ]  # fmt: skip
    return pb.ListWinRatesResponse(rates=rates)


async def battle_cards(digest: str, call: Call) -> pb.ListBattleCardsResponse:
    """The cards of all competitors in the market, unless the caller has them already."""
    statement = select(Competitor).where(Competitor.state == "ACTIVE", predicate(Competitor, call.caller))
    reply = pb.ListBattleCardsResponse()
    for one in await call.db.scalars(statement.order_by(Competitor.display_name, Competitor.id)):
        news = sorted(one.news, key=lambda said: read_date(said.date) or date.min, reverse=True)[:NEWS]
        reply.cards.add(
            competitor=one.name, display_name=one.display_name, battle_card=one.battle_card, products=one.products,
            news=news, update_time=to_timestamp(one.update_time),
        )  # fmt: skip
    reply.digest = sha256(reply.SerializeToString(deterministic=True)).hexdigest()
    if digest == reply.digest:
        return pb.ListBattleCardsResponse(digest=digest, unchanged=True)
    return reply


def _percent(part: int, whole: int) -> str:
    return str((Decimal(part) * 100 / whole).quantize(Decimal("0.1")))


async def notice_incumbents(rows: Any, call: Call) -> None:
    """Tells the owners that it is time."""
    for row in rows:
        account = (await call.copy(row.account) or {}).get("displayName", row.account)
        end = row.contract_end_date
        zh = f"“{account}”与竞争对手的合同将于 {end} 到期"
        en = f"{account}: the competitor's contract ends on {end}"
        people, subjects = [row.owner], [row.name, row.account]
        raise_notice(
            "incumbent", zh, en, call, key=f"{row.name}:{end}", employees=people, subjects=subjects, about=row
        )
