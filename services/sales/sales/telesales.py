"""Selling by telephone: what concerns more than one record, and the exchange."""

from __future__ import annotations

import hmac
import json
import logging
from datetime import UTC
from typing import Any

import httpx
from crm.common.v1 import common_pb2
from crm.customer.v1 import events_pb2 as customer_events
from crm.customer.v1 import pb as customer_pb
from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crm.servicedesk.v1 import events_pb2 as desk_events
from crm.servicedesk.v1 import pb as desk_pb
from crm.workspace.v1 import events_pb2 as workspace_events
from crmkit.call import Call
from crmkit.errors import NotFound
from crmkit.notices import raise_notice
from crmkit.phones import e164
from crmkit.scope import predicate
from crmkit.search import SearchTerm, found_by
from crmkit.standard import Standard
from sqlalchemy import select

from sales.model.call_list import Asked, CallEntry, CallList, agents_left, allow, ask_back, refuse
from sales.model.call_script import CallScript
from sales.model.known_number import on_numbers_changed, records_with
from sales.model.lead import Lead, LeadKey, uuid_of
from sales.model.opportunity import Opportunity
from sales.model.phone_call import PhoneCall, check_wrapped_up, dial, dial_anybody, incoming, subject_of
from sales.model.phone_line import PhoneLine
from sales.model.pipeline import RUNNING

AT_ONCE = 500
FOUND = 50
ANSWERS_WITHIN = 5.0

log = logging.getLogger(__name__)


class TelesalesMethods:
    """Call lists, their entries, calls and scripts."""

    call_lists = Standard(CallList)
    call_entries = Standard(CallEntry)
    calls = Standard(PhoneCall)
    call_scripts = Standard(CallScript)
    phone_lines = Standard(PhoneLine)

    async def GenerateCallList(
        self, request: pb.GenerateCallListRequest, call: Call
    ) -> pb.GenerateCallListResponse:
        book = await call.load(CallList, request)
        return await book.generate(request.preview, call)

    async def DistributeCallList(
        self, request: pb.DistributeCallListRequest, call: Call
    ) -> pb.DistributeCallListResponse:
        book = await call.load(CallList, request)
        method = pb.DistributeCallListRequest.Method.Name(request.method)
        reply = pb.DistributeCallListResponse()
        for employee, entries in await book.distribute(method, request.again, call):
            reply.shares.add(employee=employee, entries=entries)
        return reply

    async def NextCallEntry(self, request: Any, call: Call) -> CallEntry:
        """Agents see the list that they are members of, whoever owns it."""
        await check_wrapped_up(call)
        return await (await _list_of_member(request.name, call)).take_next(call)

    async def DialCallEntry(self, request: Any, call: Call) -> PhoneCall:
        """One call at a time for each agent, also where he presses twice."""
        await call.one_at_a_time([f"calls:{call.caller.employee}"])
        async with call.everybody():
            entry = await call.named(CallEntry, request.name, lock=True)
        if entry is None:
            raise NotFound()
        await _list_of_member(entry.call_list, call)
        return await dial(entry, call)

    async def DialNumber(self, request: pb.DialNumberRequest, call: Call) -> PhoneCall:
        """Whom the caller does not see he does not call by name."""
        if request.subject and not await call.knows(request.subject, request.subject.partition("/")[0]):
            raise NotFound()
        await call.one_at_a_time([f"calls:{call.caller.employee}"])
        return await dial_anybody(request.subject, request.number, call)

    async def LookUpCaller(self, request: pb.LookUpCallerRequest, call: Call) -> pb.LookUpCallerResponse:
        return await looked_up(request.number, call)

    async def EnlistCallList(
        self, request: pb.EnlistCallListRequest, call: Call
    ) -> pb.GenerateCallListResponse:
        book = await call.load(CallList, request)
        for name in request.subjects:
            if not await call.knows(name, name.partition("/")[0]):
                raise NotFound()
        return await book.enlist(request.subjects, call)

    async def SearchFaq(self, request: pb.SearchFaqRequest, call: Call) -> pb.SearchFaqResponse:
        return await answers_to(request.q, request.script, call)

    async def ReportCall(self, request: pb.ReportCallRequest, call: Call) -> PhoneCall:
        """An exchange has no scope of its own: it names the call, or the key that it gave it."""
        await call.one_at_a_time([f"calls:{request.provider_call}"])
        when = request.time.ToDatetime(UTC)
        async with call.everybody():
            known = await call.find(PhoneCall, PhoneCall.provider_call == request.provider_call, lock=True)
            if known is None and request.call:
                known = await call.named(PhoneCall, request.call, lock=True)
                if known is None:
                    raise NotFound()
                known.provider_call = known.provider_call or request.provider_call
            if known is None:
                known = await incoming(request, when, call)
                open_window(known, call)
            known.told(pb.ReportCallRequest.Event.Name(request.event), when, request.cause, request.recording)
            await call.flush()
        return known


async def looked_up(typed: str, call: Call) -> pb.LookUpCallerResponse:
    """Whose number it is, as far as the caller may see it; of an unknown one, the lead that could be made."""
    number = e164(typed) or typed
    reply = pb.LookUpCallerResponse(number=number)
    leads = (
        select(Lead)
        .join(LeadKey, LeadKey.lead == Lead.id)
        .where(LeadKey.value == f"phone:{number}", predicate(Lead, call.caller))
    )
    for lead in await call.db.scalars(leads):
        reply.matches.add(
            record=lead.name,
            display_name=lead.person_name or lead.display_name,
            account_name=lead.company_name,
        )
    for name in await records_with(number, call):
        if await call.knows(name, name.partition("/")[0]):
            await _match(reply, name, await call.copy(name) or {}, call)
    if not reply.matches:
        phone = common_pb2.Phone(number=number, primary=True)
        reply.lead.CopyFrom(pb.Lead(display_name=number, channel=pb.Lead.PHONE, phones=[phone]))
    return reply


async def _match(reply: pb.LookUpCallerResponse, name: str, known: dict[str, Any], call: Call) -> None:
    account = name if name.startswith("accounts/") else str(known.get("account", ""))
    seen = bool(account) and await call.knows(account, "accounts")
    company = (known if account == name else await call.copy(account) or {}) if seen else {}
    match = reply.matches.add(
        record=name, display_name=str(known.get("displayName", "")), account=account if seen else "",
        account_name=str(company.get("displayName", "")),
    )  # fmt: skip
    deals = select(Opportunity).where(
        Opportunity.account == account, Opportunity.state.in_(RUNNING), predicate(Opportunity, call.caller)
    )
    for deal in await call.db.scalars(deals.order_by(Opportunity.id.desc()).limit(20)) if seen else ():
        match.deals.add(name=deal.name, display_name=deal.display_name, stage=deal.stage)


def open_window(made: PhoneCall, call: Call) -> None:
    """Tells the agent at once who calls; the window asks `calls:lookUp` for what he may see."""
    if not made.owner:
        return
    raise_notice(
        "incomingCall", f"来电：{made.from_number}", f"Incoming call: {made.from_number}", call, key=made.name,
        employees=[made.owner], subjects=[made.name, made.subject], about=made,
    )  # fmt: skip


async def answers_to(q: str, script: str, call: Call) -> pb.SearchFaqResponse:
    """Standard answers of the scripts in use, or of one version, where a question or an answer has the words."""
    wanted = CallScript.id == uuid_of(script) if script else CallScript.state == "ACTIVE"
    term, found = SearchTerm.parse(q), list[tuple[bool, Any, str]]()
    if term is None:
        return pb.SearchFaqResponse()
    scripts = select(CallScript).where(wanted, predicate(CallScript, call.caller)).order_by(CallScript.id)
    for one in await call.db.scalars(scripts.limit(AT_ONCE)):
        for faq in one.faq:
            asked = found_by(term, [faq.question], ())
            if asked or found_by(term, [faq.answer], ()):
                found.append((not asked, faq, one.name))
    reply = pb.SearchFaqResponse()
    for _, faq, name in sorted(found, key=lambda one: one[0])[:FOUND]:
        reply.answers.add(script=name, question=faq.question, answer=faq.answer)
    return reply


async def on_call_back_asked(event: desk_events.TicketOpened, call: Call) -> None:
    """Somebody asks the service desk to be called: he comes on the list of the queue, as whom we know by his number."""
    ticket = event.ticket
    if ticket.type != desk_pb.Ticket.CALLBACK or not ticket.queue:
        return
    subject = ticket.contact or ticket.account
    subject = subject or await subject_of(e164(ticket.requester_address), call)
    name = str((await call.copy(subject) or {}).get("displayName", "")) if subject else ""
    pages = [pb.CallEntry.Page(address=one.address, title=one.title, time=one.time) for one in ticket.pages]
    asked = Asked(
        ticket.name, ticket.queue, subject, name or ticket.display_name, ticket.requester_address,
        ticket.description[:2000], pages,
    )  # fmt: skip
    await ask_back(asked, call)


async def on_call_requested(event: events.CallRequested, call: Call) -> None:
    """Asks the exchange to dial. Nothing is locked while it thinks; where there is none, the agent dials himself."""
    settings = call.running.settings
    if not settings.cti_url:
        return
    asked = {
        "call": event.call.name, "from": event.call.from_number, "to": event.call.to_number, "agent": event.call.owner,
    }  # fmt: skip
    body = json.dumps(asked).encode()
    signature = hmac.new(settings.secret, body, "sha256").hexdigest()
    headers = {
        "Content-Type": "application/json", "Idempotency-Key": event.call.name, "X-Guanxi-Signature": f"sha256={signature}",
    }  # fmt: skip
    provider, failed = "", False
    try:
        async with httpx.AsyncClient(timeout=ANSWERS_WITHIN, follow_redirects=False) as client:
            answer = await client.post(f"{settings.cti_url}/calls", content=body, headers=headers)
        failed = not answer.is_success
        provider = "" if failed else str(answer.json().get("providerCall") or "")
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
        failed = True
    except (httpx.HTTPError, ValueError):
        # It may dial: its reports will say so, and without any the call is closed as lost.
        log.warning("the exchange gave no answer", extra={"call": event.call.name})
    row = await call.named(PhoneCall, event.call.name, lock=True)
    if row is not None and failed:
        await row.fail(call)
    elif row is not None and provider:
        row.provider_call = row.provider_call or provider


async def on_consent_changed(event: customer_events.ConsentChanged, call: Call) -> None:
    """Who withdraws his consent to calls is called no more, who gives it again is."""
    consent = event.consent
    if consent.channel != customer_pb.Interaction.CALL or consent.purpose != customer_pb.Consent.MARKETING:
        return
    if consent.decision == customer_pb.Consent.WITHDRAWN:
        await refuse([consent.subject], call)
    else:
        await allow(consent.subject, call)


async def on_agent_frozen(event: workspace_events.EmployeeFrozen, call: Call) -> None:
    """What he promised goes to the supervisors of the lists."""
    await agents_left(event.employee.name, call)


async def on_agent_offboarded(event: workspace_events.EmployeeOffboarded, call: Call) -> None:
    """What he promised goes to the supervisors of the lists."""
    await agents_left(event.employee.name, call)


HANDLERS = [
    on_call_requested,
    on_call_back_asked,
    on_numbers_changed,
    on_consent_changed,
    on_agent_frozen,
    on_agent_offboarded,
]


async def tell_of(entry: CallEntry, call: Call) -> None:
    """Tells the agent that the promised minute has come, and an hour later who supervises the list too."""
    people = [entry.owner]
    if entry.notice_step == "LATE":
        book = await call.named(CallList, entry.call_list)
        people.append(book.owner if book else "")
    late = entry.notice_step == "LATE"
    zh = f"约定回电{'已超过一小时' if late else '时间到'}：{entry.display_name} {entry.note}".strip()
    en = f"{'An hour late' if late else 'Promised now'}: call {entry.display_name} {entry.note}".strip()
    raise_notice(
        "callback", zh, en, call, key=f"{entry.name}:{entry.next_time}:{entry.notice_step}", employees=people,
        subjects=[entry.name], about=entry, rung=int(late), due=entry.next_time,
    )  # fmt: skip


async def _list_of_member(name: str, call: Call) -> CallList:
    """A list that the caller calls from: its members do, whoever owns it. Others see none."""
    async with call.everybody():
        found = await call.named(CallList, name)
    me = call.caller.employee
    if found is None or me not in (found.owner, *(member.employee for member in found.members)):
        raise NotFound()
    return found
