"""How human numbers are made."""

from collections.abc import Iterator
from functools import cache
from zoneinfo import ZoneInfo

import crmprotos
from crm.common.v1 import common_pb2 as common
from crm.options.v1 import options_pb2
from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import filters, numbering
from crmkit.call import Call
from crmkit.catalog import record_fields
from crmkit.describe import Described
from crmkit.errors import FailedPrecondition, InvalidArgument, Validation, Violation
from crmkit.filters import FilterError
from crmkit.listing import ZONE
from crmkit.numberform import Form, form_of
from crmkit.options import option
from crmkit.resource import Resource
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

from workspace import recurrence
from workspace.model.base import Base
from workspace.model.custom_field import check_collection
from workspace.model.employee import check_reason
from workspace.model.known_record import KnownRecord

SHOWN_NUMBERS = 10
KEPT_ADVANCES = 50
# Longer holes are not looked through one by one for records that were deleted.
LONGEST_HOLE = 50
Finding = pb.NumberRule.Finding
_KINDS = {"MISSING": Finding.MISSING, "DOUBLE": Finding.DOUBLE, "OUT_OF_ORDER": Finding.OUT_OF_ORDER}
_REASONS = {
    "": Finding.REASON_UNSPECIFIED,
    "ADVANCED": Finding.ADVANCED,
    "NOT_GAP_FREE": Finding.NOT_GAP_FREE,
    "UNKNOWN": Finding.UNKNOWN,
}


class NumberRule(Resource, Base):
    """How the human numbers of a collection are made. One rule for each condition is in force."""

    __message__ = pb.NumberRule
    __table_args__ = (
        Index(
            "number_rules_active_key",
            "collection",
            "condition",
            unique=True,
            postgresql_where=text("state = 'ACTIVE'"),
        ),
    )

    collection: Mapped[str]
    pattern: Mapped[str]
    gap_free: Mapped[bool]
    example: Mapped[str]
    examples: Mapped[list[str]]
    reset: Mapped[str]
    start: Mapped[int]
    time_zone: Mapped[str]
    condition: Mapped[str]
    priority: Mapped[int]
    assign_on: Mapped[str]
    check: Mapped[pb.NumberRule.Check | None]
    advances: Mapped[list[pb.NumberRule.Advance]]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Begins as a draft."""
        self.state = "DRAFT"
        self._complete(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A rule in force is not changed but replaced."""
        self.check_state("DRAFT")
        self._complete(call)

    async def deleting(self, call: Call) -> None:
        """Only what was never in force goes."""
        self.check_state("DRAFT")

    async def activate(self, call: Call) -> None:
        """Puts the rule into force in place of the one before it with the same condition."""
        self.check_state("DRAFT", "RETIRED")
        self._complete(call)
        await self._check_free(call)
        rivals = select(NumberRule).where(
            NumberRule.collection == self.collection, NumberRule.state == "ACTIVE"
        )
        for rival in list(await call.db.scalars(rivals.with_for_update())):
            if rival.condition == self.condition:
                rival.state = "RETIRED"
            else:
                self._check_apart(rival, call)
        await call.flush()
        self.state = "ACTIVE"

    def _check_apart(self, other: "NumberRule", call: Call) -> None:
        """NUMBER_RULE_CONFLICT with a rule of other records that has the same order, or could give the same numbers."""
        same_order = self.condition and other.condition and self.priority == other.priority
        here, there = self._form(call), other._form(call)
        if (
            same_order
            or any(there.place(n) for n in self.examples)
            or any(here.place(n) for n in other.examples)
        ):
            raise FailedPrecondition("NUMBER_RULE_CONFLICT", pattern=other.pattern)

    def retire(self) -> None:
        """Takes it out of force."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    def verify(self, call: Call) -> None:
        """Asks the owner of the collection what is missing, double or out of order."""
        asked = pb.NumberRule.Check()
        asked.asked_time.FromDatetime(call.now)
        self.check = asked
        call.emit(events.NumbersAsked, number_rule=self, asked_time=call.now)

    async def advance(self, next_number: str, series: str, reason: str, call: Call) -> None:
        """Asks the owner of the collection to go on from a higher number."""
        self.check_state("ACTIVE")
        reason, form = check_reason(reason), self._form(call)
        wanted = form.place(next_number)
        if wanted is None:
            raise FailedPrecondition("NUMBER_PATTERN_INVALID")
        number = KnownRecord.record["number"].astext
        fitting = select(number).where(
            KnownRecord.name.startswith(f"{self.collection}/"), number.regexp_match(form.expression)
        )
        for known in await call.db.scalars(fitting) if not series else ():
            period, place = form.place(known) or ("", 0)
            if period == wanted[0] and place >= wanted[1]:
                raise FailedPrecondition("NUMBER_BACKWARDS", number=known)
        asked = pb.NumberRule.Advance(actor=call.caller.actor, next_number=next_number, reason=reason)
        asked.time.FromDatetime(call.now)
        self.advances = [asked, *self.advances][:KEPT_ADVANCES]
        call.emit(
            events.NumbersAsked,
            number_rule=self,
            asked_time=call.now,
            next_number=next_number,
            series=series,
            reason=reason,
        )

    async def answered(self, answer: common.NumbersAnswered, call: Call) -> None:
        """Keeps what the owner of the collection says."""
        if answer.advance:
            self.advances = [_ended(one, answer) for one in self.advances]
        elif self.check is not None and self.check.asked_time == answer.asked_time:
            found = pb.NumberRule.Check(
                asked_time=answer.asked_time,
                numbers=answer.numbers,
                strangers=answer.strangers,
            )
            found.time.FromDatetime(call.now)
            for told in answer.findings:
                found.findings.extend(await self._explained(told, call))
            unsaid = (Finding.UNKNOWN, Finding.NOT_GAP_FREE)
            found.missing = sum(one.count for one in found.findings if one.reason in unsaid)
            self.check = found

    async def _explained(self, told: common.NumberFinding, call: Call) -> list[Finding]:
        """The finding, cut where records of some of its numbers are known to have been deleted."""
        whole = Finding(
            kind=_KINDS[told.kind], series=told.series, first=told.first, last=told.last, count=told.count,
            reason=_REASONS[told.reason], note=told.note,
        )  # fmt: skip
        form = self._form(call)
        place = form.place(told.first)
        if told.kind != "MISSING" or told.reason == "ADVANCED" or place is None or told.count > LONGEST_HOLE:
            return [whole]
        numbers = [form.beside(told.first, place[1] + step) for step in range(told.count)]
        known = KnownRecord.record["number"].astext
        gone = select(known).where(
            KnownRecord.name.startswith(f"{self.collection}/"), KnownRecord.deleted, known.in_(numbers)
        )
        deleted = set(await call.db.scalars(gone))
        found: list[Finding] = []
        for number in numbers:
            reason = Finding.DELETED if number in deleted else _REASONS[told.reason]
            if not found or found[-1].reason != reason:
                found.append(
                    Finding(kind=_KINDS[told.kind], series=whole.series, first=number, reason=reason)
                )
            found[-1].last, found[-1].count = number, found[-1].count + 1
        return found

    def _form(self, call: Call) -> Form:
        return form_of(call, check_collection(self.collection), self.pattern, self.reset)

    def _complete(self, call: Call) -> None:
        described = check_collection(self.collection)
        if not described.rule.number:
            raise FailedPrecondition("COLLECTION_NOT_NUMBERED", collection=self.collection)
        if not numbering.valid(self.pattern, self.reset) or not all(_entries(self.pattern, described)):
            raise FailedPrecondition("NUMBER_PATTERN_INVALID")
        self._check_moment(described, call)
        state = described.fields.get("state")
        if (
            self.gap_free
            and self.at_creation(described)
            and state is not None
            and "DRAFT" in state.enum_numbers
        ):
            raise FailedPrecondition("GAP_FREE_ON_CREATE", collection=self.collection)
        zone = ZoneInfo(recurrence.check_zone(self.time_zone)) if self.time_zone else ZONE
        self.example = numbering.example(self.pattern, call.now, zone=zone)
        first = self.start or 1
        self.examples = [
            numbering.example(self.pattern, call.now, first + step, zone=zone)
            for step in range(SHOWN_NUMBERS)
        ]

    def at_creation(self, described: Described) -> bool:
        """Whether it numbers a record when it is made."""
        return self.assign_on == numbering.CREATE or (not self.assign_on and not described.rule.number_later)

    def _check_moment(self, described: Described, call: Call) -> None:
        """Refuses a condition over fields that are none, and a verb that the collection does not have."""
        self.condition, self.assign_on = self.condition.strip(), self.assign_on.strip()
        try:
            if self.condition:
                filters.bind(filters.parse(self.condition), record_fields(described))
        except FilterError as error:
            detail = call.text(error.detail_zh, error.detail_en)
            raise InvalidArgument("FILTER_INVALID", position=error.position + 1, detail=detail) from None
        moments = {"", numbering.CREATE}
        if not described.rule.number_at_once:
            moments |= verbs(described)
        if self.assign_on not in moments:
            zh, en = (
                "没有这个操作，或该对象须建立时编号",
                "There is no such verb, or records have their number at once.",
            )
            raise Validation(Violation("number_rule.assign_on", "UNKNOWN_VALUE", zh, en))

    async def _check_free(self, call: Call) -> None:
        """NUMBER_COLLISION where records have what a new counter would give; one that is there goes on."""
        described = check_collection(self.collection)
        form = Form(self.pattern, self.reset)
        before = select(NumberRule).where(
            NumberRule.collection == self.collection, NumberRule.state != "DRAFT"
        )
        forms = [Form(rule.pattern, rule.reset) for rule in await call.db.scalars(before)]
        if described.rule.number:
            forms.append(Form(described.rule.number))
        if form.counters in {one.counters for one in forms}:
            return
        zone = ZoneInfo(self.time_zone) if self.time_zone else ZONE
        soon = list(form.soon(call.now, self.start or 1, SHOWN_NUMBERS, zone))
        number = KnownRecord.record["number"].astext
        taken = select(number).where(
            KnownRecord.name.startswith(f"{self.collection}/"),
            ~KnownRecord.deleted,
            number.regexp_match("|".join(soon)),
        )
        if (one := await call.db.scalar(taken.limit(1))) is not None:
            raise FailedPrecondition("NUMBER_COLLISION", number=one)


@cache
def verbs(described: Described) -> frozenset[str]:
    """What can be done to one record of the collection, by the last part of its permission."""
    found = set[str]()
    for file in crmprotos.load().file:
        for method in (method for service in file.service for method in service.method):
            permission: str = option(method, options_pb2.permission)
            area, _, names = permission.partition(".")
            collection, _, verb = names.partition(".")
            its = (area, collection) == (described.area, described.collection)
            replies = method.output_type == f".{described.message.full_name}"
            if its and replies and not option(method, options_pb2.standard):
                found.add(verb)
    return frozenset(found - {"create", "read", "update", "delete"})


def _entries(pattern: str, described: Described) -> Iterator[bool]:
    """Whether each field that stands in the pattern holds one entry of a dictionary."""
    for name in numbering.chosen(pattern):
        field = described.fields.get(name)
        yield field is not None and field.kind == "text" and bool(field.rule.dictionary)


def _ended(one: pb.NumberRule.Advance, answer: common.NumbersAnswered) -> pb.NumberRule.Advance:
    if one.time != answer.asked_time:
        return one
    ended = pb.NumberRule.Advance()
    ended.CopyFrom(one)
    ended.done, ended.refused = not answer.refused, answer.refused
    return ended
