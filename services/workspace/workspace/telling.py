"""Tells people: each once for a key and a way, in their language, at their hours, of what they may see.

In the client by a notification; further by the first of the other ways that works (`mail.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from crmkit.call import Call
from crmkit.mapping import Reader

from workspace import mail
from workspace.model import known_record
from workspace.model.employee import Employee
from workspace.model.notification import (
    DIGEST_CLOCK,
    NotificationPreference,
    next_clock,
    put,
    quiet_until,
)

IN_APP = "IN_APP"


@dataclass(frozen=True)
class Manner:
    """How something is told, where it is not as usual."""

    importance: str = "NORMAL"
    # The ways beside the client; None is what the person prefers.
    channels: Sequence[str] | None = None
    in_app: bool = True
    # When it should have come.
    due: datetime | None = None
    # What stands together while it is unread; None: what is of one kind about one record.
    group: str | None = None
    # How a group is called that lists what it has, with {count}, in Chinese and English.
    gathers: tuple[str, str] | None = None
    quiet: tuple[str, str] = ("", "")
    digest: bool = False
    # False where the fact says that they are asked: then it does not count whether they see the record.
    seen: bool = True
    # The record that it is about, where what tells of it knows better than the change facts.
    record: Mapping[str, Any] | None = None


USUAL = Manner()


async def notify(
    call: Call,
    people: Iterable[str],
    kind: str,
    key: str,
    target: str,
    zh: str,
    en: str,
    body: str = "",
    manner: Manner = USUAL,
) -> None:
    """Tells each of the people once per key and way. Nobody is told who has left, has unsubscribed, or may not see it."""
    names = [name for name in dict.fromkeys(people) if name.startswith("employees/")]
    scope = await _scope(target, manner, call) if names else None
    for name in names:
        person = await call.named(Employee, name)
        if person is None or person.state == "OFFBOARDED":
            continue
        if scope is not None and not known_record.may_see_as(name, scope, call):
            continue
        wish = await call.find(NotificationPreference, NotificationPreference.owner == name)
        if wish is not None and kind in wish.muted_kinds and manner.importance != "CRITICAL":
            continue
        await _tell(call, person, wish, kind, key, target, en if person.locale == "en" else zh, body, manner)


def reader_of(call: Call, person: str) -> Reader:
    """What the person may read; of who is not there any more, what everybody may."""
    return call.running.directory.explained(person) or cast("Reader", call.running.nobody)


def alike(people: Iterable[str], call: Call) -> list[tuple[list[str], Reader]]:
    """The people by what they may read: those from whom no role takes anything together, every other alone."""
    everybody: list[str] = []
    apart: list[tuple[list[str], Reader]] = []
    for name in dict.fromkeys(people):
        reader = call.running.directory.explained(name) if name.startswith("employees/") else None
        if reader is not None and reader.takes_fields:
            apart.append(([name], reader))
        else:
            everybody.append(name)
    return [*([(everybody, cast("Reader", call.running.nobody))] if everybody else []), *apart]


async def _scope(target: str, manner: Manner, call: Call) -> Mapping[str, Any] | None:
    """Whose the record is; None where that is not asked: it is workspace's own, or nothing is known of it."""
    described = known_record.described_as(target.partition("/")[0])
    if not manner.seen or described is None or described.area == "workspace":
        return None
    if manner.record is not None:
        return known_record.scope_of(manner.record)
    known = (await known_record.records([target], call)).get(target)
    return known.scope if known is not None else None


async def _tell(
    call: Call,
    person: Employee,
    wish: NotificationPreference | None,
    kind: str,
    key: str,
    target: str,
    title: str,
    body: str,
    manner: Manner,
) -> None:
    zone = person.time_zone or "Asia/Shanghai"
    spans = [manner.quiet, (wish.quiet_from, wish.quiet_to)] if wish is not None else [manner.quiet]
    until = None
    if manner.importance != "CRITICAL":
        until = quiet_until(call.now, zone, spans, wish is not None and wish.working_days_only)
    group = f"{kind}:{target}" if manner.group is None and target else manner.group or ""
    told: dict[str, Any] = {
        "kind": kind, "target": target, "importance": manner.importance, "group": group,
        "gathers": list(manner.gathers or ()), "due": (manner.due or call.now).isoformat(),
    }  # fmt: skip
    if manner.in_app and until is None:
        await put(call, person.name, person.department, key, title, body, told)
    elif manner.in_app:
        await mail.queue(call, key, person, IN_APP, [], title, body, told, until)
    ways = manner.channels if manner.channels is not None else wish.channels if wish is not None else []
    ways = [way for way in ways if way != IN_APP]
    if not ways:
        return
    digest = manner.digest or (wish is not None and wish.digest)
    if digest and manner.importance != "CRITICAL":
        clock = (wish.digest_clock if wish is not None else "") or DIGEST_CLOCK
        until = next_clock(until or call.now, zone, clock)
    await mail.queue(
        call, key, person, ways[0], ways[1:], title, body, told, until,
        digest=digest and manner.importance != "CRITICAL",
    )  # fmt: skip
