"""Facts that sales listens to. Each may come twice and in any order."""

from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

from crm.billing.v1 import events_pb2 as billing_events
from crm.common.v1 import common_pb2
from crm.customer.v1 import events_pb2 as customer_events
from crm.marketing.v1 import events_pb2 as marketing_events
from crm.orders.v1 import events_pb2 as orders_events
from crm.sales.v1 import events_pb2 as events_of_sales
from crm.sales.v1 import pb
from crm.workspace.v1 import events_pb2 as workspace_events
from crmkit.bulk import create_many
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import NotFound
from crmkit.events import Fact, listens
from crmkit.values import Money
from sqlalchemy import exists, select

from sales.commission_work import (
    enter_waiting,
    gave_back,
    money_moved,
    money_went_back,
    signed,
    took_nothing,
    unsigned,
)
from sales.model.commission_statement import CommissionStatement, debts_left
from sales.model.conversion import complete
from sales.model.gates import ACTIVITY, FILE, note
from sales.model.lead import Lead, LeadSource
from sales.model.opportunity import Opportunity
from sales.model.pipeline import RUNNING
from sales.model.quote import Quote
from sales.model.quote_records import remember
from sales.model.sales_task import SalesTask
from sales.model.shared_credit import share_credit, share_no_more
from sales.model.tax_rates import learn
from sales.territories import stays

# The reason of a deal that ended because its customer went into the sea.
RETURNED = "OTHER"
# Until when the first task for a new customer is due.
FIRST_CONTACT = timedelta(days=7)
# Answers of a form by the names that its fields map to.
_FORM_FIELDS = {
    "companyName": "company_name", "personName": "person_name", "title": "title", "wechat": "wechat", "need": "need",
    "industry": "industry",
}  # fmt: skip


async def on_lead_account_resolved(event: customer_events.LeadAccountResolved, call: Call) -> None:
    """The customer service has made or linked the account, or found that somebody else has that customer."""
    lead = await call.named(Lead, event.lead, lock=True)
    # A lead that was reopened meanwhile asks again when it is ready; the answer will be the same.
    if lead is None or lead.state != "CONVERTING":
        return
    if event.account:
        await complete(lead, event.account, event.contact, call)
    else:
        lead.hold_conversion(event.case, event.reason, event.department)


async def on_account_owner_changed(event: customer_events.AccountOwnerChanged, call: Call) -> None:
    """Open business of the owner before goes along; stage, state and follow-ups stay."""
    # A handover says itself what goes to whom.
    if not event.to or event.how == "TRANSFER":
        return
    before = getattr(event, "from")  # a word of the language
    statement = select(Opportunity).where(
        Opportunity.account == event.account.name,
        Opportunity.state.in_(RUNNING),
        Opportunity.owner != event.to,
    )
    # Deals that somebody kept when the customer went into the sea stay there; those handed over have no owner.
    statement = statement.where(Opportunity.owner == before)
    stay = event.how == "TERRITORY" and await stays(event.cause, call)
    for opportunity in () if stay else await call.db.scalars(statement.with_for_update()):
        opportunity.follow(event.to, event.account.department)
    won = select(Opportunity).where(Opportunity.account == event.account.name, Opportunity.state == "WON")
    for opportunity in await call.db.scalars(won.with_for_update()):
        opportunity.hand_over(before, event.to, today(call))


async def on_account_returned_to_pool(event: customer_events.AccountReturnedToPool, call: Call) -> None:
    """Open deals of the owner before: kept, waiting with the customer for whoever claims it, or ended."""
    if event.open_business not in ("HAND_OVER", "CLOSE"):
        return
    before = getattr(event, "from")  # a word of the language
    statement = select(Opportunity).where(
        Opportunity.account == event.account.name,
        Opportunity.state.in_(RUNNING),
        Opportunity.owner == before,
    )
    for opportunity in await call.db.scalars(statement.with_for_update()):
        if event.open_business == "CLOSE":
            opportunity.lose(RETURNED, "", call)
        else:
            opportunity.follow("", event.from_department)


async def on_collision_decided(event: customer_events.CollisionDecided, call: Call) -> None:
    """Who shares a customer by a verdict shares the credit of its open deals, until an appeal ends otherwise."""
    shares = {split.employee: split.percent for split in event.splits}
    if event.verdict != "SHARE" and not event.final:
        return
    statement = select(Opportunity).where(
        Opportunity.account.in_(list(event.accounts)), Opportunity.state.in_(RUNNING)
    )
    for opportunity in await call.db.scalars(statement.with_for_update()):
        if event.verdict == "SHARE":
            await share_credit(opportunity, event.case.name, shares, call)
        else:
            await share_no_more(opportunity, event.case.name, call)


async def on_earner_offboarded(event: workspace_events.EmployeeOffboarded, call: Call) -> None:
    """Finance settles what somebody owes who has left."""
    await debts_left(event.employee.name, call)


async def on_form_submitted(event: marketing_events.FormSubmitted, call: Call) -> None:
    """One lead for each submission, or one more touch of an open one."""
    submission, values = event.submission, event.values
    lead = Lead(
        channel="WEB", external_id=submission.name, source=submission.name, campaign=event.campaign,
        department=submission.department, display_name=submission.display_name,
        **{field: values[key] for key, field in _FORM_FIELDS.items() if key in values},
    )  # fmt: skip
    lead.phones = [common_pb2.Phone(number=values["phone"], primary=True)] if "phone" in values else []
    lead.emails = [common_pb2.Email(address=values["email"], primary=True)] if "email" in values else []
    lead.interests = [pb.Lead.Interest(product_line=values["productLine"])] if "productLine" in values else []
    await lead.capture(call)


@listens("crm.customer.v1.ResourceChanged.accounts.DELETED")
async def on_accounts_changed(events: list[Fact], call: Call) -> None:
    """A lead whose account was deleted says so; what it knew can become a new lead."""
    gone = [event.payload["name"] for event in events]
    lost = select(Lead).where(Lead.account.in_(gone), Lead.account_delete_time.is_(None))
    for lead in await call.db.scalars(lost.with_for_update()):
        lead.account_delete_time = call.now
        call.emit(events_of_sales.LeadAccountDeleted, lead=lead)


@listens("crm.customer.v1.AccountCreated")
async def on_customer_created(events: list[Fact], call: Call) -> None:
    """Whoever has a new customer gets the first task for it, once; what an import brings in is nobody's to call."""
    accounts = {
        account["name"]: account
        for account in (event.payload["account"] for event in events)
        if account.get("owner") and account.get("ownerHow") == "CREATE"
    }
    known = await call.db.scalars(select(SalesTask.source).where(SalesTask.source.in_(accounts)))
    for name in list(known):
        del accounts[name]
    tasks = [await _first_contact(account, call) for account in accounts.values()]
    await create_many(call, tasks)
    for task in tasks:
        # Who has made the customer need not be told of it.
        if task.owner != accounts[task.source].get("creator"):
            task.tell_executors(call)


async def _first_contact(account: dict[str, Any], call: Call) -> SalesTask:
    owner: str = account["owner"]
    superior = call.entry(owner).get("superior")
    task = SalesTask(
        display_name=f"首次联系：{account.get('displayName', '')}"[:200], about=account["name"], source=account["name"],
        executors=[owner], supervisor=superior or owner, owner=owner,
        department=account.get("department", ""), creator=owner, due_time=call.now + FIRST_CONTACT,
    )  # fmt: skip
    await task.creating(call)
    task.state = "ASSIGNED"
    return task


async def on_submission_qualified(event: marketing_events.SubmissionQualified, call: Call) -> None:
    """Marketing found the lead good; where sales has moved it already, the fact changes nothing."""
    lead = await _lead_of(event.submission.name, call)
    if lead.state == "NEW" and event.assignee:
        await lead.assign(event.assignee, call)
    elif lead.state == "NEW":
        lead.work(call)


async def on_submission_discarded(event: marketing_events.SubmissionDiscarded, call: Call) -> None:
    """Marketing found that it was none; where sales has moved it already, the fact changes nothing."""
    lead = await _lead_of(event.submission.name, call)
    if lead.state == "NEW":
        await lead.cancel(event.reason, call)


async def on_contract_signed(event: orders_events.ContractSigned, call: Call) -> None:
    """A deal with a signed contract is not reopened; signing may earn."""
    await _ordered(event.contract.opportunity, call)
    await signed(event.contract, call)


async def on_order_placed(event: orders_events.OrderPlaced, call: Call) -> None:
    """Nor is one with an order; what the customer paid is remembered."""
    order = event.order
    await _ordered(order.opportunity, call)
    lines = [
        (
            item.key,
            item.product,
            Decimal(item.quantity or 0),
            Money.of(item.net.amount, item.net.currency_code),
        )
        for item in order.items
        if item.product and item.net.amount
    ]
    await remember(order.name, order.number, order.account, order.owner, lines, call.now, call)


async def on_interaction_logged(event: customer_events.InteractionLogged, call: Call) -> None:
    """A follow-up counts for the deals that it is about."""
    talk = event.interaction
    await note(ACTIVITY, talk.name, talk.subjects, talk.start_time.ToDatetime(UTC), call)


async def on_file_uploaded(event: workspace_events.FileUploaded, call: Call) -> None:
    """A file counts for the deals that it lies at."""
    file = event.file
    await note(FILE, file.name, file.attached_to, file.create_time.ToDatetime(UTC), call)


async def on_payment_allocated(event: billing_events.PaymentAllocated, call: Call) -> None:
    """Collected money earns, and the buyer sees that he has paid."""
    for target in event.targets:
        await money_moved(target, call)
        await quote_paid(target, 1, call)


async def quote_paid(target: Any, sign: int, call: Call) -> None:
    """What is paid of what became of a quote: the sum of what is tied to it, in whatever order it is told."""
    quote = await call.named(Quote, target.quote, lock=True) if target.quote else None
    money = Money.parse(target.allocation.amount)
    if quote is not None and money is not None and money.currency == quote.currency:
        quote.paid(money * Decimal(sign))


async def on_allocation_reversed(event: billing_events.AllocationReversed, call: Call) -> None:
    """What is taken back takes its commission back, within the months of the plan."""
    for target in event.targets:
        await money_went_back(target, call)
        await quote_paid(target, -1, call)


@listens("crm.billing.v1.PaymentRefunded")
async def on_payment_refunded(event: Fact, call: Call) -> None:
    """Money that was paid back takes its commission back."""
    cause = str((event.payload.get("refund") or {}).get("name") or event.aggregate)
    for target in event.payload.get("targets", []):
        allocation, invoice = target["allocation"], target.get("invoice") or {}
        net = Decimal((allocation.get("net") or {}).get("amount") or 0)
        if net and invoice.get("name"):
            name = allocation["name"]
            await gave_back(f"{cause}#{name}", "REFUND", invoice["name"], name, net, call)


@listens("crm.billing.v1.CreditNoteIssued")
async def on_credit_note_issued(event: Fact, call: Call) -> None:
    """What an invoice no longer asks for earns no more, also where it was paid already."""
    note = event.payload.get("creditNote") or {}
    net = sum(
        (Decimal((line.get("net") or {}).get("amount") or 0) for line in note.get("lines", [])), Decimal(0)
    )
    if net and note.get("invoice"):
        await gave_back(note["name"], "CREDIT", note["invoice"], "", net, call)


@listens("crm.billing.v1.CreditNoteVoided")
async def on_credit_note_voided(event: Fact, call: Call) -> None:
    """The invoice asks for as much as before: a note that was taken back takes nothing, whenever it is told."""
    note = event.payload["creditNote"]
    await took_nothing(note["name"], "CREDIT", note["invoice"], call)


async def on_contract_terminated(event: orders_events.ContractTerminated, call: Call) -> None:
    """What was earned by signing is taken back."""
    await unsigned(event.contract, call)


async def on_opportunity_won(event: events_of_sales.OpportunityWon, call: Call) -> None:
    """Money that came in before counts from now on."""
    await enter_waiting(event.opportunity.name, call)


@listens("crm.billing.v1.TaxRateChanged")
async def on_tax_rate_changed(event: Fact, call: Call) -> None:
    """New quotes have the rate of billing; versions that are priced keep theirs."""
    if told := event.payload.get("taxRate"):
        await learn(told, call)


@listens("crm.billing.v1.PayoutPaid")
async def on_payout_paid(event: Fact, call: Call) -> None:
    """A paid payout of ours ends its statement."""
    payout = event.payload.get("payout", {})
    source = str(event.payload.get("source") or payout.get("source") or "")
    if not source.startswith("commissionStatements/"):
        return
    statement = await call.named(CommissionStatement, source, lock=True)
    if statement is not None and statement.state == "PAYING":
        statement.paid()


async def _lead_of(submission: str, call: Call) -> Lead:
    """The lead of a submission; where it is not made yet, the fact is tried again."""
    made_of = exists().where(
        LeadSource.channel == "WEB", LeadSource.external_id == submission, LeadSource.lead == Lead.id
    )
    lead = await call.find(Lead, made_of, lock=True)
    if lead is None:
        raise NotFound()
    return lead


async def _ordered(name: str, call: Call) -> None:
    if not name:
        return
    opportunity = await call.named(Opportunity, name, lock=True)
    if opportunity is not None:
        opportunity.ordered = True
