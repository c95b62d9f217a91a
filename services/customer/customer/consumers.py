"""Contact moments that other services tell of become interactions, without typing and once."""

from datetime import UTC, datetime
from typing import Any

from crm.customer.v1 import pb
from crm.sales.v1 import events_pb2 as sales
from crm.workspace.v1 import events_pb2 as workspace
from crmkit.call import Call
from crmkit.events import Fact, listens
from google.protobuf.json_format import MessageToDict
from sqlalchemy import select

from customer import timeline
from customer.model.account import Account
from customer.model.contact import Contact
from customer.model.interaction import Interaction
from customer.model.timeline import TimelineFact
from customer.timeline import names_in

# Fact → channel and direction; a record that says its own channel or direction is believed.
_MOMENTS = {
    "crm.sales.v1.CallWrappedUp": ("CALL", ""),
    "crm.sales.v1.VisitCompleted": ("VISIT", "OUTBOUND"),
    "crm.servicedesk.v1.MessageReceived": ("EMAIL", "INBOUND"),
    "crm.servicedesk.v1.MessageSent": ("EMAIL", "OUTBOUND"),
    "crm.workspace.v1.MailReceived": ("EMAIL", "INBOUND"),
    "crm.workspace.v1.MailSent": ("EMAIL", "OUTBOUND"),
    "crm.workspace.v1.FaxReceived": ("FAX", "INBOUND"),
    "crm.workspace.v1.FaxSent": ("FAX", "OUTBOUND"),
    "crm.servicedesk.v1.CallEnded": ("CALL", ""),
    "crm.servicedesk.v1.ChatEnded": ("CHAT", "INBOUND"),
    "crm.servicedesk.v1.FieldJobCompleted": ("VISIT", "OUTBOUND"),
    "crm.marketing.v1.FormSubmitted": ("OTHER", "INBOUND"),
    "crm.marketing.v1.ResponseReceived": ("OTHER", "INBOUND"),
    "crm.marketing.v1.GatheringAttended": ("MEETING", ""),
    "crm.marketing.v1.SendDelivered": ("EMAIL", "OUTBOUND"),
    "crm.marketing.v1.LetterPosted": ("LETTER", "OUTBOUND"),
}
_SPELT = {"MAIL": "EMAIL", "PHONE": "CALL", "FORM": "OTHER", "PORTAL": "OTHER"}
_TEXTS = ("summary", "text", "subject", "displayName", "result", "description")
_TIMES = ("startTime", "occurTime", "receiveTime", "sendTime", "endTime", "createTime")
# A call that desk and sales both tell of has one key: that of the exchange.
_KEYS = ("sourceKey", "providerCall", "externalId")
# What somebody finishes in another service is that person's follow-up, as if it were typed here.
# Without words of that person the log has these, which are too short to count as text.
_DONE = {"crm.sales.v1.CallWrappedUp": "（电话）", "crm.sales.v1.VisitCompleted": "（拜访）"}
_RESULTS = ("result", "disposition")

# What the log says of mail whose subject is not shared, or that is shared no more.
UNTITLED, WITHDRAWN = "（邮件）", "（私人邮件）"


@listens(*_MOMENTS)
async def on_contact_moment(event: Fact, call: Call) -> None:
    """Logs the moment at the account that it names; told again, or by another service, it is there already."""
    record = next((v for v in event.payload.values() if isinstance(v, dict) and "name" in v), event.payload)
    names = names_in(event.payload)
    contacts = [name for name in names if name.startswith("contacts/")]
    account = await _account(names, contacts, call)
    if account is None:
        return
    usual, direction = _MOMENTS[event.subject]
    given = _SPELT.get(str(record.get("channel", "")), str(record.get("channel", "")))
    channel = given if given in Interaction.described.fields["channel"].enum_numbers and given else usual
    said = str(record.get("direction", ""))
    key = next((str(record[key]) for key in _KEYS if record.get(key)), str(record.get("name", event.id)))
    # Two that are told at once meet at the unique key, and the later one comes again.
    same = (Interaction.channel == channel, Interaction.source_key == key[:200])
    by = event.actor if event.subject in _DONE and event.actor.startswith("employees/") else ""
    with_result = any(record.get(one) for one in _RESULTS)
    if known := await call.find(Interaction, *same, lock=bool(by)):
        if by and known.why_not == "SYSTEM":
            known.summary = str(record.get("summary") or known.summary)[:5000]
            known.duration_seconds = int(record.get("durationSeconds") or known.duration_seconds)
            await known.finished_elsewhere(by, with_result, call)
        return
    # A visit begins when somebody comes.
    begun: dict[str, Any] = record.get("checkIn") or {}
    moment = begun.get("serverTime") or next((str(record[name]) for name in _TIMES if record.get(name)), "")
    untold = UNTITLED if usual == "EMAIL" else _DONE.get(event.subject, event.subject.rpartition(".")[2])
    row = Interaction(
        account=account.name, channel=channel, direction=said if said in ("INBOUND", "OUTBOUND") else direction,
        start_time=datetime.fromisoformat(moment).astimezone(UTC) if moment else event.time,
        duration_seconds=int(record.get("durationSeconds") or 0),
        summary=next((str(record[name])[:5000] for name in _TEXTS if record.get(name)), untold),
        contacts=contacts, subjects=[str(record["name"])] if record.get("name") else [], source_key=key[:200],
        owner=str(record.get("owner", "")) or account.owner, creator=event.actor,
        department=str(record.get("department", "")) or account.department,
    )  # fmt: skip
    row.start_time = min(row.start_time, call.now)
    row.done_by, row.done_with_result = by, with_result
    await call.add(row)


async def on_mail_record_changed(event: workspace.MailRecordChanged, call: Call) -> None:
    """What a mailbox shares no more is taken out of the log and off the time line; both say when and with whom.

    Waits, by coming again, until both have what was shared before.
    """
    record = event.mail_record
    said = record.display_name or (WITHDRAWN if event.withdrawn else UNTITLED)
    row = await call.find(
        Interaction, Interaction.channel == "EMAIL", Interaction.source_key == record.name, lock=True
    )
    told = select(TimelineFact.id).where(TimelineFact.accounts.contains([record.account]))
    if row is None and await _account([record.account], [], call) is not None:
        raise LookupError(f"{record.name} is not logged yet")
    for name in [record.name, *([row.name] if row is not None else [])]:
        if await call.db.scalar(told.where(TimelineFact.aggregate == name).limit(1)) is None:
            raise LookupError(f"{name} is not on the time line yet")
    if row is not None:
        row.summary, row.contacts = said, [] if event.withdrawn else row.contacts
        await timeline.retell(row.account, row.name, "interaction", {"summary": said}, said, call)
    shared = {
        key: MessageToDict(record).get(key, empty)
        for key, empty in (("displayName", ""), ("body", ""), ("files", []))
    }
    await timeline.retell(record.account, record.name, "mailRecord", shared, record.display_name, call)


async def on_lead_converted(event: sales.LeadConverted, call: Call) -> None:
    """What was said while it was a lead becomes interactions of the account, each once."""
    lead = event.lead
    account = await _account([event.account], [], call)
    if account is None:
        return
    for number, said in enumerate(lead.follow_ups):
        key = f"{lead.name}#{number}"
        known = said.channel in Interaction.described.fields["channel"].enum_numbers and said.channel
        channel = said.channel if known else "OTHER"
        if await call.find(Interaction, Interaction.source_key == key, Interaction.channel == channel):
            continue
        row = Interaction(
            account=account.name, channel=channel, direction="OUTBOUND", start_time=said.time.ToDatetime(UTC),
            summary=said.summary, subjects=[lead.name], contacts=[event.contact] if event.contact else [],
            source_key=key, owner=said.employee or account.owner, creator=said.employee or account.owner,
            department=lead.department or account.department,
        )  # fmt: skip
        if said.next_step:
            row.next_step = pb.Interaction.NextStep(text=said.next_step)
            if said.HasField("next_time"):
                row.next_step.due_time.CopyFrom(said.next_time)
        await call.add(row)


async def _account(names: list[str], contacts: list[str], call: Call) -> Account | None:
    """The account named first, else that of the contact named first."""
    name: Any = next((one for one in names if one.startswith("accounts/")), "")
    if not name and contacts:
        contact = await call.named(Contact, contacts[0])
        name = contact.account if contact is not None else ""
    return await call.named(Account, name)
