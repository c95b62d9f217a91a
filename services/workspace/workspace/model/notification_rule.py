"""Rules that tell people of what happens to records, or comes near."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.options.v1 import options_pb2
from crm.workspace.v1 import pb
from crmkit import filters
from crmkit.call import Call
from crmkit.catalog import business_facts, record_fields
from crmkit.describe import Described
from crmkit.errors import FailedPrecondition, InvalidArgument, Validation, Violation
from crmkit.filters import FilterError
from crmkit.options import option
from crmkit.resource import Resource
from sqlalchemy import DateTime, Index, select, text
from sqlalchemy.orm import Mapped, mapped_column

from workspace import recurrence
from workspace.model import known_record
from workspace.model.base import Base
from workspace.model.custom_field import check_collection
from workspace.model.employee import Employee
from workspace.model.notification import check_clocks

PLACE = re.compile(r"\{([A-Za-z_.]+)\}")
HEARD = ("FACT", "CONDITION")
MOST_PEOPLE = 200
MOST_LEVELS = 10
LONGEST_AHEAD = 366
# What rules themselves make.
OWN_WORK = frozenset({"notifications", "notificationRules", "notificationPreferences", "auditEntries"})
CLOCK, ZONE = "09:00", "Asia/Shanghai"


class NotificationRule(Resource, Base):
    """When somebody is told of something."""

    __message__ = pb.NotificationRule
    __table_args__ = (
        Index("notification_rules_active_index", "trigger", "collection", postgresql_where=text("state = 'ACTIVE'")),
    )  # fmt: skip

    display_name: Mapped[str]
    trigger: Mapped[str]
    collection: Mapped[str]
    fact: Mapped[str]
    date_field: Mapped[str]
    offset_days: Mapped[int]
    yearly: Mapped[bool]
    silent_days: Mapped[int]
    weekdays: Mapped[list[str]]
    clock: Mapped[str]
    time_zone: Mapped[str]
    condition: Mapped[str]
    recipients: Mapped[Any]
    channels: Mapped[list[str]]
    actions: Mapped[list[str]]
    title_zh: Mapped[str]
    title_en: Mapped[str]
    body_zh: Mapped[str]
    body_en: Mapped[str]
    importance: Mapped[str]
    quiet_from: Mapped[str]
    quiet_to: Mapped[str]
    digest: Mapped[bool]
    repeat_days: Mapped[int]
    repeat_until: Mapped[date | None]
    state: Mapped[str]
    activate_time: Mapped[datetime | None]
    # Until when its days have been looked at.
    covered_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    async def creating(self, call: Call) -> None:
        """Begins as a draft."""
        self.state = "DRAFT"
        await self._complete(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A rule that tells stays one that can."""
        await self._complete(call)
        if self.state == "ACTIVE":
            await self.check(call)

    async def _complete(self, call: Call) -> None:
        check_collection(self.collection)
        self.clock, self.time_zone = self.clock or CLOCK, self.time_zone or ZONE
        self.channels, self.actions = self.channels or ["IN_APP"], self.actions or ["NOTIFY"]
        self.importance, self.title_en = self.importance or "NORMAL", self.title_en or self.title_zh
        recurrence.check_zone(self.time_zone)
        check_clocks(self, "notification_rule", "clock", "quiet_from", "quiet_to")
        if abs(self.offset_days) > LONGEST_AHEAD or self.silent_days > 10 * LONGEST_AHEAD:
            raise _wrong("offset_days", "天数过大", "Too many days.")
        for index, day in enumerate(self.weekdays):
            if day not in "1234567":
                raise _wrong(f"weekdays[{index}]", "须为 1 至 7", "From 1 to 7.")
        if self.trigger == "FACT" and self.fact not in business_facts():
            raise _wrong("fact", "没有这个事件", "There is no such fact.")
        if self.trigger == "DATE" and self._date_field() is None:
            raise _wrong(
                "date_field", "须为该对象的日期或时间字段", "It must be a date or time of the record."
            )
        if self.trigger == "SILENCE" and not self.silent_days:
            raise _wrong("silent_days", "请填写天数", "Say how many days.")
        if self.trigger == "CONDITION" and not self.condition.strip():
            raise _wrong("condition", "请填写条件", "Say which records.")
        try:
            if node := parsed(self.condition):
                filters.bind(node, record_fields(self.about))
        except FilterError as error:
            detail = call.text(error.detail_zh, error.detail_en)
            raise InvalidArgument("FILTER_INVALID", position=error.position + 1, detail=detail) from None

    @property
    def about(self) -> Described:
        """The collection that it is about."""
        found = known_record.described_as(self.collection)
        assert found is not None
        return found

    def _date_field(self) -> str | None:
        for field in self.about.fields.values():
            if self.date_field in (field.name, field.json_name) and field.kind in {"date", "time"}:
                return field.json_name
        return None

    async def activate(self, call: Call) -> None:
        """Tells from now on. TEMPLATE_INVALID, RECIPIENT_NONE, RULE_LOOP."""
        self.check_state("DRAFT", "PAUSED")
        await self.check(call)
        self.state, self.activate_time, self.covered_time = "ACTIVE", call.now, call.now

    def pause(self) -> None:
        """Tells nobody until it is activated again."""
        self.check_state("ACTIVE")
        self.state = "PAUSED"

    async def check(self, call: Call) -> None:
        """Refuses what can tell nobody, has nothing to say, or would set itself off."""
        self.check_template()
        if self.collection in OWN_WORK or ("CREATE_TASK" in self.actions and self.collection == "tasks"):
            raise FailedPrecondition("RULE_LOOP")
        for one in self.recipients:
            who = pb.NotificationRule.Who.Name(one.who)
            if who in {"OWNER", "COLLABORATORS", "MANAGER"}:
                return
            if who == "FIELD" and self._people_field(one.value):
                return
            if who in {"ROLE", "EMPLOYEE"} and await _people(who, one.value, call):
                return
        raise FailedPrecondition("RECIPIENT_NONE")

    def _people_field(self, value: str) -> bool:
        field = next((f for f in self.about.fields.values() if value in (f.name, f.json_name)), None)
        return field is not None and field.references == "crm.workspace/Employee"

    def check_template(self) -> None:
        """TEMPLATE_INVALID where a sentence names what no record of the collection has."""
        known = {name for f in self.about.fields.values() for name in (f.name, f.json_name)} | {"days"}
        for sentence in (self.title_zh, self.title_en, self.body_zh, self.body_en):
            rest = PLACE.sub("", sentence)
            if "{" in rest or "}" in rest:
                raise FailedPrecondition("TEMPLATE_INVALID", place=rest[:40])
            for place in PLACE.findall(sentence):
                if place.split(".")[0] not in known:
                    raise FailedPrecondition("TEMPLATE_INVALID", place=place)

    def matches(self, record: Mapping[str, Any], call: Call) -> bool:
        """Whether a record meets the condition."""
        node = parsed(self.condition)
        if node is None:
            return True
        zeros = {f.json_name: 0 for f in self.about.fields.values() if f.kind in {"int", "float"}}
        bound = filters.bind(node, record_fields(self.about))
        return filters.matches(
            bound, {**zeros, **record}, me=self.owner, now=call.now, zone=ZoneInfo(self.time_zone)
        )

    def filled(self, sentence: str, record: Mapping[str, Any], days: int, english: bool) -> str:
        """A sentence with the values of a record."""

        def word(found: re.Match[str]) -> str:
            place = found[1]
            if place == "days":
                return str(days)
            first, *more = place.split(".")
            field = next((f for f in self.about.fields.values() if first in (f.name, f.json_name)), None)
            value: Any = record.get(field.json_name) if field is not None else None
            for key in more:
                value = value.get(key) if isinstance(value, dict) else None
            if field is not None and field.kind == "enum" and isinstance(value, str) and not more:
                label = next((v for v in field.enum_values if v.name == value), None)
                if label is not None:
                    words = option(label, options_pb2.text)
                    return words.en if english else words.zh
            return _said(value, self.time_zone)

        return PLACE.sub(word, sentence)

    async def people(self, record: Mapping[str, Any], call: Call) -> list[str]:
        """Whom it names for a record, whether or not they may see it."""
        found: list[str] = []
        owner = str(record.get("owner") or "")
        for one in self.recipients:
            who = pb.NotificationRule.Who.Name(one.who)
            match who:
                case "OWNER":
                    found.append(owner)
                case "COLLABORATORS":
                    found += record.get("collaborators") or []
                case "MANAGER":
                    found.append(above(owner, max(one.level, 1), call))
                case "FIELD":
                    value: Any = next(
                        (
                            record.get(f.json_name)
                            for f in self.about.fields.values()
                            if one.value in (f.name, f.json_name)
                        ),
                        None,
                    )
                    found += value if isinstance(value, list) else [str(value or "")]
                case _:
                    found += await _people(who, one.value, call)
        return [name for name in dict.fromkeys(found) if name.startswith("employees/")]

    def days(self, today: date) -> list[str]:
        """The days, as a record tells them, of which this is the day to speak; months and days where it is yearly."""
        first = today - timedelta(days=self.offset_days)
        found = [first]
        if self.repeat_days and not (self.repeat_until and today > self.repeat_until):
            found += [first - timedelta(days=self.repeat_days * count) for count in range(1, 31)]
        if not self.yearly:
            return [day.isoformat() for day in found]
        told = [day.isoformat()[5:] for day in found]
        # Whoever was born on 29 February has the day before in other years.
        leap = [
            "02-29" for day in found if day.isoformat()[5:] == "02-28" and (day + timedelta(days=1)).day == 1
        ]
        return told + leap

    @property
    def date_key(self) -> str:
        """The JSON name of its date."""
        return self._date_field() or ""

    def moments(self, since: datetime, until: datetime) -> list[datetime]:
        """When it had to look at its records between two times."""
        day = recurrence.wall_clock(since, self.time_zone).date()
        last = recurrence.wall_clock(until, self.time_zone).date()
        at = time(int(self.clock[:2]), int(self.clock[3:]))
        found: list[datetime] = []
        while day <= last and len(found) < LONGEST_AHEAD:
            moment = recurrence.instant(datetime.combine(day, at), self.time_zone)
            due = self.trigger != "SCHEDULE" or not self.weekdays or str(day.isoweekday()) in self.weekdays
            if since < moment <= until and due:
                found.append(moment)
            day += timedelta(days=1)
        return found


def above(person: str, levels: int, call: Call) -> str:
    """Whoever is so many levels above a person; empty where there is nobody."""
    for _ in range(min(levels, MOST_LEVELS)):
        entry = call.entry(person)
        person = str(entry.get("superior") or "")
    return person


@lru_cache(maxsize=500)
def parsed(condition: str) -> filters.Node | None:
    """A condition that can be tested; None where there is none."""
    return filters.parse(condition) if condition.strip() else None


async def heard(subjects: Sequence[str], collections: Sequence[str], call: Call) -> list[NotificationRule]:
    """The rules that one of these facts, or a change in one of these collections, may set off."""
    fits = ((NotificationRule.trigger == "FACT") & NotificationRule.fact.in_(subjects)) | (
        (NotificationRule.trigger == "CONDITION") & NotificationRule.collection.in_(collections)
    )
    return list(
        await call.db.scalars(select(NotificationRule).where(NotificationRule.state == "ACTIVE", fits))
    )


async def _people(who: str, value: str, call: Call) -> list[str]:
    if who == "EMPLOYEE":
        entry = call.entry(value)
        return [value] if entry and not entry.get("disabled") else []
    holders = select(Employee.id).where(Employee.roles.contains([value]), Employee.state == "ACTIVE")
    async with call.everybody():
        return [f"employees/{key}" for key in await call.db.scalars(holders.limit(MOST_PEOPLE))]


def id_of(name: str) -> UUID:
    """The key of a rule's row."""
    return UUID(name.partition("/")[2])


def _said(value: Any, zone: str) -> str:
    if value is None:
        return ""
    if isinstance(value, dict) and "amount" in value:
        return f"{value['amount']} {value.get('currencyCode', '')}".strip()
    if isinstance(value, dict):
        return known_record.iso(value)
    if isinstance(value, list):
        return ", ".join(str(one) for one in value[:5])
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", value):
        return f"{recurrence.wall_clock(datetime.fromisoformat(value), zone):%Y-%m-%d %H:%M}"
    return str(value)


def _wrong(field: str, zh: str, en: str) -> Validation:
    return Validation(Violation(f"notification_rule.{field}", "WRONG_VALUE", zh, en))
