"""Comments on records of any service. Whoever may read the record reads them, and nobody else."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from crm.workspace.v1 import pb
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.catalog import resources, type_of
from crmkit.driver import driver, planned_once
from crmkit.errors import FailedPrecondition, NotFound, Validation, Violation, check_reason
from crmkit.events import Fact
from crmkit.resource import Resource, parse_name
from crmkit.scope import predicate
from crmkit.seen import wall
from sqlalchemy import (
    ColumnElement,
    Index,
    Text,
    Uuid,
    and_,
    any_,
    exists,
    false,
    func,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model import file_place, known_record
from workspace.model.base import Base, check_owner
from workspace.model.names import check_names, unknown_record
from workspace.model.post import Post
from workspace.telling import Manner, notify

# The scope of comments on records of this service that are read beyond their data scope: asked of the record itself.
ASKED = "ASKED"
MOST_MENTIONS = 50
_LATEST, _ID = text("update_time DESC"), "id"


class CommentCollaborator(Base):
    """Somebody who collaborates on a record that has comments: no index over lists is used behind row-level security."""

    __tablename__ = "comment_collaborators"

    employee: Mapped[str] = mapped_column(Text, primary_key=True)
    record: Mapped[str] = mapped_column(Text, primary_key=True)


class Comment(Resource, Base):
    """What somebody says about a record. The columns `place_…` say whose the record is, as its service last told."""

    __message__ = pb.Comment
    handed_over = False
    refers_by = ("record",)
    __table_args__ = (
        Index("comments_record_index", "record", "create_time"),
        Index("comments_place_owner_index", "place_owner", _LATEST, _ID),
        Index("comments_place_department_index", "place_department", _LATEST, _ID),
        Index("comments_place_scope_index", "place_source_scope", _LATEST, _ID),
    )

    record: Mapped[str]
    body: Mapped[str]
    reply_to: Mapped[str]
    mentions: Mapped[list[str]]
    edit_time: Mapped[datetime | None]
    hide_reason: Mapped[str]
    place_requires: Mapped[str] = mapped_column(Text, server_default=text("''"))
    place_source_scope: Mapped[str] = mapped_column(Text, server_default=text("''"))
    place_owner: Mapped[str] = mapped_column(Text, server_default=text("''"))
    place_department: Mapped[str] = mapped_column(Text, server_default=text("''"))
    place_collaborators: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    place_account: Mapped[str] = mapped_column(Text, server_default=text("''"))

    # Taken while it is written, never kept.
    _accepts = False

    @property
    def accept_unseen(self) -> bool:
        """Taken, never told."""
        return False

    @accept_unseen.setter
    def accept_unseen(self, value: bool) -> None:
        self._accepts = value

    @classmethod
    def ways(cls, caller: Caller, own: list[ColumnElement[bool]] | None) -> list[ColumnElement[bool]] | None:
        """By the record alone: who wrote it reads it no longer than the record."""
        if caller.is_system:
            return None
        if caller.account:
            return [false()]
        mine = select(CommentCollaborator.record).where(CommentCollaborator.employee == caller.employee)
        shared = cls.record == any_(func.array(mine.scalar_subquery(), type_=ARRAY(Text)))
        along, together = file_place.reached(
            cls,
            "place_",
            caller,
            by_field=False,
            shared_with=shared,
            ruled=lambda described: known_record.passing(described, cls.record, caller),
        )
        by_record = or_(
            *(exists().where(_is_record(model), predicate(model, caller)) for model in _asked(cls))
        )
        return [*along, *together, and_(cls.place_source_scope == ASKED, by_record)]

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """The same as one condition."""
        ways = cls.ways(caller, [])
        return None if ways is None else or_(false(), *ways)

    @classmethod
    def scoped_as(cls) -> Collection[str]:
        """Every collection: comments are seen through records of all."""
        return ("", *(described.collection for described in resources().values()))

    @classmethod
    def further_policies(cls) -> list[str]:
        """The second wall goes by the records as well; what it asks of a record's own table, that table's wall answers."""
        table = cls.__table__.name
        kind = "(SELECT current_setting('crm.scope', true))"
        asked = " OR ".join(
            f"EXISTS (SELECT 1 FROM {model.__table__.name} r WHERE {_key_in(model)} = r.id"
            f" AND {table}.record <> '')"
            for model in _asked(cls)
        )
        seen = f"{kind} = 'STAFF' AND ({wall('place_', ruled=True)} OR place_source_scope = '{ASKED}' AND ({asked}))"
        return [
            f"DROP POLICY IF EXISTS along ON {table}",
            f"DROP POLICY IF EXISTS hanging ON {table}",
            f"CREATE POLICY along ON {table} FOR SELECT USING ({kind} = 'STAFF')",
            f"CREATE POLICY hanging ON {table} AS RESTRICTIVE FOR SELECT USING ({kind} = 'SYSTEM' OR {seen})",
        ]

    async def creating(self, call: Call) -> None:
        """About a record that who writes it may read."""
        self.owner = call.caller.employee
        check_names([self.record], "comment.record")
        await self._place(call)
        if not await may_read(call.caller, self.record, call):
            raise unknown_record("comment.record")
        if self.record.startswith("posts/") and (post := await call.named(Post, self.record)):
            post.check_open()
        await self._check(call)
        await self._tell(self.mentions, call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Who wrote it changes it; who is newly mentioned is told."""
        check_owner(self, call)
        if self.hide_reason:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state="HIDDEN")
        await self._check(call)
        if "body" in changed:
            self.edit_time = call.now
        if "mentions" in changed:
            await self._tell(self.mentions, call)

    async def deleting(self, call: Call) -> None:
        """Its author's; an answer that was accepted stays."""
        check_owner(self, call)
        if await call.find(Post, Post.accepted_answer == self.name) is not None:
            raise FailedPrecondition("POST_CLOSED")

    def hide(self, reason: str) -> None:
        """Takes its text from its readers; the audit still has it. REASON_REQUIRED, ILLEGAL_TRANSITION."""
        if self.hide_reason:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state="HIDDEN")
        self.hide_reason, self.body, self.mentions = check_reason(reason), "", []

    async def accept(self, post: Post, call: Call) -> None:
        """Takes it as the answer of a question. COMMENT_ELSEWHERE, POST_CLOSED."""
        check_owner(post, call)
        post.check_open()
        if self.record != post.name or post.kind != "QUESTION":
            raise FailedPrecondition("COMMENT_ELSEWHERE")
        post.accepted_answer, post.answered_by = self.name, self.owner
        zh, en = f"您对“{post.display_name}”的回答被采纳", f"Your answer to {post.display_name} was accepted"
        await notify(call, [self.owner], "accepted_answer", f"{post.name}:{self.name}", post.name, zh, en)

    async def _place(self, call: Call) -> None:
        """Whose the record is; it does not change until this is written, or its change finds this comment."""
        if _is_asked(self.record):
            self.place_source_scope = ASKED
            return
        connection = await driver(call.db)
        await connection.execute(file_place.AWAIT, self.record)
        known = await connection.fetchrow(_KNOWN, self.record)
        collection = self.record.partition("/")[0]
        model = call.running.models_by_type.get(type_of(collection))
        # Of this service's own records, by the row: their change facts may be on their way.
        row = await call.named(model, self.record) if model is not None else None
        if model is not None and row is not None:
            described = model.described
            account = getattr(row, described.rule.account_field) if described.rule.account_field else ""
            values = (
                described.permission("read"), described.scope, row.owner, row.department, row.collaborators, account,
            )  # fmt: skip
        else:
            values = file_place.seen_by(self.record, known)
        for column, value in zip(_COLUMNS, values, strict=True):
            setattr(self, f"place_{column}", value)
        await connection.execute(_COLLABORATE, self.record, list(self.place_collaborators))

    async def _check(self, call: Call) -> None:
        """Whom it mentions may read the record, unless that may be otherwise; what it answers is about the same."""
        if len(self.mentions) > MOST_MENTIONS:
            raise Validation(
                Violation(
                    "comment.mentions", "TOO_MANY", f"最多 {MOST_MENTIONS} 人", f"At most {MOST_MENTIONS}."
                )
            )
        before = await call.named(Comment, self.reply_to) if self.reply_to else None
        if before is not None and before.record != self.record:
            raise FailedPrecondition("COMMENT_ELSEWHERE")
        if not self._accepts and (unseen := await self._unseen(call)):
            people = [str(call.entry(name).get("displayName") or name) for name in unseen]
            raise FailedPrecondition("MENTION_OUTSIDE_AUDIENCE", people="、".join(people))

    async def _unseen(self, call: Call) -> list[str]:
        found: list[str] = []
        for name in dict.fromkeys(self.mentions):
            reader = call.running.directory.explained(name)
            if reader is None or not await may_read(reader, self.record, call):
                found.append(name)
        return found

    async def _tell(self, mentioned: Sequence[str], call: Call) -> None:
        """Those mentioned, whom it answers and whose post it is about; of what they may read, each once."""
        unseen = set(await self._unseen(call))
        mentioned = [name for name in mentioned if name not in unseen]
        label = await _label(self.record, call)
        author = str(call.entry(self.owner).get("displayName", ""))
        manner = Manner(seen=False, group="")
        zh, en = f"{author}在“{label}”的评论中提到了您", f"{author} mentioned you in a comment on {label}"
        others = [name for name in mentioned if name != self.owner]
        await notify(call, others, "mention", f"mention:{self.name}", self.record, zh, en, self.body, manner)
        concerned: list[str] = []
        if self.reply_to and (before := await call.named(Comment, self.reply_to)):
            concerned.append(before.owner)
        if self.record.startswith("posts/") and (post := await call.named(Post, self.record)):
            concerned.append(post.owner)
        concerned = [name for name in concerned if name not in (self.owner, *mentioned)]
        seeing = [
            name
            for name in dict.fromkeys(concerned)
            if (reader := call.running.directory.explained(name))
            and await may_read(reader, self.record, call)
        ]
        zh, en = f"{author}评论了“{label}”", f"{author} commented on {label}"
        await notify(call, seeing, "comment", f"comment:{self.name}", self.record, zh, en, self.body, manner)


async def may_read(reader: Caller, name: str, call: Call) -> bool:
    """True where somebody may read a record of any service."""
    collection = name.partition("/")[0]
    described = known_record.described_as(collection)
    if described is None or reader.account or not reader.may(described.permission("read")):
        return False
    model = call.running.models_by_type.get(type_of(collection))
    if model is not None:
        try:
            key = parse_name(name, collection)
        except NotFound:
            return False
        async with call.everybody():
            return bool(
                await call.db.scalar(select(exists().where(model.id == key, predicate(model, reader))))
            )
    known = (await known_record.records([name], call)).get(name)
    if known is None:
        return False
    return known_record.reads(reader, described, known)


async def follow(events: Iterable[Fact], call: Call) -> None:
    """Comments go with their records; after `known_record.learn`."""
    names = sorted({str(event.payload["name"]) for event in events})
    connection = await driver(call.db)
    # Its wall asks of many tables: planned for each list it would cost more than all else that is done with one.
    async with planned_once(connection):
        told = [row["record"] for row in await connection.fetch(_COMMENTED, names)]
    rows: list[tuple[Any, ...]] = []
    for record in told:
        known: Mapping[str, Any] | None = await connection.fetchrow(_KNOWN, record)
        if known is not None and not _is_asked(record):
            rows.append((record, *file_place.seen_by(record, known)))
    if rows:
        await connection.executemany(_FOLLOW, rows)
        await connection.execute(_LEAVE, [row[0] for row in rows])
        await connection.executemany(_COLLABORATE, [(row[0], row[5]) for row in rows])


async def _label(record: str, call: Call) -> str:
    known = (await known_record.records([record], call)).get(record)
    return known.label if known is not None and known.label else record


def _is_record(model: type[Any]) -> ColumnElement[bool]:
    """Looked up for each comment: that what the comment says stands in it twice keeps the planner from reading all
    records that the caller may read, for a page of comments on few of them."""
    return and_(literal_column(_key_in(model), Uuid()) == model.id, Comment.record != "")


def _key_in(model: type[Any]) -> str:
    """SQL of the record's key in the model's collection, null where it is in another one."""
    prefix = f"{model.described.collection}/"
    key = f"substr(comments.record, {len(prefix) + 1})::uuid"
    return f"CASE WHEN comments.record LIKE '{prefix}%' THEN {key} END"


@cache
def _asked(comments: type[Any]) -> tuple[type[Any], ...]:
    """Models of this service whose rows are read beyond their data scope: comments ask them."""
    models = (mapper.class_ for mapper in comments.registry.mappers if hasattr(mapper.class_, "described"))
    odd = [
        one
        for one in models
        if one is not comments
        and (
            one.ways.__func__ is not Resource.ways.__func__
            or one.readable.__func__ is not Resource.readable.__func__
        )
    ]
    return tuple(sorted(odd, key=lambda one: one.described.collection))


def _is_asked(record: str) -> bool:
    collection = record.partition("/")[0]
    return any(model.described.collection == collection for model in _asked(Comment))


_COLUMNS = ("requires", "source_scope", "owner", "department", "collaborators", "account")
_KNOWN = "SELECT deleted, scope FROM known_records WHERE name = $1 FOR SHARE"
_COMMENTED = "SELECT DISTINCT record FROM comments WHERE record = ANY($1::text[]) ORDER BY record"
_FOLLOW = (
    "UPDATE comments SET (place_requires, place_source_scope, place_owner, place_department, place_collaborators,"
    " place_account) = ROW ($2, $3, $4, $5, $6::text[], $7) WHERE record = $1"
)
_LEAVE = "DELETE FROM comment_collaborators WHERE record = ANY ($1::text[])"
_COLLABORATE = (
    "INSERT INTO comment_collaborators (employee, record) SELECT employee, $1 FROM unnest($2::text[]) AS one(employee)"
    " ON CONFLICT DO NOTHING"
)
