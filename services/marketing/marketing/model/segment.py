"""Segments: accounts or contacts that a filter finds, or that were chosen by hand."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid5

from crm.marketing.v1 import events_pb2 as events
from crm.marketing.v1 import pb
from crmkit.auth import Caller, system
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.resource import Resource
from crmkit.tables import Collaborator
from marketing import audience
from marketing.model.base import Base
from marketing.model.campaign import Campaign
from sqlalchemy import Boolean, ColumnElement, Index, delete, false, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

AT_ONCE = 500
MOST_BY_HAND = 1000
# Who works a segment out reads every record, who follows a record reads every segment: one after the other, or a
# record and a segment that are new at the same time would miss each other.
MEMBERSHIP_ALONE = text("SELECT pg_advisory_xact_lock(hashtext('marketing.membership'))")
MEMBERSHIP_SHARED = text("SELECT pg_advisory_xact_lock_shared(hashtext('marketing.membership'))")
Records = Sequence[tuple[str, Mapping[str, Any]]]


class SegmentMember(Resource, Base):
    """One account or contact in a segment, with the owner and department of the record. Written in masses, without
    change facts; who was taken out by hand is kept, hidden."""

    __message__ = pb.SegmentMember
    __table_args__ = (Index("segment_members_member_index", "member"),)

    segment: Mapped[str]
    member: Mapped[str]
    display_name: Mapped[str]
    by_hand: Mapped[bool]
    excluded: Mapped[bool] = mapped_column(Boolean, server_default=false())

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """Those who were taken out are not shown."""
        return None if caller.is_system else ~cls.excluded


class Segment(Resource, Base):
    """A group of accounts or contacts."""

    __message__ = pb.Segment

    display_name: Mapped[str]
    kind: Mapped[str]
    audience: Mapped[str]
    filter: Mapped[str]
    announce: Mapped[bool]
    count: Mapped[int]
    as_of_time: Mapped[datetime | None]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Refuses a filter that is wrong, and finds the first members."""
        self.state, self.kind = "ACTIVE", self.kind or "DYNAMIC"
        self.audience = self.audience or "CONTACTS"
        audience.compiled(self.audience, self.filter, call.caller)
        await self.rebuild(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Another filter finds others."""
        self._check_active()
        if "filter" in changed:
            audience.compiled(self.audience, self.filter, call.caller)
            await self.rebuild(call)

    async def deleting(self, call: Call) -> None:
        """What campaigns use stays."""
        await self._check_unused(call)
        async with call.everybody():
            await call.db.execute(delete(SegmentMember).where(SegmentMember.segment == self.name))

    async def rebuild(self, call: Call) -> None:
        """Works the members out again from everything known."""
        self._check_active()
        await call.db.execute(MEMBERSHIP_ALONE)
        found: list[tuple[str, Mapping[str, Any]]] = []
        known: dict[str, Mapping[str, Any]] = {}
        members = await self._members(call)
        node = self.node()
        async for name, record in audience.everyone(self.audience, call):
            if name in members:
                known[name] = record
            if self.kind == "DYNAMIC" and audience.fits(node, record, self.audience, call.now):
                found.append((name, record))
        names = {name for name, _ in found}
        gone = [
            name for name, by_hand in members.items() if name not in names and not (by_hand and name in known)
        ]
        by_hand = [(name, known[name]) for name, hand in members.items() if hand and name in known]
        await self._put(by_hand, True, call)
        await self._put(found, False, call)
        if gone:
            leaving = (
                SegmentMember.segment == self.name,
                SegmentMember.member.in_(gone),
                ~SegmentMember.excluded,
            )
            async with call.everybody():
                await call.db.execute(delete(SegmentMember).where(*leaving))
        await self._tell(members, call)
        self.as_of_time = call.now

    async def follow(
        self, name: str, record: Mapping[str, Any] | None, row: SegmentMember | None, call: Call
    ) -> None:
        """Lets one record join, stay or leave, as it is now; None where it is gone. `row` is what it was so far."""
        excluded, by_hand = bool(row and row.excluded), bool(row and row.by_hand)
        inside = row is not None and not excluded
        fitting = (
            record is not None
            and self.kind == "DYNAMIC"
            and audience.fits(self.node(), record, self.audience, call.now)
        )
        wanted = record is not None and (by_hand or fitting)
        if record is not None and (wanted or (row is not None and excluded)):
            await self._put([(name, record)], by_hand, call)
        elif row is not None:
            await call.db.execute(delete(SegmentMember).where(SegmentMember.id == row.id))
        if not excluded and wanted != inside:
            # Counted in place: a segment is not a new version of itself each time that somebody joins.
            table: Any = Segment.__table__
            step = table.c.count + (1 if wanted else -1)
            await call.db.execute(update(table).where(table.c.id == self.id).values(count=step))
            if self.announce:
                call.emit(events.SegmentChanged, segment=self, member=name, joined=wanted)

    async def add_members(self, members: Sequence[str], call: Call) -> None:
        """Puts records in by hand."""
        self._check_active()
        records = await self._known(members, call)
        before = await self._members(call)
        await self._put(records, True, call)
        inside = SegmentMember.segment == self.name, SegmentMember.member.in_(members)
        await call.db.execute(update(SegmentMember).where(*inside).values(by_hand=True, excluded=False))
        await self._tell(before, call)

    async def remove_members(self, members: Sequence[str], call: Call) -> None:
        """Takes records out by hand; the filter does not bring them back."""
        self._check_active()
        records = await self._known(members, call)
        before = await self._members(call)
        await self._put(records, False, call)
        inside = SegmentMember.segment == self.name, SegmentMember.member.in_(members)
        await call.db.execute(update(SegmentMember).where(*inside).values(by_hand=False, excluded=True))
        await self._tell(before, call)

    async def archive(self, call: Call) -> None:
        """Takes it out of daily work."""
        self._check_active()
        await self._check_unused(call)
        self.state = "ARCHIVED"

    async def preview(self, wanted: str, call: Call) -> tuple[int, list[str]]:
        """How many a filter finds, and some that the caller may see."""
        node = audience.compiled(self.audience, wanted or self.filter, call.caller)
        count, samples = 0, list[str]()
        async for name, record in audience.everyone(self.audience, call):
            if audience.fits(node, record, self.audience, call.now):
                count += 1
                if len(samples) < 20 and audience.sees(call.caller, self.audience, record):
                    samples.append(name)
        return count, samples

    def node(self) -> Any:
        """The filter, compiled; who wrote it was checked then."""
        return _compiled(self.audience, self.filter)

    def _check_active(self) -> None:
        if self.state == "ARCHIVED":
            raise FailedPrecondition("SEGMENT_ARCHIVED")

    async def _check_unused(self, call: Call) -> None:
        statement = select(Campaign.display_name).where(
            Campaign.segments.contains([self.name]), Campaign.state != "CANCELLED"
        )
        async with call.everybody():
            users = list(await call.db.scalars(statement.limit(5)))
        if users:
            raise FailedPrecondition("SEGMENT_IN_USE", users="、".join(users))

    async def _members(self, call: Call) -> dict[str, bool]:
        """Who is in now, and whether by hand."""
        statement = select(SegmentMember.member, SegmentMember.by_hand).where(
            SegmentMember.segment == self.name, ~SegmentMember.excluded
        )
        async with call.everybody():
            return {row.member: row.by_hand for row in await call.db.execute(statement)}

    async def _known(self, names: Sequence[str], call: Call) -> Records:
        """The records by name; those that the caller may not see do not exist."""
        found: list[tuple[str, Mapping[str, Any]]] = []
        collection = audience.described(self.audience).collection
        problems: list[Violation] = []
        for i, name in enumerate(names):
            record = await call.copy(name) if name.startswith(f"{collection}/") else None
            if record is None or not audience.sees(call.caller, self.audience, record):
                problems.append(
                    Violation(f"members[{i}]", "UNKNOWN_REFERENCE", "记录不存在", "There is no such record.")
                )
            else:
                found.append((name, record))
        if len(names) > MOST_BY_HAND:
            problems = [
                Violation("members", "TOO_MANY", f"不能超过 {MOST_BY_HAND} 项", f"At most {MOST_BY_HAND}.")
            ]
        if problems:
            raise Validation(*problems)
        return found

    async def _put(self, records: Records, by_hand: bool, call: Call) -> None:
        """Writes members, or what has changed about them; hands and exclusions stay as they were.

        A member is its record's owner's to see, whoever made the segment.
        """
        for start in range(0, len(records), AT_ONCE):
            rows = [
                self._row(name, record, by_hand, call) for name, record in records[start : start + AT_ONCE]
            ]
            table: Any = SegmentMember.__table__
            statement = insert(table)
            fresh = ("display_name", "owner", "department", "collaborators", "update_time")
            changed = {key: statement.excluded[key] for key in fresh}
            written = statement.on_conflict_do_update(index_elements=["id"], set_=changed)
            async with call.everybody():
                await call.db.execute(written, rows)
                await _share(rows, call)

    def _row(self, name: str, record: Mapping[str, Any], by_hand: bool, call: Call) -> dict[str, Any]:
        return {
            "id": member_id(self.id, name), "segment": self.name, "member": name, "by_hand": by_hand,
            "display_name": record.get("displayName", ""), "owner": record.get("owner", ""),
            "department": record.get("department", ""), "collaborators": record.get("collaborators", []),
            "create_time": call.now, "update_time": call.now, "version": 1,
        }  # fmt: skip

    async def _tell(self, before: Mapping[str, bool], call: Call) -> None:
        after = await self._members(call)
        self.count = len(after)
        if self.announce:
            for name in sorted(before.keys() ^ after.keys()):
                call.emit(events.SegmentChanged, segment=self, member=name, joined=name in after)


@lru_cache(maxsize=1024)
def _compiled(of: str, words: str) -> Any:
    return audience.compiled(of, words, system("marketing"))


def member_id(segment: UUID, name: str) -> UUID:
    """The id of a member: the same record is in a segment once."""
    return uuid5(segment, name)


async def _share(rows: Iterable[Mapping[str, Any]], call: Call) -> None:
    """Lets collaborators of the records see the members."""
    rows = list(rows)
    await call.db.execute(delete(Collaborator).where(Collaborator.id.in_([row["id"] for row in rows])))
    people = [
        {"employee": employee, "collection": "segmentMembers", "id": row["id"]}
        for row in rows
        for employee in row["collaborators"]
    ]
    if people:
        await call.db.execute(insert(Collaborator).on_conflict_do_nothing(), people)
