"""Timed work of sales."""

import logging
from datetime import datetime, timedelta

from crmkit.call import Call
from crmkit.listing import ZONE
from crmkit.schedule import cron, every
from sqlalchemy import and_, delete, func, or_, select

from sales.commission_work import differing
from sales.engine import Given, run
from sales.model.appraisal import Appraisal
from sales.model.basket import KEPT_DAYS, KEPT_DAYS_SIGNED_IN, Basket
from sales.model.call_list import PAGES_DAYS, SUPERVISOR, CallEntry
from sales.model.commission_statement import make_statements
from sales.model.deal_notice import tell_of_deals
from sales.model.deal_registration import DealRegistration
from sales.model.discount_policy import DiscountPolicy
from sales.model.forecast_snapshot import take_snapshots
from sales.model.incumbency import AHEAD, Incumbency
from sales.model.joint_work_request import mind_joint_work
from sales.model.lead import Lead
from sales.model.lead_forward import lapse_due
from sales.model.phone_call import LOST, PhoneCall
from sales.model.price_book import PriceBook
from sales.model.proposal import OPEN as PROPOSAL_OPEN
from sales.model.proposal import Proposal
from sales.model.quote import ACCEPTABLE, Quote
from sales.model.quote_records import QuotePricing
from sales.model.sales_task import DUE_BEFORE, SalesTask
from sales.model.sales_task import OPEN as TASK_OPEN
from sales.model.support_request import mind_requests
from sales.model.target import Target
from sales.model.visit import Visit
from sales.performance import draft_appraisals as draft_appraisals
from sales.printing import print_unprinted
from sales.proposals import print_proposals
from sales.telesales import tell_of
from sales.territories import begin_territory_plans as begin_territory_plans
from sales.territories import follow_members as follow_members
from sales.upsell import propose_upsell as propose_upsell
from sales.winning import notice_incumbents

AT_ONCE = 500
REPLAYED = 200

log = logging.getLogger(__name__)


@every("5m", collapse=True)
async def expire_quotes(as_of: datetime, call: Call) -> None:
    """Publishes what has expired; acceptance decides by time itself, so that a late run lets nothing through."""
    today = as_of.astimezone(ZONE).date()
    over = select(Quote).where(Quote.state.in_(ACCEPTABLE), Quote.valid_until_date < today)
    for quote in await call.db.scalars(over.limit(AT_ONCE).with_for_update(skip_locked=True)):
        quote.expire(call)


@every("1m", collapse=True)
async def print_quotes(as_of: datetime, call: Call) -> None:
    """Keeps the PDF of what was submitted; whoever asks before gets the same, made at once."""
    await print_unprinted(call)
    await print_proposals(call)


@every("5m", collapse=True)
async def sweep_leads(as_of: datetime, call: Call) -> None:
    """Goes up the ladder for leads that nobody has answered, and takes those back whose time in the pool's rule is over."""
    late = select(Lead).where(Lead.next_response_time <= as_of).order_by(Lead.next_response_time)
    for lead in await call.db.scalars(late.limit(AT_ONCE).with_for_update(skip_locked=True)):
        await lead.escalate(as_of, call)
    await call.flush()
    soon = select(Lead).where(Lead.return_check_time <= as_of).order_by(Lead.return_check_time)
    for lead in await call.db.scalars(soon.limit(AT_ONCE).with_for_update(skip_locked=True)):
        await lead.sweep(as_of, call)


@every("5m", collapse=True)
async def lapse_forwards(as_of: datetime, call: Call) -> None:
    """Leads that a partner has not accepted in its hours go to the next one, or back."""
    await lapse_due(as_of, AT_ONCE, call)


@every("5m", collapse=True)
async def remind_of_tasks(as_of: datetime, call: Call) -> None:
    """Tells of sales tasks that are due within a day, and of those that are over, once for each step."""
    due = select(SalesTask).where(
        SalesTask.state.in_(TASK_OPEN),
        or_(
            and_(SalesTask.due_time <= as_of, SalesTask.notice_step != "OVERDUE"),
            and_(SalesTask.due_time <= as_of + DUE_BEFORE, SalesTask.notice_step == ""),
        ),
    )
    for task in await call.db.scalars(
        due.order_by(SalesTask.due_time).limit(AT_ONCE).with_for_update(skip_locked=True)
    ):
        task.remind(as_of, call)


@cron("0 8 * * *", zone="Asia/Shanghai", collapse=True)
async def follow_registrations(as_of: datetime, call: Call) -> None:
    """Ends protections whose days are over, and reminds of those that end and of decisions that are late."""
    day = as_of.astimezone(ZONE).date()
    live = select(DealRegistration).where(DealRegistration.state.in_(("SUBMITTED", "APPROVED")))
    for row in await call.db.scalars(live.order_by(DealRegistration.id).with_for_update(skip_locked=True)):
        if row.state == "APPROVED" and not row.protected(day):
            row.expire()
        else:
            await row.remind(day, call)


@cron("0 8 * * *", zone="Asia/Shanghai", collapse=True)
async def remind_of_proposals(as_of: datetime, call: Call) -> None:
    """Tells of the dates of proposals and tenders 7, 3 and 1 days before, once each."""
    day = as_of.astimezone(ZONE).date()
    live = select(Proposal).where(Proposal.state.in_((*PROPOSAL_OPEN, "SUBMITTED")))
    for row in await call.db.scalars(live.order_by(Proposal.id).with_for_update(skip_locked=True)):
        row.remind(day, call)


@cron("0 7 * * *", zone="Asia/Shanghai", collapse=True)
async def follow_targets(as_of: datetime, call: Call) -> None:
    """Counts targets anew, keeps on Mondays how they stand, and reminds of periods that nobody has reviewed."""
    day = as_of.astimezone(ZONE).date()
    running = select(Target).where(Target.state == "RUNNING", Target.from_date <= day).order_by(Target.id)
    wrong: list[str] = []
    for target in await call.db.scalars(running.with_for_update(skip_locked=True)):
        if await target.recount(call):
            wrong.append(target.name)
        if day.weekday() == 0:
            await target.look(min(day, target.to_date or day), call)
        target.remind(day, call)
    if wrong:
        log.error("targets were not the sum of their facts and are now", extra={"targets": wrong[:50]})


@every("5m", collapse=True)
async def mind_support(as_of: datetime, call: Call) -> None:
    """Passes on requests for help and joint work that nobody has answered, and lets those out who were let in long enough."""
    await mind_requests(as_of, AT_ONCE, call)
    await mind_joint_work(as_of, AT_ONCE, call)


@every("5m", collapse=True)
async def expire_price_books(as_of: datetime, call: Call) -> None:
    """Ends books whose days are over; pricing looks at the days itself."""
    today = as_of.astimezone(ZONE).date()
    over = select(PriceBook).where(PriceBook.state == "ACTIVE", PriceBook.valid_to_date < today)
    for book in await call.db.scalars(over.limit(AT_ONCE).with_for_update(skip_locked=True)):
        book.expire()


@every("5m", collapse=True)
async def expire_policies(as_of: datetime, call: Call) -> None:
    """Ends policies whose days are over; pricing looks at the days itself."""
    today = as_of.astimezone(ZONE).date()
    over = select(DiscountPolicy).where(
        DiscountPolicy.state.in_(("ACTIVE", "PAUSED")), DiscountPolicy.valid_to_date < today
    )
    for policy in await call.db.scalars(over.limit(AT_ONCE).with_for_update(skip_locked=True)):
        policy.expire()


@cron("0 8 * * *", zone="Asia/Shanghai", collapse=True)
async def list_incumbents(as_of: datetime, call: Call) -> None:
    """Puts customers of competitors on the attack list 180 days before their contracts end, once for each end."""
    today = as_of.astimezone(ZONE).date()
    rows = await call.db.scalars(
        select(Incumbency)
        .where(
            Incumbency.contract_end_date.is_not(None),
            Incumbency.contract_end_date <= today + AHEAD,
            Incumbency.on_attack_list | (Incumbency.contract_end_date >= today),
        )
        .with_for_update(skip_locked=True)
    )
    await notice_incumbents([row for row in list(rows) if row.refresh(today)], call)


@cron("*/5 8-20 * * *", zone="Asia/Shanghai", collapse=True)
async def tell_of_stuck_deals(as_of: datetime, call: Call) -> None:
    """Tells by day of deals that stand still, are past their date or have rested long enough, once for each date."""
    await tell_of_deals(as_of, call)


@cron("10 0 * * *", zone="Asia/Shanghai", collapse=True)
async def miss_visits(as_of: datetime, call: Call) -> None:
    """Visits of the days before that nobody checked in at are missed."""
    midnight = as_of.astimezone(ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    over = select(Visit).where(Visit.state == "PLANNED", Visit.planned_time < midnight)
    for visit in await call.db.scalars(over.with_for_update(skip_locked=True)):
        visit.miss()


@cron("5 0 * * 1", zone="Asia/Shanghai", collapse=True)
async def snapshot_forecasts(as_of: datetime, call: Call) -> None:
    """Keeps what every department expects of the month, once a week."""
    await take_snapshots(as_of, call)


@cron("0 4 5 * *", zone="Asia/Shanghai", collapse=True)
async def write_statements(as_of: datetime, call: Call) -> None:
    """Makes the commission statements of the month before, once for each person and month."""
    await make_statements(as_of, call)


@cron("20 0 * * *", zone="Asia/Shanghai", collapse=True)
async def settle_appraisals(as_of: datetime, call: Call) -> None:
    """A sheet that nobody appealed against within its days stands."""
    day = as_of.astimezone(ZONE).date()
    over = select(Appraisal).where(Appraisal.state == "PUBLISHED", Appraisal.appeal_until_date < day)
    for sheet in await call.db.scalars(over.order_by(Appraisal.id).with_for_update(skip_locked=True)):
        sheet.settle(call)


@cron("30 2 * * *", zone="Asia/Shanghai", collapse=True)
async def replay_prices(as_of: datetime, call: Call) -> None:
    """Prices a sample of accepted versions again from what was kept; a difference means that the engine is wrong."""
    different = await replayed(call)
    if different:
        log.error("accepted prices replay differently", extra={"quotes": different})
        raise RuntimeError(f"{len(different)} accepted prices replay differently: {', '.join(different[:5])}")


@cron("40 2 * * *", zone="Asia/Shanghai", collapse=True)
async def replay_commissions(as_of: datetime, call: Call) -> None:
    """Reckons the commissions of this year and the one before anew; a difference means that the ledger is wrong."""
    year = as_of.astimezone(ZONE).year
    for wrong in (await differing(call, year - 1), await differing(call, year)):
        if wrong:
            log.error("the ledger of commissions is not the reckoning", extra={"people": sorted(wrong)[:20]})
            raise RuntimeError(f"{len(wrong)} commissions differ from the reckoning")


async def replayed(call: Call) -> list[str]:
    """The accepted versions of a random sample whose price comes out differently."""
    sample = (
        select(QuotePricing)
        .join(Quote, Quote.id == QuotePricing.quote)
        .where(Quote.state == "ACCEPTED")
        .order_by(func.random())
        .limit(REPLAYED)
    )
    rows = await call.db.scalars(sample)
    return [f"quotes/{row.quote}" for row in rows if run(Given.of_json(row.given)).digest != row.digest]


@every("1m", collapse=True)
async def mind_calls(as_of: datetime, call: Call) -> None:
    """Tells of promised calls at their minute and of those an hour late; gives locks back, closes calls without an end."""
    late = as_of - SUPERVISOR
    due = select(CallEntry).where(
        CallEntry.state == "CALLBACK", CallEntry.next_time <= as_of,
        (CallEntry.notice_step == "") | ((CallEntry.notice_step == "DUE") & (CallEntry.next_time <= late)),
    )  # fmt: skip
    for entry in await call.db.scalars(
        due.order_by(CallEntry.next_time).limit(AT_ONCE).with_for_update(skip_locked=True)
    ):
        entry.notice_step = "LATE" if entry.next_time is not None and entry.next_time <= late else "DUE"
        await tell_of(entry, call)
    left = select(CallEntry).where(CallEntry.state == "LOCKED", CallEntry.lock_until_time <= as_of)
    for entry in await call.db.scalars(left.limit(AT_ONCE).with_for_update(skip_locked=True)):
        busy = PhoneCall.state.in_(("DIALLING", "CONNECTED", "ENDED"))
        if await call.find(PhoneCall, PhoneCall.entry == entry.name, busy) is None:
            entry.put_back()
    lost = select(PhoneCall).where(
        PhoneCall.state.in_(("DIALLING", "CONNECTED")), PhoneCall.start_time <= as_of - LOST
    )
    for row in await call.db.scalars(lost.limit(AT_ONCE).with_for_update(skip_locked=True)):
        row.close_lost(as_of)


@every("1h", collapse=True)
async def forget_pages(as_of: datetime, call: Call) -> None:
    """What a visitor of the web site looked at is kept for thirty days, also where he was never reached."""
    old = select(CallEntry).where(
        func.jsonb_array_length(CallEntry.pages) > 0,
        CallEntry.create_time <= as_of - timedelta(days=PAGES_DAYS),
    )
    for entry in await call.db.scalars(old.order_by(CallEntry.id).limit(AT_ONCE).with_for_update()):
        entry.pages = []


@every("1h", collapse=True)
async def clear_baskets(as_of: datetime, call: Call) -> None:
    """Baskets that nobody has touched for long are gone, those of visitors sooner."""
    for owned, days in ((Basket.keeper == "", KEPT_DAYS), (Basket.keeper != "", KEPT_DAYS_SIGNED_IN)):
        await call.db.execute(delete(Basket).where(owned, Basket.touch_time < as_of - timedelta(days=days)))
