"""What workspace does when it hears of something."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, cast
from uuid import UUID

from crm.common.v1 import common_pb2 as common
from crm.customer.v1 import events_pb2 as customer
from crm.sales.v1 import events_pb2 as sales
from crm.workspace.v1 import events_pb2 as events
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.events import Fact, listens
from crmkit.mapping import read_date
from crmkit.resource import parse_name
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import select

from workspace import exporting, invitations, leaving, publishing, quote_mail, rules, signed_in, visits
from workspace.alerts import infected, raise_alert
from workspace.asking import ask
from workspace.model import (
    attendance,
    audience,
    audit,
    audit_tally,
    audit_told,
    comment,
    file_place,
    known_record,
    usage_facts,
    work_record,
)
from workspace.model.approval import Approval, changes, since_approved
from workspace.model.bulk_job import BulkJob
from workspace.model.calendar import CalendarEvent
from workspace.model.custom_field import CustomField
from workspace.model.department import Department, DepartmentVersion
from workspace.model.dictionary import uses_counted
from workspace.model.employee import Employee
from workspace.model.file import File
from workspace.model.number_rule import NumberRule
from workspace.model.plan import fill_plans
from workspace.model.policy import Policy, policy_of
from workspace.model.task import LIVE, Task
from workspace.notices import NOTICES, OVER, TODOS, over
from workspace.telling import Manner, alike, notify, reader_of

SEEN = "crm.gateway.v1.SessionsSeen"
# What a task says whose interaction is gone.
GONE = "（所属的跟进记录已删除）"


@listens(
    "crm.*.v1.ResourceChanged",
    "crm.*.v1.AccessExplained",
    "crm.workspace.v1.RecordPrinted",
    "crm.gateway.v1.>",
)
async def on_anything_happened(events: list[Fact], call: Call) -> None:
    """Every change and every fact of the gateway stands in the audit, once; that a session goes on is none."""
    if told := [event for event in events if event.subject != SEEN]:
        await audit.append(told, call)


@listens("crm.*.v1.ResourceChanged", "crm.gateway.v1.SignedIn")
async def on_somebody_acted(events: list[Fact], call: Call) -> None:
    """Rules of use know on which days people have acted, and how leads and opportunities went on."""
    await usage_facts.keep_days(events, call)
    await usage_facts.keep_changes([event for event in events if "action" in event.payload], call)


@listens("crm.customer.v1.InteractionLogged")
async def on_interaction_told(event: Fact, call: Call) -> None:
    """What was said of leads and opportunities counts as their update."""
    await usage_facts.keep_interaction(event, call)


@listens("crm.*.v1.FactsTold")
async def on_facts_told(events: list[Fact], call: Call) -> None:
    """What services say they have sent is held against what has come."""
    await audit_tally.keep(events, call)


@listens("crm.gateway.v1.SignedIn")
async def on_signed_in(event: Fact, call: Call) -> None:
    """Whoever signs in has the roles of the groups that the identity provider names, and no others of that kind."""
    collection, _, key = str(event.payload.get("person", "")).partition("/")
    person = (
        await call.find(Employee, Employee.id == UUID(key), lock=True) if collection == "employees" else None
    )
    if person is not None and person.state != "OFFBOARDED":
        await person.in_groups(event.payload.get("groups", []), call)


@listens("crm.gateway.v1.SignedIn")
async def on_session_opened(event: Fact, call: Call) -> None:
    """Sessions are listed; one too many of its kind ends, and what looks borrowed is told."""
    await signed_in.gone(str(event.payload.get("replaces", "")), call)
    if told := signed_in.Seen.read(event.payload.get("session", {})):
        await signed_in.opened(told, call)


@listens(SEEN)
async def on_sessions_seen(event: Fact, call: Call) -> None:
    """Sessions go on."""
    told = map(signed_in.Seen.read, event.payload.get("sessions", []))
    await signed_in.seen([one for one in told if one is not None], call)


@listens("crm.gateway.v1.SignedOut")
async def on_signed_out(event: Fact, call: Call) -> None:
    """A session was ended by the person."""
    await signed_in.gone(str(event.payload.get("session", "")), call)


@listens("crm.*.v1.ResourceChanged", "crm.gateway.v1.SignedIn")
async def on_emergency_account_used(events: list[Fact], call: Call) -> None:
    """The use of an account that is for emergencies is told at once."""
    actors = {str(event.payload.get("person") or event.actor) for event in events}
    for actor in sorted(one for one in actors if one.startswith("employees/")):
        entry = call.entry(actor)
        if entry.get("emergency"):
            who = entry.get("displayName", "")
            zh, en = f"应急账号“{who}”正在使用", f"The emergency account {who} is in use"
            await raise_alert("EMERGENCY_ACCOUNT", actor, zh, en, call, key=f"{actor}:{call.now:%Y-%m-%dT%H}")


@listens("crm.gateway.v1.FileInfected")
async def on_file_infected(event: Fact, call: Call) -> None:
    """Who sent the file and who looks after the platform are told; its bytes lie in quarantine."""
    told: dict[str, Any] = event.payload
    sender = told.get("caller", "")
    people = [sender] if sender.startswith("employees/") else []
    what = (told.get("displayName", ""), told.get("signature", ""), told.get("sha256", ""))
    await infected(people, sender, *what, call, str(event.id))


async def on_personal_data_erased(event: customer.PersonalDataErased, call: Call) -> None:
    """Nobody reads an erased person's values in the audit any more; files that hang on the person alone go."""
    await audit_told.destroy_key(event.person, call)
    attached = select(File).where(File.attached_to.contains([event.person]))
    for file in await call.db.scalars(attached.with_for_update()):
        others = [name for name in file.attached_to if name != event.person]
        if others or file.held(call):
            # What the law wants kept hangs on nothing that names the person.
            file.attach(others)
        else:
            await file.deleting(call)
            await call.db.delete(file)


@listens("crm.*.v1.ResourceChanged")
async def on_record_changed(events: list[Fact], call: Call) -> None:
    """What records are called and who may see them, for all that refers to them, and the files that hang on them."""
    await known_record.learn(events, call)
    await comment.follow(events, call)
    if turned := await file_place.learn(events, call):
        for file in await call.db.scalars(select(File).where(File.id.in_(turned)).with_for_update()):
            file.hangs = not file.hangs


async def on_fact_for_rules(events: list[Fact], call: Call) -> None:
    """Notification rules tell people of whatever any service says."""
    await rules.on_facts(events, call)


@listens("crm.workspace.v1.ResourceChanged.employees")
async def on_people_changed(events: list[Fact], call: Call) -> None:
    """Who comes to a department reads what is for it, who leaves it no more."""
    await audience.follow(call, [str(event.payload["name"]) for event in events])


@listens("crm.workspace.v1.ResourceChanged.departments")
async def on_tree_changed(events: list[Fact], call: Call) -> None:
    """What is for a department is for all beneath it, wherever these hang now."""
    await audience.follow(call)


@listens(*(f"crm.workspace.v1.ResourceChanged.{collection}" for collection in publishing.COLLECTIONS))
async def on_definition_changed(event: Fact, call: Call) -> None:
    """Tells all services by the configuration bucket; repeated until the bucket has it."""
    told = event.payload
    await publishing.publish_changed(told["name"], told.get("resource", {}), call, told.get("before", {}))


@listens("crm.workspace.v1.ResourceChanged.departments")
async def on_department_told(event: Fact, call: Call) -> None:
    """Keeps every version of the tree."""
    name: str = event.payload["name"]
    await DepartmentVersion.keep(name, event.version or 0, event.payload, event.time, call)


async def on_action_held(event: common.ActionHeld, call: Call) -> None:
    """An action waits: asks those whom its policy names; again where what is asked for has changed."""
    known = await call.find(Approval, Approval.held_action == event.held_action, lock=True)
    if known is not None and event.revision <= known.revision:
        return
    policy = await policy_of(event.policy, event.policy_version, call)
    facts, now = MessageToDict(event.facts), MessageToDict(event.now)
    title = _title(event.target, facts)
    verb = policy.display_name if policy is not None else event.action.rpartition(".")[2]
    told_of = {
        "request": MessageToDict(event.request),
        "facts": facts,
        "digest": event.digest,
        "policy": f"approvalPolicies/{event.policy}" if policy is not None else "",
        "policy_edition": event.policy_version,
        "revision": event.revision or 1,
        "changes": changes(now, facts),
        "since_approved": await since_approved(event.target, event.action, facts, call),
        "display_name": f"{verb}：{title}"[:400],
    }
    if known is not None:
        for field, value in told_of.items():
            setattr(known, field, value)
        told = await known.renew(policy, call)
        await call.flush()
        await ask(known, told, call, f":r{known.revision}")
        return
    requester = event.requester
    approval = Approval(
        target=event.target, action=event.action, held_action=event.held_action, requester=requester,
        mode=Policy.Mode.Name(policy.mode) if policy is not None and policy.mode else "ANY", state="PENDING",
        owner=requester if requester.startswith("employees/") else "", creator=requester, decisions=[], **told_of,
    )  # fmt: skip
    told = await approval.begin(policy, call)
    await call.add(approval)
    await call.flush()
    await ask(approval, told, call)
    if approval.copied:
        zh, en = f"抄送审批：{approval.display_name}", f"For your information: {approval.display_name}"
        await notify(call, approval.copied, "approval", f"copied:{approval.name}", approval.name, zh, en)


def _title(target: str, facts: dict[str, Any]) -> str:
    collection = target.partition("/")[0]
    described = next((found for found in resources().values() if found.collection == collection), None)
    title = str(facts.get(described.title_field, "")) if described else ""
    return str(facts.get("displayName") or facts.get("number") or title or target)


async def on_held_action_ended(event: common.HeldActionEnded, call: Call) -> None:
    """The held action ran, failed or was stale: the approval knows; where it failed both sides are told."""
    approval = await call.find(Approval, Approval.held_action == event.held_action, lock=True)
    if approval is None or not approval.executed(event.outcome, event.reason, call):
        return
    if event.outcome in ("FAILED", "STALE", "UNCHANGED"):
        people = [approval.requester, *(one.approver for one in approval.decisions if one.vote)]
        title, key = approval.display_name, f"approval:{approval.name}:{event.outcome}:{call.now.isoformat()}"
        words = {
            "FAILED": ("审批后执行失败", "Failed after approval"),
            "STALE": ("审批已失效", "Approval out of date"),
            "UNCHANGED": ("审批内容修改未生效", "The change of the request has no effect"),
        }
        zh, en = words[event.outcome]
        await notify(
            call, people, "approval", key, approval.name, f"{zh}：{title}", f"{en}: {title}", event.reason
        )


@listens(
    "crm.workspace.v1.ApprovalApproved",
    "crm.workspace.v1.ApprovalRejected",
    "crm.workspace.v1.ApprovalReturned",
)
async def on_approval_decided(event: Fact, call: Call) -> None:
    """The requester is told."""
    approval = event.payload["approval"]
    if event.subject.endswith("ApprovalRejected") and approval.get("target", "").startswith("exports/"):
        await exporting.rejected(approval, call)
    name, title = approval["name"], approval.get("displayName", "")
    zh, en = {
        "ApprovalApproved": ("已同意", "agreed"),
        "ApprovalRejected": ("已拒绝", "refused"),
        "ApprovalReturned": ("已退回", "given back"),
    }[event.subject.rpartition(".")[2]]
    key = f"approval:{name}:{approval.get('revision', 1)}:{event.subject.rpartition('.')[2]}"
    body = approval.get("outcome", "")
    await notify(
        call, [approval["requester"]], "approval", key, name, f"审批{zh}：{title}", f"{title}: {en}", body
    )


async def on_employee_frozen(event: events.EmployeeFrozen, call: Call) -> None:
    """Others decide in place of somebody who has lost access."""
    await leaving.replace(event.employee.name, call)


async def on_employee_offboarded(event: events.EmployeeOffboarded, call: Call) -> None:
    """What workspace has of the person goes to others; keys end."""
    await leaving.hand_on(event.employee.name, leaving.Heirs.read(event), call)


@listens("crm.workspace.v1.TaskAssigned")
async def on_task_assigned(event: Fact, call: Call) -> None:
    """Who gets a task from somebody else is told; who was told of it already is not."""
    task = event.payload["task"]
    owner, title = task.get("owner", ""), task.get("displayName", "")
    if owner != event.actor:
        key = f"task:{task['name']}:{owner}:{task.get('etag', '')}"
        await notify(call, [owner], "task", key, task["name"], f"新任务：{title}", f"New task: {title}")
    others = [person for person in task.get("assignees", []) if person not in {event.actor, owner}]
    key = f"task:{task['name']}:assignee"
    await notify(call, others, "task", key, task["name"], f"新任务：{title}", f"New task: {title}")


@listens("crm.customer.v1.InteractionLogged")
async def on_interaction_logged(event: Fact, call: Call) -> None:
    """What is to be done next becomes one task of who logged it."""
    interaction = event.payload["interaction"]
    step = interaction.get("nextStep") or {}
    source, owner = interaction["name"], interaction.get("owner", "")
    if not step.get("text") or not owner or await call.find(Task, Task.source == source):
        return
    task = Task(
        display_name=step["text"][:200], description=interaction.get("summary", "")[:5000], owner=owner,
        creator=event.actor, source=source, links=[source, *filter(None, [interaction.get("account")])],
    )  # fmt: skip
    if due := step.get("dueTime"):
        moment = Timestamp()
        moment.FromJsonString(due)
        task.due_time = moment.ToDatetime(UTC)
    await call.add(task)


async def on_account_plan_reviewed(event: customer.AccountPlanReviewed, call: Call) -> None:
    """What a review of a key account's plan asks for becomes one task each."""
    plan = event.plan
    for n, action in enumerate(event.actions):
        source = f"{plan.name}/{len(plan.reviews)}/{n}"
        if not action.employee or await call.find(Task, Task.source == source):
            continue
        task = Task(
            display_name=action.text[:200], owner=action.employee, creator=plan.owner, source=source,
            links=[plan.name, plan.account],
        )  # fmt: skip
        if action.HasField("due_date"):
            task.due_date = read_date(action.due_date)
        await call.add(task)


@listens("crm.customer.v1.ResourceChanged.interactions.DELETED")
async def on_interaction_deleted(event: Fact, call: Call) -> None:
    """The task of its next step stays, with a note."""
    name: str = event.payload["name"]
    task = await call.find(Task, Task.source == name, lock=True)
    if task is not None and GONE not in task.description:
        task.description = f"{task.description}\n{GONE}".strip()[:5000]


@listens(*work_record.COUNTED)
async def on_work_done(events: list[Fact], call: Call) -> None:
    """Work that was done counts once, and fills the plans of that day."""
    moments: dict[str, datetime] = {}
    for event in sorted(events, key=lambda event: event.time):
        moments |= dict.fromkeys(work_record.names(event), event.time)
    await known_record.touch(moments, call)
    await fill_plans(await work_record.count(events, call), call)


@listens("crm.sales.v1.VisitCheckedIn")
async def on_visit_checked_in(event: Fact, call: Call) -> None:
    """Who has arrived at a customer's has punched."""
    await attendance.checked_in(event.payload.get("visit") or {}, event.time, call)


@listens("crm.sales.v1.VisitPlanned")
async def on_visit_planned(event: Fact, call: Call) -> None:
    """A visit stands in the calendar, moves in it, and leaves it."""
    await visits.planned(event.payload.get("visit") or {}, call)


@listens("crm.sales.v1.CallbackScheduled")
async def on_callback_scheduled(event: Fact, call: Call) -> None:
    """A promised call stands in the calendar."""
    await visits.call_back(event.payload, call)


@listens(*NOTICES)
async def on_worth_a_notice(event: Fact, call: Call) -> None:
    """Tells the people concerned, once per fact."""
    notice = NOTICES[event.subject]
    if (found := notice.of(event)) is not None:
        people, target = found
        record = next((value for value in event.payload.values() if _is(value, target)), None)
        manner = Manner(record=record, importance=notice.importance, seen=not notice.asked)
        for readers, reader in alike(people, call):
            zh, en = notice.words(event.payload, reader)
            await notify(call, readers, notice.kind, f"fact:{event.id}", target, zh, en, manner=manner)


@listens(*TODOS)
async def on_worth_a_task(event: Fact, call: Call) -> None:
    """Who is to do something has one task of it; whom it has passed on from has none any more."""
    asked = list(TODOS[event.subject].of(event, partial(reader_of, call)))
    if asked:
        await _close(asked[0][0], [person for _, person, *_ in asked], call)
    for source, person, title, due, links in asked:
        mine = f"{source}#{person}"
        if await call.find(Task, Task.source == mine):
            continue
        entry = call.entry(person)
        await call.add(
            Task(
                display_name=title, owner=person, department=entry.get("department", ""), creator=event.actor, source=mine,
                links=links, due_time=datetime.fromisoformat(due) if due else None,
            )
        )  # fmt: skip


@listens(*OVER)
async def on_to_do_over(event: Fact, call: Call) -> None:
    """What was to be done has been decided."""
    await _close(over(event), [], call)


async def _close(source: str, kept: list[str], call: Call) -> None:
    waiting = select(Task).where(Task.source.startswith(f"{source}#employees/", autoescape=True))
    for task in list(
        await call.db.scalars(waiting.where(Task.state.in_(LIVE), Task.owner.not_in(kept)).with_for_update())
    ):
        task.over(call)


@listens("crm.customer.v1.InteractionForwarded")
async def on_interaction_forwarded(event: Fact, call: Call) -> None:
    """One notice for each department, to who leads it."""
    interaction = event.payload["interaction"]
    for name in event.payload.get("departments", []):
        department = await call.named(Department, name)
        if department and department.manager:
            text = str(interaction.get("summary", ""))[:100]
            key = f"forward:{interaction['name']}:{name}:{event.payload.get('kind', '')}"
            zh, en = (
                f"转交给{department.display_name}：{text}",
                f"Passed to {department.display_name}: {text}",
            )
            await notify(call, [department.manager], "interaction", key, interaction["name"], zh, en)


async def on_notice_raised(event: common.NoticeRaised, call: Call) -> None:
    """A notice that has no fact of its own: one per person, key and rung."""
    people = list(event.employees)
    for role in event.roles:
        holders = select(Employee.id).where(Employee.roles.contains([role]), Employee.state == "ACTIVE")
        people += [f"employees/{key}" for key in await call.db.scalars(holders.limit(200))]
    target = event.subjects[0] if event.subjects else ""
    key = f"notice:{event.kind}:{event.dedupe_key or target}:{event.rung}"
    await notify(call, people, event.kind, key, target, event.text.zh, event.text.en or event.text.zh)


async def on_bulk_progressed(event: common.BulkProgressed, call: Call) -> None:
    """How far a job is."""
    if event.job.startswith("exports/"):
        await exporting.progressed(event, call)
        return
    job = await _job(event.job, call)
    if job is not None:
        job.progressed(event.total, event.done, event.failed)


async def on_bulk_finished(event: common.BulkFinished, call: Call) -> None:
    """How a job ended: its files get their records, its owner is told."""
    if event.job.startswith("exports/"):
        await exporting.finished(event, call)
        return
    job = await _job(event.job, call)
    if job is None or not job.finished(event, call):
        return
    for name in ("error_file", "result_file"):
        if event.HasField(name):
            setattr(job, name, (await _stored(getattr(event, name), job.owner, call)).name)
    if job.mode == "REVERT" and job.state == "DONE" and (original := await _job(job.reverts, call)):
        original.state = "REVERTED"
    await call.flush()
    zh = f"批量任务 {job.number} 已结束：完成 {job.done}，错误 {job.failed}"
    en = f"Bulk job {job.number} has ended: {job.done} done, {job.failed} with errors"
    await notify(call, [job.owner], "bulk", f"bulk:{job.name}", job.name, zh, en, job.reason)


async def on_numbers_answered(event: common.NumbersAnswered, call: Call) -> None:
    """What the owner of a collection says of its numbers."""
    key = parse_name(event.number_rule, "numberRules")
    rule = await call.find(NumberRule, NumberRule.id == key, lock=True)
    if rule is not None:
        await rule.answered(event, call)


async def on_dictionary_uses_counted(event: common.DictionaryUsesCounted, call: Call) -> None:
    """A service says how many of its records have the entries of a dictionary."""
    await uses_counted(event, call)


async def on_custom_field_purged(event: common.CustomFieldPurged, call: Call) -> None:
    """The service that had the values of a field has counted that none is left."""
    key = parse_name(event.custom_field, "customFields")
    field = await call.find(CustomField, CustomField.id == key, lock=True)
    if field is not None:
        field.purged(event.records, call)


async def on_file_stored(event: common.FileStored, call: Call) -> None:
    """What a service has put into the store gets its record, attached to what it belongs to."""
    if not await call.named(File, event.file.name):
        file = await _stored(event.file, "", call)
        file.attach([event.about] if event.about else [])


@listens("crm.sales.v1.QuoteSent")
async def on_quote_sent(event: Fact, call: Call) -> None:
    """A quote that goes to somebody goes with its print, whose record is made here where it was not heard of yet."""
    sent = cast(sales.QuoteSent, event.message)
    if not sent.recipients:
        return
    file = await call.named(File, sent.file.name)
    if file is None and sent.HasField("file"):
        file = await _stored(sent.file, "", call)
        file.attach([sent.quote.name])
    sender = event.actor if event.actor.startswith("employees/") else sent.quote.owner
    await quote_mail.send(sent, sender, file, f"fact:{event.id}", call)


async def _stored(stored: common.StoredFile, owner: str, call: Call) -> File:
    """The record of a file that a service has put into the store."""
    values = {"id": UUID(stored.name.partition("/")[2])} if stored.name else {}
    file = File(
        display_name=stored.display_name, media_type=stored.media_type, sha256=stored.sha256,
        size=Decimal(stored.size or 0), owner=stored.owner or owner, **values,
    )  # fmt: skip
    return await call.add(file)


def _is(value: Any, name: str) -> bool:
    return isinstance(value, dict) and cast("dict[str, Any]", value).get("name") == name


async def _job(name: str, call: Call) -> BulkJob | None:
    return await call.named(BulkJob, name, lock=True)


async def on_lead_converted(event: sales.LeadConverted, call: Call) -> None:
    """Tasks, dates and files of a lead go along to what it became."""
    lead, made = event.lead.name, [name for name in (event.account, event.opportunity) if name]
    for task in await call.db.scalars(select(Task).where(Task.links.contains([lead])).with_for_update()):
        if missing := [name for name in made if name not in task.links]:
            task.links = [*task.links, *missing]
            await task.label_links(call)
    dated = select(CalendarEvent).where(CalendarEvent.links.contains([lead])).with_for_update()
    for date in await call.db.scalars(dated):
        date.links = list(dict.fromkeys([*date.links, *made]))
    attached = select(File).where(File.attached_to.contains([lead])).with_for_update()
    for file in await call.db.scalars(attached):
        file.attach(list(dict.fromkeys([*file.attached_to, *made])))


async def on_calendar_event_scheduled(event: events.CalendarEventScheduled, call: Call) -> None:
    """Who is asked to come is told."""
    await invitations.tell(event.calendar_event, event.removed, "日程邀请", "Invitation", call)


async def on_calendar_event_moved(event: events.CalendarEventMoved, call: Call) -> None:
    """Who comes is told of the new time."""
    await invitations.tell(event.calendar_event, event.removed, "日程改期", "Moved", call)


async def on_calendar_event_cancelled(event: events.CalendarEventCancelled, call: Call) -> None:
    """Who would have come is told."""
    await invitations.tell(
        event.calendar_event, (), "日程取消", "Cancelled", call, event.occurrence, cancelled=True
    )


CONSUMERS = [
    on_signed_in,
    on_session_opened,
    on_sessions_seen,
    on_signed_out,
    on_emergency_account_used,
    on_visit_planned,
    on_callback_scheduled,
    on_worth_a_task,
    on_to_do_over,
    on_fact_for_rules,
    on_visit_checked_in,
    on_work_done,
    on_record_changed,
    on_lead_converted,
    on_calendar_event_scheduled,
    on_calendar_event_moved,
    on_calendar_event_cancelled,
    on_anything_happened,
    on_facts_told,
    on_somebody_acted,
    on_interaction_told,
    on_file_infected,
    on_personal_data_erased,
    on_definition_changed,
    on_department_told,
    on_people_changed,
    on_tree_changed,
    on_action_held,
    on_held_action_ended,
    on_approval_decided,
    on_employee_frozen,
    on_employee_offboarded,
    on_task_assigned,
    on_interaction_logged,
    on_interaction_deleted,
    on_account_plan_reviewed,
    on_worth_a_notice,
    on_interaction_forwarded,
    on_notice_raised,
    on_bulk_progressed,
    on_bulk_finished,
    on_numbers_answered,
    on_dictionary_uses_counted,
    on_custom_field_purged,
    on_file_stored,
    on_quote_sent,
]
