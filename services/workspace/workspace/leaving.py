"""What workspace itself hands on when somebody leaves: the place in the organisation, tasks, decisions, delegations and
dates to come; keys end.

All of it is one transaction of the handler of `EmployeeOffboarded`. What other services have of the person goes by the
handover of customer (`crmkit.handing`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.describe import Described
from crmkit.errors import FailedPrecondition
from sqlalchemy import Text, cast, func, select

from workspace import invited
from workspace.asking import ask
from workspace.model.api_key import ApiKey
from workspace.model.approval import Approval, replace_approver
from workspace.model.calendar import DECLINED, CalendarEvent
from workspace.model.deciders import check_delegation
from workspace.model.department import Department
from workspace.model.employee import Employee, superiors
from workspace.model.known_record import described_as, left_over
from workspace.model.task import live_of
from workspace.telling import notify

# Time that was the person's own; nobody takes it over.
OWN_TIME = frozenset(["LEAVE", "TRAVEL", "FOCUS"])
GONE = "参与人已离职 / has left the company"


@dataclass(frozen=True)
class Heirs:
    """Who gets what."""

    general: str
    named: Mapping[str, str]

    @classmethod
    def read(cls, event: events.EmployeeOffboarded) -> "Heirs":
        """As the offboarding said it."""
        return cls(
            event.successor, {name: one.successor for one in event.successions for name in one.collections}
        )

    async def of(self, collection: str, call: Call) -> Employee | None:
        """Who gets the records of a collection."""
        return await call.named(Employee, self.named.get(collection, self.general))


async def hand_on(leaver: str, heirs: Heirs, call: Call) -> None:
    """Gives everything on. Told again it finds nothing left."""
    named = await call.named(Employee, heirs.named["approvals"]) if "approvals" in heirs.named else None
    await replace(leaver, call, named)
    await _delegate(leaver, named, call)
    await _give_place(leaver, heirs, call)
    if (successor := await heirs.of("tasks", call)) is not None:
        for task in list(await call.db.scalars(live_of([leaver]).with_for_update())):
            await task.hand_over(successor, call)
    await _give_dates(leaver, heirs, call)
    keys = select(ApiKey).where(ApiKey.owner == leaver, ApiKey.state == "ACTIVE")
    for key in list(await call.db.scalars(keys.with_for_update())):
        key.revoke(call)


async def replace(leaver: str, call: Call, successor: Employee | None = None) -> None:
    """Others decide in place of somebody who has no access: the successor, a delegate, or the superior."""
    person = await call.named(Employee, leaver)
    for approval in await replace_approver(person, call, successor) if person else ():
        await call.flush()
        await ask(approval, [d.approver for d in approval.decisions if not d.vote], call)


async def _delegate(leaver: str, successor: Employee | None, call: Call) -> None:
    """Who let the leaver decide is represented by the successor for decisions, or decides again."""
    trusting = select(Employee).where(cast(Employee.delegations, Text).contains(leaver))
    for person in list(await call.db.scalars(trusting.with_for_update())):
        kept = [one for one in person.delegations if one.delegate != leaver]
        ended = [one for one in person.delegations if one.delegate == leaver]
        instead = successor.name if successor is not None and await _may(person, successor, call) else ""
        for one in ended if instead else ():
            given = pb.Employee.Delegation()
            given.CopyFrom(one)
            given.delegate = instead
            kept.append(given)
        person.delegations = kept
        whom = successor.display_name if successor is not None and instead else ""
        zh = f"您的代理人已离职，改由{whom}代理审批" if whom else "您的代理人已离职，请另行委托"
        en = (
            f"{whom} decides for you now: your delegate has left"
            if whom
            else "Your delegate has left; choose another"
        )
        await notify(call, [person.name], "approval", f"delegate:{leaver}:{person.name}", person.name, zh, en)


async def _may(person: Employee, delegate: Employee, call: Call) -> bool:
    """Whether the one may decide for the other."""
    try:
        await check_delegation(person, delegate.name, call)
    except FailedPrecondition:
        return False
    return True


async def _give_place(leaver: str, heirs: Heirs, call: Call) -> None:
    """Those who reported to the leaver report to the successor, who leads the leaver's departments too."""
    if (heir := await heirs.of("employees", call)) is not None:
        people = list(await call.db.scalars(reports_of(leaver).order_by(Employee.id).with_for_update()))
        above = await superiors(heir.superior, call)
        place = next((one for one in above if one.name == leaver), None)
        if people and place is not None:
            # Who stood beneath the leaver, however deep, comes up into the place itself.
            heir.superior = place.superior
        for person in people:
            person.superior = heir.name if person.name != heir.name else heir.superior
        zh, en = f"{len(people)} 名员工现在由您管理", f"{len(people)} people report to you now"
        await _tell_place(heir, len(people), f"place:{leaver}", leaver, zh, en, call)
    if (leader := await heirs.of("departments", call)) is not None:
        led = list(await call.db.scalars(led_by(leaver).order_by(Department.id).with_for_update()))
        for department in led:
            department.manager = leader.name if department.manager == leaver else department.manager
            deputies = [leader.name if one == leaver else one for one in department.deputies]
            department.deputies = [one for one in dict.fromkeys(deputies) if one != department.manager]
        zh, en = f"{len(led)} 个部门现在由您负责", f"{len(led)} departments are led by you now"
        await _tell_place(leader, len(led), f"led:{leaver}", leaver, zh, en, call)


async def _tell_place(heir: Employee, many: int, key: str, leaver: str, zh: str, en: str, call: Call) -> None:
    if many:
        await notify(call, [heir.name], "organisation", key, leaver, zh, en)


def reports_of(person: str) -> Any:
    """Those who report to the person and have not left."""
    return select(Employee).where(Employee.superior == person, Employee.state != "OFFBOARDED")


def led_by(person: str) -> Any:
    """The departments that the person leads, or is a deputy of."""
    leads = (Department.manager == person) | Department.deputies.contains([person])
    return select(Department).where(Department.state == "ACTIVE", leads)


async def _give_dates(leaver: str, heirs: Heirs, call: Call) -> None:
    """Dates to come go to the successor, or are called off; who comes, or has invited, is told."""
    own = list(await call.db.scalars(to_come(leaver).order_by(CalendarEvent.id).with_for_update()))
    given: dict[str, int] = {}
    for event in own:
        heir = await heirs.of(event.source.partition("/")[0] or "calendarEvents", call)
        coming = await event.rest(call)
        if heir is None or event.kind in OWN_TIME or event.visibility == "PRIVATE":
            await coming.cancel("EVERY", "", GONE, call)
        else:
            await coming.hand_over(heir, call)
            given[heir.name] = given.get(heir.name, 0) + 1
    for name, count in given.items():
        zh, en = f"{count} 个日程由您接手", f"{count} events are yours now"
        await notify(call, [name], "calendar", f"dates:{leaver}", leaver, zh, en)
    asked = select(CalendarEvent).where(
        CalendarEvent.state == "SCHEDULED", CalendarEvent.last_end_time > call.now,
        CalendarEvent.collaborators.contains([leaver]) | (CalendarEvent.owner == leaver),
    )  # fmt: skip
    for event in list(await call.db.scalars(asked.order_by(CalendarEvent.id).with_for_update())):
        await _decline(event, leaver, call)


async def _decline(event: CalendarEvent, leaver: str, call: Call) -> None:
    """The leaver does not come; who has invited is told."""
    coming = any(one.employee == leaver and one.response != DECLINED for one in event.attendees)
    if not coming:
        return
    await event.respond(leaver, DECLINED, GONE, call)
    if event.organizer:
        try:
            await invited.answer(event, DECLINED, GONE, call)
        except FailedPrecondition:
            # The mailbox that was asked is gone; there is no way to answer.
            return
    elif event.owner != leaver:
        entry = call.entry(leaver)
        zh = f"{entry.get('displayName', '')}已离职，不再参加：{event.display_name}"
        en = f"{entry.get('displayName', '')} has left and does not come: {event.display_name}"
        key = f"calendar:{event.name}:left:{leaver}"
        await notify(call, [event.owner], "calendar", key, event.name, zh, en)


def to_come(person: str) -> Any:
    """The events that the person has invited to, and that are not over."""
    return select(CalendarEvent).where(
        CalendarEvent.owner == person, CalendarEvent.organizer == "", CalendarEvent.state == "SCHEDULED",
        CalendarEvent.last_end_time > func.now(),
    )  # fmt: skip


async def left(person: str, call: Call) -> list[tuple[Described, int]]:
    """What is left to hand on of each collection, the most first: open work, and what workspace gives on itself."""
    waiting = select(Approval).where(Approval.state == "PENDING", Approval.collaborators.contains([person]))
    keys = select(func.count()).where(ApiKey.owner == person, ApiKey.state == "ACTIVE")

    async def count(rows: Any) -> int:
        return await call.db.scalar(select(func.count()).select_from(rows.subquery())) or 0

    async with call.everybody():
        further = {
            "approvals": sum(one.waits_for(person) for one in await call.db.scalars(waiting)),
            "calendarEvents": await count(to_come(person)),
            "employees": await count(reports_of(person)),
            "departments": await count(led_by(person)),
            "apiKeys": await call.db.scalar(keys) or 0,
        }  # fmt: skip
    own = [
        (described, count) for name, count in further.items() if count and (described := described_as(name))
    ]
    return sorted([*await left_over(person, call), *own], key=lambda pair: (-pair[1], pair[0].collection))
