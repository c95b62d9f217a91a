"""On which records files hang, and by which of their fields. Whoever may read one of these reads the file.

change of a record or of a file → known_records → file_places → the first place of each file, in its own row
A file hangs on what it says itself (`attached_to`), or on a record one of whose fields names it; then the field counts.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, cast
from uuid import UUID

from crmkit.access import Reach
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.describe import Described
from crmkit.driver import driver
from crmkit.events import Fact
from crmkit.fieldlevels import concealed
from crmkit.scope import one_of
from crmkit.seen import wall
from google.api import resource_pb2
from sqlalchemy import (
    ColumnElement,
    Index,
    Text,
    Uuid,
    and_,
    any_,
    func,
    literal_column,
    not_,
    select,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.audience import Shown, shown
from workspace.model.base import Base
from workspace.model.known_record import described_as

FILE = re.compile(r"files/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# These open their files to their readers one by one, whatever a reader's scope.
NOTED = ("notes", "mailMessages", "mailRecords")
# These give away what somebody may read already.
GIVING = ("files", "fileShares")
OWN = "workspace.files.read"
# A branch for each department up to here; behind it one for all of them.
BRANCHES = 8
# File, field, and the permission that the field wants beside the record.
Found = tuple[UUID, str, str]


class FilePlace(Base):
    """A field of a record that names a file, with whose the record is; without field what the file itself says."""

    __tablename__ = "file_places"
    __table_args__ = (
        Index("file_places_record_index", "record"),
        Index("file_places_collaborators_index", "collaborators", postgresql_using="gin"),
        Index("file_places_further_owner_index", "owner", postgresql_where=text("standing = 'FURTHER'")),
        Index(
            "file_places_further_department_index",
            "department",
            postgresql_where=text("standing = 'FURTHER'"),
        ),
    )

    file: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    record: Mapped[str] = mapped_column(Text, primary_key=True)
    # Such as "contracts.documents".
    field: Mapped[str] = mapped_column(Text, primary_key=True)
    permission: Mapped[str] = mapped_column(Text)
    # FIRST stands in the file's row too, FURTHER does not; NONE counts for nothing beside the field of the same record.
    standing: Mapped[str] = mapped_column(Text, server_default=text("'NONE'"))
    requires: Mapped[str] = mapped_column(Text)
    source_scope: Mapped[str] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(Text)
    department: Mapped[str] = mapped_column(Text)
    collaborators: Mapped[list[str]] = mapped_column(ARRAY(Text))
    account: Mapped[str] = mapped_column(Text)


def is_noted(name: str) -> bool:
    """True for a private note or mail."""
    return name.partition("/")[0] in NOTED


async def learn(events: Iterable[Fact], call: Call) -> list[UUID]:
    """Keeps where files hang, by the newest that is known of each record; after `known_record.learn`.

    Returns the files that have begun to hang on something, or hang no more, of which their rows must tell.
    """
    newest: dict[str, Fact] = {}
    for event in sorted(events, key=lambda event: event.version or 0):
        if not is_noted(str(event.payload["name"])):
            newest[str(event.payload["name"])] = event
    if not newest:
        return []
    connection = await driver(call.db)
    versions = [event.version or 0 for event in newest.values()]
    current = {row["name"] for row in await connection.fetch(_CURRENT, list(newest), versions)}
    held = {row["record"] for row in await connection.fetch(_HELD, sorted(current))}
    # What hung on a record that is gone is opened by nobody: its places stay.
    gone = {name for name in current if newest[name].payload["action"] == "DELETED"}
    found = {name: _found(name, newest[name].payload) for name in sorted(current - gone)}
    told = {name: newest[name] for name in current if name.startswith("files/")}
    touched = sorted(held | {name for name, places in found.items() if places})
    files = {file for places in found.values() for file, _, _ in places}
    files |= {row["file"] for row in await connection.fetch(_FILES, touched)} if touched else set()
    files |= {UUID(name.partition("/")[2]) for name in told}
    if not files:
        return []
    # In one order, and one writer for each file: its first place is chosen from all that there are.
    await connection.execute(_LOCK, sorted(files))
    await connection.execute(
        "DELETE FROM file_places WHERE record = ANY($1::text[]) AND field <> ''", sorted({*touched} - gone)
    )
    said = {name: _attached(event) for name, event in told.items()}
    await connection.execute(
        "DELETE FROM file_places WHERE file = ANY($1::uuid[]) AND field = ''",
        [UUID(name.partition("/")[2]) for name in told],
    )
    rows = [(file, name, field, wanted) for name in touched for file, field, wanted in found.get(name, ())]
    rows += [(UUID(name.partition("/")[2]), record, "", "") for name in said for record in said[name]]
    records = sorted({record for _, record, _, _ in rows} | set(touched))
    # What nothing has been heard of yet is waited for: who tells of it comes behind this transaction, or before it.
    await connection.executemany(AWAIT, [(record,) for record in records])
    known = {row["name"]: row for row in await connection.fetch(_KNOWN, records)}
    owners = {name: newest[name].payload.get("resource") or {} for name in told}
    values = {record: seen_by(record, known[record]) for record in records}
    kept = [
        (file, record, field, wanted)
        + (values[record] if known[record]["version"] else _waiting(owners.get(f"files/{file}", {})))
        for file, record, field, wanted in sorted(rows)
    ]
    await connection.executemany(_KEEP, kept)
    heard = [(record, *values[record]) for record in records if known[record]["version"] > 0]
    await connection.executemany(_FOLLOW, heard)
    await connection.execute(_STANDING, sorted(files))
    await connection.execute(_FIRST, sorted(files))
    return [row["id"] for row in await connection.fetch(_TURNED, sorted(files))]


def _attached(event: Fact) -> list[str]:
    if event.payload["action"] == "DELETED":
        return []
    told = cast("dict[str, Any]", event.payload.get("resource") or {})
    names = {*(told.get("attachedTo") or []), told.get("folder") or ""} - {""}
    return sorted({str(name) for name in names if not is_noted(str(name))})


def seen_by(record: str, known: Mapping[str, Any]) -> tuple[str, str, str, str, list[str], str]:
    """Requires, scope, owner, department, collaborators and account of what is kept of a record."""
    described = described_as(record.partition("/")[0])
    if described is None or known["deleted"]:
        return "", "GONE", "", "", [], ""
    scope: dict[str, Any] = known["scope"]
    account = (
        record if described.collection == "accounts" else str(scope.get(described.rule.account_field) or "")
    )
    return (
        described.permission("read"), described.scope, str(scope.get("owner") or ""),
        str(scope.get("department") or ""), list(scope.get("collaborators") or ()), account,
    )  # fmt: skip


def _waiting(file: Mapping[str, Any]) -> tuple[str, str, str, str, list[str], str]:
    """Of whom a file is as long as nothing has been heard of its record: of who uploaded it."""
    return OWN, "PRIVATE", str(file.get("owner") or ""), "", [], str(file.get("account") or "")


def _found(name: str, payload: Mapping[str, Any]) -> set[Found]:
    """What a record's fields name; none where it is gone."""
    collection = name.partition("/")[0]
    described = described_as(collection)
    if described is None or collection in GIVING:
        return set()
    found: set[Found] = set()
    parts: list[Any] = [{"resource": payload.get("resource") or {}}, *(payload.get("guarded") or ())]
    for part in parts:
        record, wanted = cast("dict[str, Any]", part.get("resource") or {}), part.get("permission") or ""
        for field in _file_fields(collection):
            value = record.get(described.fields[field].json_name)
            found |= {(file, f"{collection}.{field}", wanted) for file in _files(value)}
        # Custom fields are checked against the files that one may read where the service knows files.
        for key, value in (record.get("custom") or {}).items() if described.area in _knowing() else ():
            path = f"{collection}.custom.{key}"
            found |= {(file, path, wanted or "custom.staff") for file in _files(value)}
    return found


@cache
def _file_fields(collection: str) -> tuple[str, ...]:
    """The fields of a collection that refer to files, by their protos: others hold what nobody has checked."""
    described = described_as(collection)
    fields = described.fields.values() if described is not None else ()
    return tuple(field.name for field in fields if _refers(field.descriptor, 3))


@cache
def _knowing() -> frozenset[str]:
    return frozenset(one.area for one in resources().values() if _file_fields(one.collection))


def _refers(field: Any, depth: int) -> bool:
    if field.GetOptions().Extensions[resource_pb2.resource_reference].type == "crm.workspace/File":
        return True
    inner = field.message_type
    return bool(inner and depth and any(_refers(one, depth - 1) for one in inner.fields))


def _files(value: Any) -> Iterator[UUID]:
    if isinstance(value, str):
        if FILE.fullmatch(value):
            yield UUID(value.partition("/")[2])
    elif isinstance(value, Mapping):
        for one in cast("Mapping[str, Any]", value).values():
            yield from _files(one)
    elif isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from _files(one)


def read_along(file: Any, caller: Caller) -> list[ColumnElement[bool]]:
    """The branches of files that hang on a record which the caller may read, by a field that he may read.

    By the first place of each file, which stands in its row, in the order of an index; by further ones through the
    short list of those.
    """
    ways, _ = reached(file, "place_", caller)
    further, shared = reached(FilePlace, "", caller)
    # By collaborators through the places, for no index over lists is used behind row-level security.
    beside = FilePlace.standing == literal_column("'FURTHER'")
    parts = [and_(beside, one) for one in [*further, *shared]]
    parts += [and_(FilePlace.standing == literal_column("'FIRST'"), one) for one in shared]
    shown_to = [one for model in shown_models() for one in _shown(model, caller)]
    found = union_all(*(select(FilePlace.file).where(part) for part in parts), *shown_to).subquery()
    listed = func.array(select(found.c.file).scalar_subquery(), type_=ARRAY(Uuid))
    return [*(and_(file.hangs, one) for one in ways), and_(file.hangs, file.id == any_(listed))]


def shown_models() -> list[type[Any]]:
    """The resources with an audience, by the names of their tables."""
    return sorted(Shown.__subclasses__(), key=lambda model: model.__table__.name)


def _shown(model: Any, caller: Caller) -> list[Any]:
    """Files of what the caller reads as one of an audience, by a field that he may read."""
    described = model.described
    if caller.account or not caller.employee or not caller.may(described.permission("read")):
        return []
    hidden = [one for one in _hidden(caller) if one.startswith(f"{described.collection}.")]
    opened = [not_(one_of(FilePlace.field, hidden))] if hidden else []
    named = FilePlace.record == model.sql_name()
    counts = FilePlace.standing != literal_column("'NONE'")
    return [
        select(FilePlace.file).join(model, named).where(way, counts, *opened) for way in shown(model, caller)
    ]


def reached(
    place: Any,
    prefix: str,
    caller: Caller,
    by_field: bool = True,
    shared_with: ColumnElement[bool] | None = None,
    ruled: Callable[[Described], ColumnElement[bool] | None] = lambda described: None,
) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
    """The branches over the columns of a place; those apart by which the caller is a collaborator of the record.

    `by_field` where the place is a field of the record, which may be hidden or want a permission of its own;
    `shared_with` finds the places of which the caller is a collaborator, where that is not by the list in their rows;
    `ruled` says which records of a collection pass the caller's row rules, None where that is not known here.
    """

    def at(column: str) -> Any:
        return getattr(place, f"{prefix}{column}")

    def scope(kind: str) -> ColumnElement[bool]:
        return at("source_scope") == literal_column(f"'{kind}'")

    def open_to(permissions: Iterable[str]) -> list[ColumnElement[bool]]:
        return [one_of(at("requires"), permissions), *opened]

    may = [one for one in resources().values() if caller.may(one.permission("read"))]
    hidden, special = _hidden(caller) if by_field else [], ["", *sorted(_of_fields(caller))]
    opened: list[ColumnElement[bool]] = [not_(one_of(at("field"), hidden))] if hidden else []
    if by_field and "*" not in caller.permissions:
        opened.append(one_of(at("permission"), special))
    shared = [o.permission("read") for o in may if o.scope == "SHARED" and not _rules(caller, o.collection)]
    ways = [and_(scope("SHARED"), *open_to(shared))]
    narrowed = {
        o.collection: passing
        for o in may
        if _rules(caller, o.collection) and (passing := ruled(o)) is not None
    }
    ways += [
        and_(scope("SHARED"), *open_to([o.permission("read")]), narrowed[o.collection])
        for o in may
        if o.scope == "SHARED" and o.collection in narrowed
    ]
    if caller.account:
        mine = [one.permission("read") for one in may if one.scope == "OWNED"]
        given = [one.permission("read") for one in may if one.scope == "PRIVATE" and one.rule.account_field]
        of_account = at("account") == caller.account
        ways += [
            and_(of_account, scope("OWNED"), *open_to(mine)),
            and_(of_account, scope("PRIVATE"), *open_to([OWN, *given])),
        ]
        return ways, []
    together: list[ColumnElement[bool]] = []
    beside = at("collaborators").contains([caller.employee]) if shared_with is None else shared_with
    me = at("owner") == caller.employee, beside
    if caller.employee:
        own = [one.permission("read") for one in may if one.scope == "PRIVATE"]
        private = [scope("PRIVATE"), *open_to([*own, OWN])]
        ways.append(and_(me[0], *private))
        together.append(and_(me[1], *private))
    alike: dict[tuple[Reach, str], list[str]] = {}
    for one in may:
        reach = caller.reach(one.collection)
        if one.scope == "OWNED" and (not reach.rules or one.collection in narrowed):
            alone = one.collection if reach.rules else ""
            alike.setdefault((reach, alone), []).append(one.permission("read"))
    for (reach, alone), permissions in alike.items():
        owned = [scope("OWNED"), *open_to(permissions), *([narrowed[alone]] if alone else [])]
        if reach.everything:
            ways.append(and_(*owned))
            continue
        walled = [one_of(at("department"), reach.wall)] if reach.wall is not None else []
        if caller.employee:
            ways.append(and_(me[0], *walled, *owned))
            together.append(and_(me[1], *walled, *owned))
        if reach.owners:
            ways.append(and_(one_of(at("owner"), reach.owners), *walled, *owned))
        if len(reach.departments) <= BRANCHES:
            ways += [and_(at("department") == department, *owned) for department in reach.departments]
        else:
            ways.append(and_(one_of(at("department"), reach.departments), *owned))
    return ways, together


def _rules(caller: Caller, collection: str) -> bool:
    """Whether row rules narrow a collection: they speak of fields that are not in the places, so nothing of it opens a
    file."""
    return not caller.account and bool(caller.reach(collection).rules)


def _hidden(caller: Caller) -> list[str]:
    if not caller.takes_fields:
        return []
    return [
        f"{one.collection}.{field}"
        for one in resources().values()
        for field in sorted(concealed(caller.fields(one.collection)))
    ]


def _of_fields(caller: Caller) -> set[str]:
    """The permissions that single fields may want: those of guarded ones, and of custom ones."""
    guarded = {field.rule.read_permission for one in resources().values() for field in one.fields.values()}
    return {one for one in caller.permissions if one in guarded or one.startswith("custom.")}


def policies(table: str) -> list[str]:
    """The second wall: what hangs on a record is shown by the record's reach and by nothing else."""
    names = ("scope", "employee", "account")
    kind, employee, account = (f"(SELECT current_setting('crm.{one}', true))" for one in names)
    waiting = f"{kind} = 'ACCOUNT' AND place_source_scope = 'PRIVATE' AND place_account = {account}"
    along = f"""({wall("place_")} OR {waiting} OR EXISTS (
        SELECT 1 FROM file_places p WHERE p.file = {table}.id AND p.standing = 'FURTHER' AND ({wall("p.")}))
        OR {kind} = 'STAFF' AND ({" OR ".join(_shown_policy(table, model) for model in shown_models())}))"""
    noted = f"private AND {employee} <> '' AND (owner = {employee} OR collaborators @> ARRAY[{employee}])"
    return [
        f"DROP POLICY IF EXISTS read_along ON {table}",
        f"DROP POLICY IF EXISTS hanging ON {table}",
        # Beyond the files' own scope, as far as the one behind it lets.
        f"CREATE POLICY read_along ON {table} FOR SELECT USING (hangs AND {kind} <> '')",
        f"CREATE POLICY hanging ON {table} AS RESTRICTIVE FOR SELECT"
        f" USING ({kind} = 'SYSTEM' OR NOT hangs AND NOT private OR {noted} OR hangs AND {along})",
    ]


def _shown_policy(table: str, model: Any) -> str:
    """Files of what an audience reads; whether the caller is of it, the wall of that table says."""
    return (
        f"EXISTS (SELECT 1 FROM file_places p JOIN {model.__table__.name} r"
        f" ON p.record = '{model.described.collection}/' || r.id WHERE p.file = {table}.id"
        " AND (r.shown_to_all OR r.shown_as <> ''))"
    )


_CURRENT = (
    "SELECT known.name FROM known_records AS known JOIN unnest($1::text[], $2::int[]) AS told(name, version)"
    " ON known.name = told.name AND known.version = told.version"
)
_HELD = "SELECT DISTINCT record FROM file_places WHERE record = ANY($1::text[])"
_FILES = "SELECT DISTINCT file FROM file_places WHERE record = ANY($1::text[])"
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(file::text, 0)) FROM unnest($1::uuid[]) AS one(file)"
AWAIT = (
    "INSERT INTO known_records (name, version, deleted, label, scope, record, dates, touch_time)"
    " VALUES ($1, 0, true, '', '{}', '{}', '{}', now()) ON CONFLICT (name) DO NOTHING"
)
_KNOWN = "SELECT name, version, deleted, scope FROM known_records WHERE name = ANY($1::text[]) ORDER BY name FOR SHARE"
_SEEN = "requires, source_scope, owner, department, collaborators, account"
_KEEP = (
    f"INSERT INTO file_places (file, record, field, permission, {_SEEN})"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING"
)
_FOLLOW = f"UPDATE file_places SET ({_SEEN}) = ROW ($2, $3, $4, $5, $6::text[], $7) WHERE record = $1"
_STANDING = """
UPDATE file_places SET standing = ranked.standing FROM (
    SELECT file, record, field, CASE
        WHEN field = '' AND beside THEN 'NONE'
        WHEN row_number() OVER (PARTITION BY file ORDER BY field = '' AND beside, record, field) = 1 THEN 'FIRST'
        ELSE 'FURTHER' END AS standing
    FROM (
        SELECT one.*, bool_or(field <> '') OVER (PARTITION BY file, record) AS beside
        FROM file_places AS one WHERE file = ANY($1::uuid[])
    ) AS places
) AS ranked
WHERE (file_places.file, file_places.record, file_places.field) = (ranked.file, ranked.record, ranked.field)
    AND file_places.standing <> ranked.standing
"""
_COLUMNS = (
    "field",
    "permission",
    "requires",
    "source_scope",
    "owner",
    "department",
    "collaborators",
    "account",
)
_FIRST = f"""
UPDATE files SET {
    ", ".join(
        f"place_{name} = coalesce(first.{name}, '{'{}' if name == 'collaborators' else ''}')"
        for name in _COLUMNS
    )
}
FROM unnest($1::uuid[]) AS one(id) LEFT JOIN file_places AS first ON first.file = one.id AND first.standing = 'FIRST'
WHERE files.id = one.id
"""
_TURNED = (
    "SELECT id FROM files WHERE id = ANY($1::uuid[])"
    " AND hangs <> EXISTS (SELECT 1 FROM file_places WHERE file_places.file = files.id) ORDER BY id"
)
