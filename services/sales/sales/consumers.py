"""Facts that sales listens to. Each may come twice and in any order."""

from collections.abc import Mapping
from typing import Any

from crm.common.v1 import common_pb2
from crm.customer.v1 import events_pb2 as customer_events
from crm.orders.v1 import events_pb2 as orders_events
from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.events import Fact, listens
from sqlalchemy import select

from sales.model.conversion import complete
from sales.model.lead import Lead, uuid_of
from sales.model.opportunity import Opportunity
from sales.model.pipeline import RUNNING

# Answers of a form by the names that its fields map to.
_FORM_FIELDS = {
    "companyName": "company_name", "personName": "person_name", "title": "title", "wechat": "wechat", "need": "need",
    "industry": "industry",
}  # fmt: skip


@listens("crm.customer.v1.LeadAccountResolved")
async def on_lead_account_resolved(event: Fact, call: Call) -> None:
    """The customer service has made or linked the account, or found that somebody else has that customer."""
    answer = event.payload
    lead = await call.find(Lead, Lead.id == uuid_of(answer["lead"]), lock=True)
    # A lead that was reopened meanwhile asks again when it is ready; the answer will be the same.
    if lead is None or lead.state != "CONVERTING":
        return
    if answer.get("case"):
        lead.collision_case = answer["case"]
    else:
        await complete(lead, answer["account"], answer.get("contact", ""), call)


async def on_account_owner_changed(event: customer_events.AccountOwnerChanged, call: Call) -> None:
    """Open business of the owner before goes along; stage, state and follow-ups stay."""
    if not event.to:
        return
    before = getattr(event, "from")  # a word of the language
    statement = select(Opportunity).where(
        Opportunity.account == event.account.name,
        Opportunity.state.in_(RUNNING),
        Opportunity.owner != event.to,
    )
    if before:
        statement = statement.where(Opportunity.owner == before)
    for opportunity in await call.db.scalars(statement.with_for_update()):
        opportunity.follow(event.to, event.account.department)


@listens("crm.marketing.v1.FormSubmitted")
async def on_form_submitted(event: Fact, call: Call) -> None:
    """One lead for each submission, or one more touch of an open one."""
    submission: Mapping[str, Any] = event.payload["submission"]
    values: Mapping[str, str] = event.payload.get("values", {})
    lead = Lead(
        channel="WEB", external_id=submission["name"], source=submission["name"],
        campaign=event.payload.get("campaign", ""), department=submission.get("department", ""),
        **{field: str(values[key])[:2000] for key, field in _FORM_FIELDS.items() if values.get(key)},
    )  # fmt: skip
    lead.phones = [common_pb2.Phone(number=values["phone"], primary=True)] if values.get("phone") else []
    lead.emails = [common_pb2.Email(address=values["email"], primary=True)] if values.get("email") else []
    if values.get("productLine"):
        lead.interests = [pb.Lead.Interest(product_line=values["productLine"])]
    lead.display_name = (
        lead.company_name or lead.person_name or values.get("phone") or values.get("email") or "网站表单"
    )
    await lead.capture(call)


async def on_contract_signed(event: orders_events.ContractSigned, call: Call) -> None:
    """A deal with a signed contract is not reopened."""
    await _ordered(event.contract.opportunity, call)


async def on_order_placed(event: orders_events.OrderPlaced, call: Call) -> None:
    """Nor is one with an order."""
    await _ordered(event.order.opportunity, call)


async def _ordered(name: str, call: Call) -> None:
    if not name:
        return
    opportunity = await call.find(Opportunity, Opportunity.id == uuid_of(name), lock=True)
    if opportunity is not None:
        opportunity.ordered = True
