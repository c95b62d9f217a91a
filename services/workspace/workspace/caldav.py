"""Keeps calendars on other servers in step with those here, both ways, property by property.

What both sides had last is kept of each event: what was changed here since then goes there, what was changed there
comes here, and where both have changed the same, what was changed here counts. A write rests on the version that was
read (If-Match); where somebody was quicker it is read and merged again. What we have written ourselves is known by its
version on both sides, so that nothing goes round in circles.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Problem
from crmkit.runs import Kind, Run
from sqlalchemy import and_, delete, insert, or_, select

from workspace import ical, icalmerge, invitations, polling
from workspace.dav import Dav, Stale
from workspace.model.calendar import CalendarEvent, who
from workspace.model.calendar_account import CalendarAccount, CalendarItem
from workspace.model.employee import Employee

RUN = "SyncCalendar"
POLL = timedelta(minutes=5)
BACK = timedelta(days=90)
# Of one step: a run's lease is longer.
SECONDS = 25
AT_ONCE = 20
TRIES = 3
SHOWN = 20


async def start_due(call: Call) -> None:
    """Begins with the calendars whose time has come."""
    await polling.start_due(CalendarAccount, RUN, call)


async def sync(run: Run) -> None:
    """Takes what has changed there, then writes what has changed here."""
    if run.phase == "ENDED":
        return
    async with run.chunk() as call:
        account = await polling.locked(run, CalendarAccount, call)
        if not isinstance(account, CalendarAccount) or account.state != "ACTIVE":
            run.next_phase("ENDED")
            return
        if call.running.directory.explained(account.owner) is None:
            await polling.fail(account, "EMPLOYEE_INACTIVE", "", account.display_name, call)
            run.next_phase("ENDED")
            return
        password = account.opened(call.running.settings.secret)
    try:
        client = Dav(account.url, account.user_name, password, run.running.settings.environment)
        async with client:
            await _Sync(run, account.id, account.owner, client).all(account.calendar_url)
    except Problem as problem:
        await polling.not_read(run, CalendarAccount, problem, POLL, account.display_name)
    except TimeoutError:
        late = FailedPrecondition("CALENDAR_UNREACHABLE", detail="timeout")
        await polling.not_read(run, CalendarAccount, late, POLL, account.display_name)


class _Sync:
    """One going through of one calendar."""

    def __init__(self, run: Run, account: UUID, owner: str, client: Dav) -> None:
        self._run, self._account, self._owner, self._client = run, account, owner, client
        self._calendar = ""

    async def all(self, known: str) -> None:
        """Both ways."""
        async with asyncio.timeout(SECONDS):
            self._calendar = known or await self._client.calendar()
            there = await self._client.etags(self._calendar)
        async with self._run.chunk() as call:
            items = {item.href: item for item in await call.db.scalars(self._items())}
        changed = [href for href, etag in there.items() if href not in items or items[href].etag != etag]
        for first in range(0, len(changed), AT_ONCE):
            await self._read(changed[first : first + AT_ONCE])
        missing = sorted(items.keys() - there.keys())
        for first in range(0, len(missing), AT_ONCE):
            # What is not listed is gone only where it is not given when asked for either.
            await self._read(missing[first : first + AT_ONCE], gone=True)
        async with self._run.chunk() as call:
            waiting = list(await call.db.scalars(self._waiting(call)))
            ended = list(await call.db.scalars(self._ended()))
        for event in waiting:
            await self._write(event)
        for href in ended:
            await self._take_away(href)
        async with self._run.chunk() as call:
            account = await polling.locked(self._run, CalendarAccount, call)
            if isinstance(account, CalendarAccount):
                account.calendar_url = self._calendar
                account.read_well(POLL, call)
            self._run.next_phase("ENDED")

    def _items(self) -> Any:
        return select(CalendarItem).where(CalendarItem.account == self._account)

    def _mine(self) -> Any:
        me = self._owner
        return or_(CalendarEvent.owner == me, CalendarEvent.collaborators.contains([me]))

    def _waiting(self, call: Call) -> Any:
        """What is in the person's calendar and not as it is written there."""
        item = and_(CalendarItem.account == self._account, CalendarItem.event == CalendarEvent.id)
        written = or_(CalendarItem.left, CalendarItem.version == CalendarEvent.version)
        fresh = or_(CalendarItem.href.is_(None), written.is_(False))
        return (
            select(CalendarEvent.id)
            .outerjoin(CalendarItem, item)
            .where(
                self._mine(),
                CalendarEvent.state != "CANCELLED",
                CalendarEvent.last_end_time > call.now - BACK,
                fresh,
            )
            .order_by(CalendarEvent.id)
        )

    def _ended(self) -> Any:
        """What is there and not in the person's calendar any more."""
        kept = select(CalendarEvent.id).where(self._mine(), CalendarEvent.state != "CANCELLED")
        return select(CalendarItem.href).where(
            CalendarItem.account == self._account,
            CalendarItem.event.is_not(None),
            CalendarItem.event.not_in(kept),
        )

    async def _read(self, hrefs: Sequence[str], gone: bool = False) -> None:
        async with asyncio.timeout(SECONDS):
            found = await self._client.texts(self._calendar, hrefs)
        for href, (etag, content) in found.items():
            async with self._run.chunk() as call:
                await self._take(href, etag, content, call)
        for href in set(hrefs) - found.keys() if gone else ():
            async with self._run.chunk() as call:
                await self._gone(href, call)

    async def _item(self, href: str, call: Call) -> CalendarItem:
        item = await call.db.get(CalendarItem, (self._account, href))
        if item is None:
            row = {"etag": "", "content": "", "event": None, "version": 0, "attendees": [], "left": False}
            await call.db.execute(insert(CalendarItem).values(account=self._account, href=href, **row))
            item = await call.db.get_one(CalendarItem, (self._account, href))
        return item

    async def _take(self, href: str, etag: str, content: str, call: Call) -> None:
        """What was changed there comes here; what cannot is named, and not tried again until it is changed."""
        item = await self._item(href, call)
        components: list[Any] = []
        try:
            components = ical.read(content).walk("VEVENT")
            if components:
                async with call.db.begin_nested():
                    await self._merge(item, content, components, call)
                await self._forget(content, call)
        except (Problem, ValueError) as problem:
            await self._refuse(components, problem, call)
        item.etag, item.content, item.left = etag, content, False
        await call.flush()

    async def _merge(self, item: CalendarItem, content: str, components: Sequence[Any], call: Call) -> None:
        uid = str(components[0].get("UID", ""))[:300]
        there = ical.values_of(components)
        sequence = ical.sequence_of(components)
        event = await self._event(item, uid, call)
        if event is None:
            if there["state"] == "CANCELLED":
                return
            entry = call.entry(self._owner)
            values = {"uid": uid, "owner": self._owner, "creator": self._owner, "sequence": sequence}
            event = await call.add(
                CalendarEvent(**there, **values, department=str(entry.get("department", "")))
            )
            await call.flush()
            item.event, item.version = event.id, event.version
            return
        here = ical.values_of(ical.read(ical.write([event], "")).walk("VEVENT"))
        base = ical.values_of(ical.read(item.content).walk("VEVENT")) if item.content else None
        newer = base is not None or sequence > event.sequence
        taken = icalmerge.three_way(base, here, there) if newer and self._may_change(event) else set[str]()
        if taken:
            await event.take(
                {key: there[key] for group in taken for key in _fields(group) if key in there}, sequence, call
            )
            await call.flush()
        same = icalmerge.groups(
            {**here, **{k: there[k] for g in taken for k in _fields(g) if k in there}}
        ) == icalmerge.groups(there)
        item.event, item.version = event.id, event.version if same else 0

    async def _event(self, item: CalendarItem, uid: str, call: Call) -> CalendarEvent | None:
        """The event here that it is: the one of before, or one of the person's with the same UID."""
        if item.event is not None:
            return await call.find(CalendarEvent, CalendarEvent.id == item.event, lock=True)
        mine = select(CalendarEvent.id).where(CalendarEvent.uid == uid, self._mine()).limit(1)
        found = await call.db.scalar(mine.order_by(CalendarEvent.owner != self._owner))
        return await call.find(CalendarEvent, CalendarEvent.id == found, lock=True) if found else None

    def _may_change(self, event: CalendarEvent) -> bool:
        return event.owner == self._owner and not event.organizer and event.state == "SCHEDULED"

    async def _refuse(self, components: Sequence[Any], problem: Exception, call: Call) -> None:
        account = await polling.locked(self._run, CalendarAccount, call)
        if not isinstance(account, CalendarAccount):
            return
        uid = str(components[0].get("UID", ""))[:300] if components else ""
        title = str(components[0].get("SUMMARY", ""))[:200] if components else ""
        told = pb.RefusedEvent(
            uid=uid, display_name=title, reason="CALENDAR_UNREADABLE", detail=str(problem)[:200]
        )
        if isinstance(problem, Problem):
            told.reason, told.detail = problem.reason, problem.text(call.caller.locale, "workspace")
        account.refused = [*(one for one in account.refused if one.uid != uid), told][-SHOWN:]

    async def _forget(self, content: str, call: Call) -> None:
        """What was refused before and is taken now, or is gone, is named no more."""
        lines = ical.FOLD.sub("", content.replace("\r\n", "\n")).split("\n")
        uids = {line.partition(":")[2].strip() for line in lines if line.upper().startswith("UID")}
        account = await polling.locked(self._run, CalendarAccount, call)
        if isinstance(account, CalendarAccount) and any(one.uid in uids for one in account.refused):
            account.refused = [one for one in account.refused if one.uid not in uids]

    async def _gone(self, href: str, call: Call) -> None:
        """Taken away there: one's own goes here too, a meeting with others stays."""
        item = await self._item(href, call)
        event = (
            await call.find(CalendarEvent, CalendarEvent.id == item.event, lock=True) if item.event else None
        )
        if event is None or event.state != "SCHEDULED":
            await self._forget(item.content, call)
            await call.db.delete(item)
        elif self._may_change(event) and not event.attendees and item.version == event.version:
            await event.cancel("ALL", "", "", call)
            await call.db.delete(item)
        elif self._may_change(event) and not event.attendees:
            # It was changed here meanwhile, and is written there anew.
            await call.db.delete(item)
        else:
            item.left = True

    async def _write(self, key: UUID) -> None:
        """What was changed here goes there."""
        for _ in range(TRIES):
            async with self._run.chunk() as call:
                event = await call.find(CalendarEvent, CalendarEvent.id == key)
                if event is None or event.state == "CANCELLED":
                    return
                find = self._items().where(CalendarItem.event == key)
                item = (await call.db.scalars(find)).first()
                ours = await self._text(event, call)
                text = icalmerge.merge(item.content, ours, item.attendees) if item is not None else ours
                version, etag, before = event.version, item.etag if item else "", item.content if item else ""
                href = item.href if item else f"{self._calendar.rstrip('/')}/{event.id}.ics"
            try:
                async with asyncio.timeout(SECONDS):
                    if text != before:
                        etag = await self._client.put(href, text, etag)
                    if not etag:
                        # A server that has changed what it took says nothing of the version: it is read.
                        etag, text = (await self._client.texts(self._calendar, [href]))[href]
            except Stale:
                await self._read([href])
                continue
            async with self._run.chunk() as call:
                item = await self._item(href, call)
                item.etag, item.content, item.event, item.version = etag, text, key, version
                item.attendees = icalmerge.addresses(ours)
                await call.flush()
            return

    async def _text(self, event: CalendarEvent, call: Call) -> str:
        """The event as it is written there. Servers invite nobody: that is done from here."""
        if not event.attendees:
            return ical.write([event], "")
        keys = [UUID(one.employee.partition("/")[2]) for one in event.attendees if one.employee]
        mails = select(Employee.id, Employee.email).where(Employee.id.in_(keys))
        people = {f"employees/{key}": email for key, email in await call.db.execute(mails)}
        contacts = {
            who(one): await invitations.address_of(one, call) for one in event.attendees if one.contact
        }
        organizer = event.organizer or call.running.settings.mail_from
        return ical.write([event], "", organizer=organizer, addressed={**people, **contacts}, agent="CLIENT")

    async def _take_away(self, href: str) -> None:
        """What is in the calendar here no more goes there too."""
        for _ in range(TRIES):
            async with self._run.chunk() as call:
                item = await self._item(href, call)
            try:
                async with asyncio.timeout(SECONDS):
                    if not item.left:
                        await self._client.delete(href, item.etag)
            except Stale:
                async with asyncio.timeout(SECONDS):
                    found = await self._client.texts(self._calendar, [href])
                async with self._run.chunk() as call:
                    again = await self._item(href, call)
                    again.etag = found[href][0] if href in found else ""
                continue
            async with self._run.chunk() as call:
                mine = delete(CalendarItem).where(
                    CalendarItem.account == self._account, CalendarItem.href == href
                )
                await call.db.execute(mine)
            return


def _fields(group: str) -> Sequence[str]:
    return icalmerge.WHEN if group == "when" else (group,)


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """What keeps a calendar from being read for a reason of our own is tried again later."""
    await polling.give_up(run, CalendarAccount, POLL, call)


RUNS = {RUN: Kind(sync, give_up, aside=True)}
