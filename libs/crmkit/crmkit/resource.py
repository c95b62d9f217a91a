"""Resources: rows that have a name.

A model names its message and writes its behaviour; columns come from the message's fields. Fields that the
behaviour uses are annotated (`state: Mapped[str]`), so that the type checker knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import uuid_utils.compat as uuid_utils
from google.protobuf.message import Message
from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    cast,
    inspect,
    literal,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from crmkit.columns import column_of, empty_value
from crmkit.describe import COMMON, Described, Field, describe
from crmkit.errors import Aborted, FailedPrecondition, NotFound
from crmkit.fieldlevels import concealed
from crmkit.search import search_indexes, search_table_columns
from crmkit.text import fold, pinyin_keys

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from crmkit.auth import Caller
    from crmkit.call import Call
    from crmkit.customfields import CustomFields
    from crmkit.mapping import Reader


def service_metadata() -> MetaData:
    """MetaData of one service's tables, with names for every constraint."""
    return MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "ix": "%(table_name)s_%(column_0_N_name)s_index",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        }
    )


class Resource:
    """A row with a name, an owner, a version and the fields of its message."""

    __message__: ClassVar[type[Message]]
    # Made by the declarative base from the columns.
    __table__: ClassVar[Table]
    described: ClassVar[Described]
    search_table: ClassVar[Table | None]
    # The collection whose reach decides who sees the rows, where it is not their own.
    scoped_by: ClassVar[str] = ""
    # False where references stay with a merged record; and texts that name records of any kind, so that they follow.
    follows_merges: ClassVar[bool] = True
    refers_by: ClassVar[tuple[str, ...]] = ()
    # False where rows tell of the past, and so stay with a department that was merged into another one.
    follows_departments: ClassVar[bool] = True
    # Of shared records that are nevertheless kept by segments: the attribute that names their department.
    kept_in: ClassVar[str] = ""
    # True where new rows know nothing of each other but by constraints, so that an import makes many at once.
    made_together: ClassVar[bool] = False
    # States that lists, search and figures leave out unless their filter names one.
    unlisted: ClassVar[tuple[str, ...]] = ()
    # The collection of which the rows are copies: what a role takes from its fields is taken from those of the same name.
    copies: ClassVar[str] = ""
    # Fields that tell of other records' fields; nobody filters by them from whom a role hides any field.
    quotes: ClassVar[frozenset[str]] = frozenset()
    # Texts of this row with the spellings that search finds them by, where they are known already.
    spelled: ClassVar[Mapping[str, tuple[str, list[str]]]] = MappingProxyType({})
    # True for documents that keep whom they were made out to as long as the law wants them.
    keeps_personal: ClassVar[bool] = False
    # False where records stay with their owner when the owner's work is handed over.
    handed_over: ClassVar[bool] = True

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, sort_order=-10)
    number: Mapped[str] = mapped_column(Text, server_default=text("''"), sort_order=90)
    owner: Mapped[str] = mapped_column(Text, server_default=text("''"), sort_order=90)
    department: Mapped[str] = mapped_column(Text, server_default=text("''"), sort_order=90)
    collaborators: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"), sort_order=90)
    pending_approval: Mapped[str] = mapped_column(Text, server_default=text("''"), sort_order=90)
    create_time: Mapped[datetime] = mapped_column(DateTime(timezone=True), sort_order=90)
    update_time: Mapped[datetime] = mapped_column(DateTime(timezone=True), sort_order=90)
    creator: Mapped[str] = mapped_column(Text, server_default=text("''"), sort_order=90)
    custom: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"), sort_order=90)
    version: Mapped[int] = mapped_column(Integer, sort_order=90)

    delete_time: datetime | None = None

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return snake(cls.described.collection)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.version, "eager_defaults": False}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "__message__" in cls.__dict__:
            cls.described = describe(cls.__message__.DESCRIPTOR)
            for field in cls.described.fields.values():
                if field.name not in COMMON and field.name != "name" and field.name not in cls.__dict__:
                    setattr(cls, field.name, column_of(field))
        super().__init_subclass__(**kwargs)
        if "__message__" in cls.__dict__:
            _add_indexes(cls)

    def __init__(self, **values: Any) -> None:
        # A new row has no history, so its defaults need not pass the ORM's sixty setters.
        state = self.__dict__
        plain, made, others = _defaults(type(self))
        state.update(plain)
        for name, make in made:
            state[name] = make()
        state["id"] = uuid_utils.uuid7()
        for name, make in others:
            if name not in values:
                setattr(self, name, make())
        for key, value in values.items():
            setattr(self, key, value)

    @property
    def name(self) -> str:
        """Resource name, such as "accounts/0190…"."""
        return f"{self.described.collection}/{self.id}"

    @classmethod
    def key_of(cls, name: str) -> UUID | None:
        """The id in a name of the collection; None for anything else."""
        try:
            return parse_name(name, cls.described.collection)
        except NotFound:
            return None

    @classmethod
    def sql_name(cls) -> ColumnElement[str]:
        """The resource name within a statement: what references to the row are compared with."""
        return literal(f"{cls.described.collection}/") + cast(cls.id, Text)

    async def forget_person(self, call: Any) -> None:
        """Empties what is marked as personal, where the person wishes to be forgotten."""
        for field in self.described.fields.values():
            if field.rule.personal:
                several = field.kind in ("texts", "references", "messages", "enums")
                single: Any = "" if field.kind in ("text", "reference", "enum") else None
                setattr(self, field.name, [] if several else single)

    async def pass_on(self, to: str, department: str, cause: str, call: Any) -> None:
        """Goes to another owner in the handover `cause`; everything else stays."""
        self.owner, self.department = to, department or self.department
        if to in self.collaborators:
            self.collaborators = [one for one in self.collaborators if one != to]

    @property
    def etag(self) -> str:
        """The version that the next writer must have seen."""
        return str(self.version)

    def check_etag(self, etag: str) -> None:
        """Refuses a writer who saw another version; an empty etag is the last writer's choice."""
        if etag and etag.strip('"') != self.etag:
            raise Aborted("ETAG_MISMATCH")

    def check_state(self, *allowed: str) -> None:
        """Refuses what the state does not allow."""
        state: str = getattr(self, "state")  # noqa: B009  # only resources with a state call this
        if state not in allowed:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=state)

    async def creating(self, call: Call) -> None:
        """Called before a row is first written; a resource checks and completes itself here."""

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Called after a standard update set the fields in `changed`, before they are written."""

    async def deleting(self, call: Call) -> None:
        """Called before a row is deleted; raises where it must stay."""

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """A condition beyond the data scope on the rows that the caller may read, for models that need one."""
        return None

    @classmethod
    def ways(cls, caller: Caller, own: list[ColumnElement[bool]] | None) -> list[ColumnElement[bool]] | None:
        """The branches by which the caller reads rows, one index each; `own` are those of the data scope, None is all.

        For models whose rows are read beyond it; they say the same in `readable` and `further_policies`.
        """
        return own

    @classmethod
    def withhold(cls, message: Any, reader: Reader) -> None:
        """Takes out of a row's message what it tells of other records and the reader may not read of those."""

    @classmethod
    def quoted(cls, caller: Caller) -> frozenset[str]:
        """The fields that tell of other records what is hidden from the caller: nothing is asked by them."""
        return cls.quotes if caller.takes_fields else frozenset()

    @classmethod
    def not_searched(cls, caller: Caller) -> frozenset[str]:
        """The fields by which `q` must find nothing for the caller."""
        hidden = concealed(caller.fields(cls.described.collection))
        known = caller.custom.of(cls.described.collection).values() if caller.custom is not None else ()
        return hidden | {one.path for one in known if one.searchable and not caller.may(one.permission)}

    def searched(self, hidden: Collection[str], custom: CustomFields | None) -> tuple[list[str], list[str]]:
        """The texts and telephone numbers that `q` finds the row by without the `hidden` fields."""
        kept = {key: value for key, value in self.custom.items() if f"custom.{key}" not in hidden}
        further = custom.search_texts(self.described.collection, kept) if custom is not None else []
        return [*self.search_texts(hidden), *further], [] if "phones" in hidden else self.search_phones()

    @classmethod
    def scoped_as(cls) -> Collection[str]:
        """The collections whose reaches the rows' policies ask for."""
        return (cls.scoped_by or cls.described.collection,)

    @classmethod
    def further_policies(cls) -> list[str]:
        """DDL of row-level security beyond the data scope, run at every migration; for models with a `readable`."""
        return []

    def search_texts(self, hidden: Collection[str] = ()) -> list[str]:
        """What `q` finds the row by: the searchable fields and the number, without the `hidden` ones."""
        texts: list[str] = [self.number] if self.number else []
        for name in (one for one in self.described.searchable if one not in hidden):
            value = getattr(self, name)
            if isinstance(value, str):
                texts.append(value)
            else:
                texts.extend(
                    item if isinstance(item, str) else getattr(item, "text", "") for item in value or ()
                )
        return [found for found in texts if found]

    def spell(self) -> dict[str, tuple[str, list[str]]]:
        """The texts that the row is found by, folded and with their spellings."""
        if self.search_table is None:
            return {}
        return {text: (fold(text), pinyin_keys(text)) for text in self.search_texts()}

    def search_phones(self) -> list[str]:
        """Telephone numbers that `q` finds the row by."""
        return []


def parse_name(name: str, collection: str) -> UUID:
    """The id in a resource name of the collection; NotFound for anything else."""
    prefix, _, key = name.partition("/")
    try:
        if prefix != collection or len(key) != 36:
            raise ValueError
        return UUID(key)
    except ValueError:
        raise NotFound() from None


def snake(name: str) -> str:
    """`accountRelations` → `account_relations`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


@cache
def _own_fields(model: type[Resource]) -> tuple[Field, ...]:
    """The fields that a model has beside the common ones, without its properties."""
    return tuple(
        field
        for field in model.described.fields.values()
        if field.name not in COMMON and field.name != "name" and _settable(model, field.name)
    )


Makers = tuple[tuple[str, Callable[[], Any]], ...]


@cache
def _defaults(model: type[Resource]) -> tuple[dict[str, Any], Makers, Makers]:
    """What a new row begins with: values that may be shared, makers of those that may not, and what is no column."""
    plain: dict[str, Any] = dict.fromkeys(
        ("number", "owner", "department", "pending_approval", "creator"), ""
    )
    plain["version"] = 1
    made: list[tuple[str, Callable[[], Any]]] = [("collaborators", list), ("custom", dict)]
    others: list[tuple[str, Callable[[], Any]]] = []
    mapped: Any = inspect(model)
    for field in _own_fields(model):
        name, make = field.name, partial(empty_value, field)
        if name in mapped.composites:
            plain |= dict.fromkeys(attribute.key for attribute in mapped.composites[name].props)
        elif name not in mapped.column_attrs:
            others.append((name, make))
        elif isinstance(make(), list | dict):
            made.append((name, make))
        else:
            plain[name] = make()
    return plain, tuple(made), tuple(others)


def _settable(model: type[Resource], name: str) -> bool:
    found = getattr(model, name, None)
    return not (isinstance(found, property) and found.fset is None)


def _add_indexes(cls: type[Resource]) -> None:
    table = cls.__table__
    table_name = table.name
    if cls.described.scope != "SHARED":
        # One index per branch of the data scope, in the default order of lists.
        for column in ("owner", "department"):
            Index(
                f"{table_name}_{column}_update_time_index",
                table.c[column],
                table.c.update_time.desc(),
                table.c.id,
            )
    Index(f"{table_name}_update_time_index", table.c.update_time.desc(), table.c.id)
    if cls.described.rule.number:
        series = [table.c[name] for name in cls.described.rule.number_per]
        numbered = table.c.number != text("''")
        Index(f"{table_name}_number_key", *series, table.c.number, unique=True, postgresql_where=numbered)
    for name, field in cls.described.fields.items():
        if field.kind == "reference" and name not in COMMON:
            # Who refers to nothing is asked for by nobody, and is not written to the index with every change.
            Index(
                f"{table_name}_{name}_index",
                table.c[name],
                table.c.update_time.desc(),
                table.c.id,
                postgresql_where=table.c[name] != text("''"),
            )
    names = [str(index.name) for index in table.indexes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{cls.__name__} declares indexes that the kit adds: {', '.join(sorted(twice))}")
    cls.search_table = _search_table(table) if cls.described.searchable else None


def _search_table(table: Table) -> Table:
    """The search columns, beside the resource: row-level security would keep the planner from their index."""
    name = f"{table.name}_search"
    key = Column("id", Uuid, ForeignKey(table.c.id, ondelete="CASCADE"), primary_key=True)
    return Table(name, table.metadata, key, *search_table_columns(), *search_indexes(name))
