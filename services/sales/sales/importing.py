"""Deals of another system, brought in row by row: each is taken or comes back with all its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from crm.sales.v1 import pb
from crmkit.amounts import check_currency
from crmkit.approvals import hold_row, policy_over
from crmkit.bulk import create_many
from crmkit.call import Call
from crmkit.errors import InvalidArgument
from crmkit.listing import ZONE
from crmkit.mapping import read_date, to_timestamp
from crmkit.resource import parse_name
from crmkit.tables import Copy, HeldAction
from crmkit.values import Money
from sqlalchemy import exists, func, select

from sales.model.opportunity import Opportunity
from sales.model.pipeline import Pipeline
from sales.model.product import Product
from sales.pricing import share

MOST = 2000
METHOD = "ImportOpportunities"
STATES = {"": "OPEN", "OPEN": "OPEN", "WON": "WON", "LOST": "LOST"}


async def brought_in(request: pb.ImportOpportunitiesRequest, call: Call) -> pb.ImportOpportunitiesResponse:
    """Makes the deals that are not here yet, or says of each row what would become of it."""
    if len(request.rows) > MOST:
        raise InvalidArgument("MALFORMED", detail=f"rows > {MOST}")
    check_currency(request.currency, "currency")
    await call.one_at_a_time(["opportunities.import"])
    pipeline = await Opportunity(pipeline=request.pipeline).its_pipeline(call)
    aliases = {one.from_text.strip(): one.to_text.strip() for one in request.products}
    accounts = await _accounts({row.account.strip() for row in request.rows}, call)
    products = await _products(
        {aliases.get(row.product.strip(), row.product.strip()) for row in request.rows}, call
    )
    keys = [row.external_id for row in request.rows]
    async with call.everybody():
        known = set(
            await call.db.scalars(select(Opportunity.external_id).where(Opportunity.external_id.in_(keys)))
        )
    waiting = exists().where(HeldAction.state == "HELD")
    reply, made = pb.ImportOpportunitiesResponse(), list[Opportunity]()
    for place, row in enumerate(request.rows):
        if row.external_id in known:
            reply.known += 1
            continue
        product = products.get(aliases.get(row.product.strip(), row.product.strip()))
        account = accounts.get(row.account.strip())
        wrong = _wrong(row, account, product, pipeline)
        if wrong:
            reply.refusals.add(
                line=(request.first_line or 1) + place, external_id=row.external_id, reasons=[code for code, _ in wrong],
                value=wrong[-1][1],
            )  # fmt: skip
            continue
        known.add(row.external_id)
        deal = _deal(row, account or "", product, pipeline, request.currency, call)
        call.own(deal)
        policy = policy_over(deal, "create", call)
        if policy is None:
            made.append(deal)
            continue
        # The same row of the same file asks once.
        deal.id = deal.id if row.name else uuid5(NAMESPACE_OID, f"opportunities:{row.external_id}")
        if await call.db.scalar(select(waiting.where(HeldAction.target == deal.name))):
            reply.known += 1
            continue
        if not request.dry_run:
            hold_row(call.running.pipeline.methods[METHOD], _alone(request, row, deal), deal, policy, call)
        reply.held += 1
    if not request.dry_run:
        await create_many(call, made)
    reply.created = len(made)
    return reply


def _alone(request: pb.ImportOpportunitiesRequest, row: Any, deal: Opportunity) -> Any:
    """The same request for one row, which keeps its name from now on."""
    one = pb.ImportOpportunitiesRequest()
    one.CopyFrom(request)
    del one.rows[:]
    one.rows.add().CopyFrom(row)
    one.rows[0].name = deal.name
    return one


def _wrong(
    row: Any, account: str | None, product: Product | None, pipeline: Pipeline
) -> list[tuple[str, str]]:
    """Every reason why a row cannot be taken, with what was written."""
    found: list[tuple[str, str]] = []
    if not row.account.strip():
        found.append(("ACCOUNT_MISSING", ""))
    elif account is None:
        found.append(("ACCOUNT_UNKNOWN", row.account))
    if row.product.strip() and product is None:
        found.append(("PRODUCT_UNKNOWN", row.product))
    if row.state.upper() not in STATES:
        found.append(("STATE_UNKNOWN", row.state))
    if row.stage and pipeline.stage(row.stage) is None:
        found.append(("STAGE_UNKNOWN", row.stage))
    if row.amount and Decimal(row.amount) < 0:
        found.append(("AMOUNT_WRONG", row.amount))
    return found


def _deal(
    row: Any, account: str, product: Product | None, pipeline: Pipeline, currency: str, call: Call
) -> Opportunity:
    state = STATES[row.state.upper()]
    stage: Any = pipeline.stage(row.stage) or pipeline.stages[0]
    opened, closed = _instant(row.open_date), _instant(row.close_date)
    amount = Money(Decimal(row.amount), currency).rounded() if row.amount else None
    probability = {"WON": Decimal(100), "LOST": Decimal(0)}.get(state, Decimal(stage.probability or 0))
    deal = Opportunity(
        display_name=f"{product.display_name if product else row.external_id} {row.external_id}", account=account,
        pipeline=pipeline.name, stage=stage.key, state=state, amount=amount, probability=probability,
        probability_source="STAGE", external_id=row.external_id, need=row.agent,
        forecast_category={"WON": "CLOSED", "LOST": "OMITTED"}.get(
            state, pb.Pipeline.ForecastCategory.Name(stage.forecast_category) if stage.forecast_category else ""
        ),
    )  # fmt: skip
    if product is not None and amount is not None:
        line = pb.Opportunity.Line(product=product.name, description=product.display_name, quantity="1")
        line.unit_price.CopyFrom(amount.message())
        line.amount.CopyFrom(amount.message())
        deal.lines = [line]
    deal.weighted_amount = share(amount, probability) if amount else None
    deal.close_time = closed if state != "OPEN" else None
    deal.expected_close_date = read_date(row.close_date)
    if row.name:
        deal.id = parse_name(row.name, "opportunities")
    deal.origin = pb.Origin(opportunity=deal.name)
    visit = pb.Opportunity.StageVisit(
        stage=stage.key, enter_time=to_timestamp(opened or call.now), actor=call.caller.actor
    )
    if state != "OPEN" and closed is not None:
        visit.leave_time.FromDatetime(closed)
        visit.days = max((closed - (opened or call.now)).days, 0)
    deal.stage_history = [visit]
    return deal


def _instant(day: Any) -> datetime | None:
    found: date | None = read_date(day)
    return datetime.combine(found, time(), ZONE) if found else None


async def _accounts(names: set[str], call: Call) -> dict[str, str]:
    """The accounts of these names; a name that two have is nobody's."""
    wanted = sorted(name for name in names if name)
    title = Copy.payload["displayName"].astext
    statement = (
        select(title, func.min(Copy.name), func.count())
        .where(Copy.collection == "accounts", ~Copy.deleted, title.in_(wanted))
        .group_by(title)
    )
    return {name: key for name, key, count in await call.db.execute(statement) if count == 1}


async def _products(texts: set[str], call: Call) -> dict[str, Product]:
    """The products of these names or codes."""
    wanted: Sequence[str] = sorted(text for text in texts if text)
    rows = await call.db.scalars(
        select(Product)
        .where(Product.display_name.in_(wanted) | Product.code.in_(wanted))
        .order_by(Product.id.desc())
    )
    found: dict[str, Product] = {}
    for row in rows:
        found[row.display_name] = row
        found[row.code] = row
    return found
