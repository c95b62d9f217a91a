"""Pages of a resource: filter, order, search, keyset tokens, aggregates; all inside the data scope."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache, partial
from hashlib import sha256
from secrets import token_bytes
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Date,
    Integer,
    Numeric,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    union,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from crmkit import catalog, filters
from crmkit.auth import ZONE as ZONE
from crmkit.auth import Caller
from crmkit.catalog import FILTER_KINDS
from crmkit.customfields import Definition
from crmkit.errors import CHINESE, InvalidArgument
from crmkit.fieldlevels import concealed
from crmkit.filters import FilterError, FilterField
from crmkit.mapping import levels_of, mapper
from crmkit.resource import Resource, snake
from crmkit.scope import branch_predicates, predicate
from crmkit.search import SearchTerm, candidates, found_by

DEFAULT_PAGE = 50
MAX_PAGE = 200
MAX_GROUPS = 1000
TOKEN_SECONDS = 24 * 3600
_CUSTOM_KEY = re.compile(r"\bcustom\.[a-z][a-z0-9_]{0,39}\b")
_JSON_NULL = literal_column("'null'::jsonb", JSONB())


@dataclass(frozen=True)
class Query:
    """What a caller asks of a collection; the token belongs to exactly these words."""

    filter: str = ""
    order_by: str = ""
    q: str = ""

    def digest(self, model: type[Resource]) -> str:
        """What binds a page token to its query."""
        words = [model.described.collection, self.filter, self.order_by, self.q]
        return sha256("\0".join(words).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Page:
    """Rows and the token of what follows; empty at the end."""

    rows: Sequence[Any]
    next_page_token: str


@cache
def filter_fields(model: type[Resource]) -> Mapping[str, FilterField]:
    """The fields of a model that filters and orders may name."""
    table = model.__table__
    found: dict[str, FilterField] = {"name": FilterField("name", "reference", _name_column(model))}
    for name, field in model.described.fields.items():
        column = table.c.get(f"{name}_amount" if field.kind == "money" else name)
        if column is not None and name != "name":
            choices = frozenset(field.enum_numbers) if field.kind == "enum" else frozenset[str]()
            currency = table.c[f"{name}_currency"] if field.kind == "money" else None
            found[name] = FilterField(name, FILTER_KINDS[field.kind], column, choices, currency)
    return found


@cache
def record_fields(model: type[Resource]) -> Mapping[str, FilterField]:
    """The fields that a filter over a record outside the database may name: derived ones too."""
    return {**catalog.record_fields(model.described), **filter_fields(model)}


def where(model: type[Resource], text: str, caller: Caller, now: datetime) -> ColumnElement[bool]:
    """The condition of a filter text; FILTER_INVALID names the character where it is wrong."""
    if not text.strip():
        return shown(model)
    try:
        node = filters.followed(filters.parse(text), partial(_became, model, caller))
        fields = _readable(model, caller, custom="custom" in text)
        found = filters.condition(node, fields, me=caller.actor, now=now, zone=ZONE)
        return and_(found, shown(model, text)) if model.unlisted else found
    except FilterError as error:
        raise _invalid(error, caller) from None


def _became(model: type[Resource], caller: Caller, path: tuple[str, ...], text: str) -> str:
    """The entry that a merged one of the field's dictionary became, so that links and views of before still find it."""
    if caller.custom is None:
        return ""
    collection, field = model.described.collection, model.described.fields.get(path[0])
    dictionary = field.rule.dictionary if field is not None and len(path) == 1 else ""
    if path[0] == "custom" and len(path) == 2 and (one := caller.custom.of(collection).get(path[1])):
        dictionary = one.dictionary
    entry = caller.custom.dictionary(dictionary).get(text) if dictionary else None
    return str(entry.get("mergedInto") or "") if entry else ""


_NAMED = re.compile(r"(?<!\w)name(?!\w)")


def shown(model: type[Resource], text: str = "") -> ColumnElement[bool]:
    """True for rows in states that lists show: those of `unlisted` only where the filter names one of them, or a record."""
    if not model.unlisted or _NAMED.search(text) or any(state in text for state in model.unlisted):
        return true()
    column = model.__table__.c.state
    # As text, since a plan for any state whatever would take nearly every row for left out.
    return and_(*(column != literal_column(f"'{state}'", Text) for state in model.unlisted))


async def page(
    session: Any,
    model: type[Resource],
    query: Query,
    page_size: int,
    page_token: str,
    caller: Caller,
    now: datetime,
    secret: bytes,
    extra: ColumnElement[bool] | None = None,
) -> Page:
    """One page of what the caller may see, in order."""
    size = size_of(page_size)
    key = open_token(page_token, query.digest(model), caller, secret) if page_token else None
    condition = where(model, query.filter, caller, now)
    if extra is not None:
        condition = and_(condition, extra)
    if query.q.strip():
        if hidden := hides_searched(model, caller):
            condition = and_(condition, await _found_without(session, model, query, hidden, caller))
        return await _search(session, model, query, size, key, condition, caller, secret)
    order = order_of(model, query.order_by, caller)
    if key is not None:
        condition = and_(condition, after(order, typed(order, key)))
    rows = await _read(session, page_statement(model, condition, order, size, caller), model)
    token = ""
    if len(rows) > size:
        rows.pop()
        last = (
            await session.execute(select(*(c for c, _ in order)).where(_row(model).id == rows[-1].id))
        ).one()
        token = seal_token([plain_value(value) for value in last], query.digest(model), caller, secret)
    return Page(rows, token)


def size_of(page_size: int) -> int:
    """How many a page has."""
    if page_size < 0:
        raise InvalidArgument("MALFORMED", detail="page_size < 0")
    return min(page_size or DEFAULT_PAGE, MAX_PAGE)


def _more(size: int) -> ColumnElement[int]:
    """One more than a page, as text: for a limit that is an argument the planner takes a tenth of all rows."""
    return literal_column(str(size + 1), Integer)


def page_statement(
    model: type[Resource],
    condition: ColumnElement[bool],
    order: "Sequence[Ordered]",
    size: int,
    caller: Caller,
) -> Select[Any]:
    branches = branch_predicates(model, caller)
    by = [column.desc() if descending else column for column, descending in order]
    if branches is None:
        return _selected(model).where(condition).order_by(*by).limit(_more(size))
    if not branches:
        return _selected(model).where(false())
    # `owner = me OR department = ANY(…) ORDER BY … LIMIT` walks the whole order index for a caller with few
    # rows; one limited query for each branch reads at most a page from each index.
    row = _row(model)
    parts = [
        select(row.id).where(branch, condition).order_by(*by).limit(_more(size)).subquery().select()
        for branch in branches
    ]
    ids = union(*parts).subquery()
    return _selected(model).join(ids, ids.c.id == row.id).order_by(*by).limit(_more(size))


@dataclass(frozen=True, slots=True)
class Record:
    """A record that is only read: its values in the order of the mapper's columns."""

    model: type[Resource]
    values: Sequence[Any]
    id: UUID


@cache
def _selected(model: type[Resource]) -> Select[Any]:
    """The columns that messages are made of; the rows themselves where a field is a property of the model."""
    columns = mapper(model).columns
    selected: list[Any] = [*columns, _row(model).id.label("_id")] if columns else [model]
    statement: Any = select(*selected).select_from(model)
    return statement


async def _read(session: Any, statement: Select[Any], model: type[Resource]) -> list[Any]:
    if not mapper(model).columns:
        return list((await session.scalars(statement)).all())
    found = await (await session.connection()).execute(statement)
    return [Record(model, values, values[-1]) for values in found.all()]


async def _search(
    session: Any,
    model: type[Resource],
    query: Query,
    size: int,
    key: list[Any] | None,
    condition: ColumnElement[bool],
    caller: Caller,
    secret: bytes,
) -> Page:
    term = search_term(model, query)
    if term is None:
        return Page([], "")
    offset = int(key[0]) if key else 0
    order = order_of(model, query.order_by, caller) if query.order_by else []
    rows = await _read(session, search_statement(model, term, condition, order, size, offset, caller), model)
    token = ""
    if len(rows) > size:
        rows.pop()
        token = seal_token([offset + size], query.digest(model), caller, secret)
    return Page(rows, token)


def search_term(model: type[Resource], query: Query) -> SearchTerm | None:
    """What is looked for; MALFORMED where the model is not searched or the text is none."""
    if model.search_table is None:
        raise InvalidArgument("MALFORMED", detail="q")
    return parse_term(query.q)


def parse_term(q: str) -> SearchTerm | None:
    """The words that are looked for, None where there are none; MALFORMED where they cannot be."""
    try:
        return SearchTerm.parse(q)
    except ValueError:
        raise InvalidArgument("MALFORMED", detail="q") from None


def hides_searched(model: type[Resource], caller: Caller) -> frozenset[str]:
    """The fields by which `q` must find nothing for the caller."""
    return model.not_searched(caller) if model.search_table is not None else frozenset()


async def _found_without(
    session: Any, model: type[Resource], query: Query, hidden: frozenset[str], caller: Caller
) -> ColumnElement[bool]:
    """True for the candidates that the term finds by what the caller may read, worked out row by row."""
    term, row = search_term(model, query), _row(model)
    if term is None:
        return false()
    search = _search_table(model)
    hits = candidates(term, search, search.c.id, where=[row.id == search.c.id, predicate(model, caller)])
    rows = await session.scalars(select(model).join(hits, hits.c.id == row.id))
    found = [one.id for one in rows if found_by(term, *one.searched(hidden, caller.custom))]
    return row.id.in_(found)


def search_statement(
    model: type[Resource],
    term: SearchTerm,
    condition: ColumnElement[bool],
    order: "Sequence[Ordered]",
    size: int,
    offset: int,
    caller: Caller,
) -> Select[Any]:
    """One more than a page of what the term finds, the best first where no order is asked for."""
    row, search = _row(model), _search_table(model)
    hits = candidates(
        term, search, search.c.id, where=[row.id == search.c.id, predicate(model, caller), condition]
    )
    by = [column.desc() if descending else column for column, descending in order] or [
        hits.c.rank, hits.c.position, row.update_time.desc(), row.id.desc()
    ]  # fmt: skip
    found = _selected(model).join(hits, hits.c.id == row.id).order_by(*by).limit(_more(size))
    return found.offset(bindparam("offset", offset))


@dataclass
class _Figures:
    count: int
    sums: dict[str, Decimal]
    averages: dict[str, Decimal]


async def aggregate(
    session: Any,
    model: type[Resource],
    query: Query,
    group_by: Sequence[str],
    sums: Sequence[str],
    averages: Sequence[str],
    caller: Caller,
    now: datetime,
    within: ColumnElement[bool] | None = None,
) -> list[tuple[list[str], int, dict[str, str], dict[str, str]]]:
    """Figures of every group: its values, count, sums and averages; money by "field:CUR"."""
    if len(group_by) > 3:
        raise InvalidArgument("MALFORMED", detail="group_by > 3")
    fields = _readable(model, caller, custom=True)
    groups = [_group_column(fields, name) for name in group_by]
    condition = and_(where(model, query.filter, caller, now), predicate(model, caller))
    if within is not None:
        condition = and_(condition, within)
    row = _row(model)
    if query.q.strip():
        term = SearchTerm.parse(query.q)
        if term is None or model.search_table is None:
            return []
        hits = candidates(term, model.search_table, model.search_table.c.id)
        condition = and_(condition, row.id.in_(select(hits.c.id)))
        if hidden := hides_searched(model, caller):
            condition = and_(condition, await _found_without(session, model, query, hidden, caller))
    wanted = list(dict.fromkeys([*sums, *averages]))
    columns = {name: _figure_column(fields, name) for name in wanted}
    figures: dict[tuple[str, ...], _Figures] = {}
    # Without a money field one pass is enough; each money field is a pass of its own, split by currency.
    plain = [name for name in wanted if columns[name].kind != "money"]
    for names in [plain, *([name] for name in wanted if name not in plain)]:
        money = columns[names[0]] if names and columns[names[0]].kind == "money" else None
        extra = [func.coalesce(money.currency, "")] if money is not None else []
        found = [
            part
            for name in names
            for part in (func.sum(columns[name].column), func.avg(columns[name].column))
        ]
        statement = (
            select(*groups, *extra, func.count(), *found)
            .select_from(model)
            .where(condition)
            .group_by(*groups, *extra)
            .order_by(func.count().desc(), *groups)
            .limit(MAX_GROUPS)
        )
        for values in (await session.execute(statement)).all():
            key = tuple(_shown(value) for value in values[: len(groups)])
            rest = values[len(groups) :]
            entry = figures.setdefault(key, _Figures(0, {}, {}))
            suffix = ""
            if money is not None:
                suffix, rest = f":{rest[0]}", rest[1:]
            else:
                entry.count = rest[0]
            for i, name in enumerate(names):
                if rest[1 + 2 * i] is not None:
                    if name in sums:
                        entry.sums[name + suffix] = rest[1 + 2 * i]
                    if name in averages:
                        entry.averages[name + suffix] = rest[2 + 2 * i]
    return [
        (
            list(key),
            e.count,
            {k: _shown(v) for k, v in e.sums.items()},
            {k: _shown(v) for k, v in e.averages.items()},
        )
        for key, e in figures.items()
    ]


Ordered = tuple[ColumnElement[Any], bool]


def order_of(model: type[Resource], order_by: str, caller: Caller) -> list[Ordered]:
    """Columns and directions, ending in the id so that the order is total."""
    row = _row(model)
    try:
        custom = "custom." in order_by
        fields = _readable(model, caller, custom=custom)
        if custom and caller.custom is None:
            fields = {**fields, **_keys_of_custom(model, order_by)}
        wanted = filters.parse_order(order_by, fields) if order_by.strip() else []
    except FilterError as error:
        raise InvalidArgument(
            "ORDER_BY_INVALID", field=order_by[error.position :].split(",")[0].split(" ")[0][:60]
        ) from None
    order: list[Ordered] = [(_never_null(field), descending) for field, descending in wanted]
    if not order:
        order = [(row.update_time, True)]
    return [*order, (row.id, order[0][1])]


def _keys_of_custom(model: type[Resource], order_by: str) -> dict[str, FilterField]:
    """The keys of `custom` that an order names, of which nothing is known. JSON has an order of its own."""
    custom: Any = _row(model).custom
    return {
        name: FilterField(name, "text", func.coalesce(custom[name.removeprefix("custom.")], _JSON_NULL))
        for name in _CUSTOM_KEY.findall(order_by)
    }


def _defined(model: type[Resource], caller: Caller) -> tuple[dict[str, FilterField], bool]:
    """The custom fields that the caller may read, and whether there are others."""
    known = caller.custom.of(model.described.collection).values() if caller.custom else ()
    hidden = concealed(caller.fields(model.described.collection))
    seen = [one for one in known if caller.may(one.permission) and one.path not in hidden]
    return {one.path: _filter_field(model, one) for one in seen}, len(seen) < len(known)


def _filter_field(model: type[Resource], field: Definition) -> FilterField:
    # Keys have letters, digits and underscores alone. As text of the statement the index on one of them is found.
    custom: Any = _row(model).custom
    value = custom.op("->", return_type=JSONB())(literal_column(f"'{field.key}'", Text()))
    text = custom.op("->>", return_type=Text())(literal_column(f"'{field.key}'", Text()))
    match field.kind:
        case "NUMBER" | "PERCENT" | "FORMULA":
            return FilterField(field.path, "number", cast(text, Numeric()))
        case "MONEY":
            amount = value.op("->>", return_type=Text())(literal_column("'amount'", Text()))
            currency = value.op("->>", return_type=Text())(literal_column("'currencyCode'", Text()))
            return FilterField(field.path, "money", cast(amount, Numeric()), currency=currency)
        case "BOOL":
            return FilterField(field.path, "bool", cast(text, Boolean()))
        case "DATE":
            return FilterField(field.path, "date", cast(text, Date()))
        case "INSTANT":
            return FilterField(field.path, "time", cast(text, TIMESTAMP(timezone=True)))
        case "MULTI_CHOICE" | "FILES":
            return FilterField(field.path, "texts", value)
        case _ if field.references:
            return FilterField(field.path, "reference", text)
        case _:
            return FilterField(field.path, "text", text)


def _never_null(field: FilterField) -> ColumnElement[Any]:
    column = field.column
    if field.kind == "bool":
        # Truth values are compared with nothing but themselves; the place in the order is.
        return cast(func.coalesce(column, false()), Integer)
    if not getattr(column, "nullable", field.name.startswith("custom.")):
        return column
    match field.kind:
        case "time":
            return func.coalesce(column, cast(literal("-infinity"), TIMESTAMP(timezone=True)))
        case "date":
            return func.coalesce(column, date.min)
        case "number" | "money":
            return func.coalesce(column, Decimal("-1e15"))
        case _:
            return func.coalesce(column, "")


def after(order: Sequence[Ordered], values: Sequence[Any]) -> ColumnElement[bool]:
    """True for the rows behind the values in the order."""
    steps: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for (column, descending), value in zip(order, values, strict=True):
        steps.append(and_(*equal, column < value if descending else column > value))
        equal.append(column == value)
    first_column, descending = order[0]
    # Beside the exact condition, one that the index understands.
    bound = first_column <= values[0] if descending else first_column >= values[0]
    return and_(bound, or_(*steps))


def typed(order: Sequence[Ordered], key: Sequence[Any]) -> list[Any]:
    """The values of a token's key as the columns of the order have them."""
    if len(key) != len(order):
        raise InvalidArgument("PAGE_TOKEN_INVALID")
    return [_typed(column, value) for (column, _), value in zip(order, key, strict=True)]


def _typed(column: ColumnElement[Any], value: Any) -> Any:
    if isinstance(column.type, JSONB):
        return _JSON_NULL if value is None else literal(value, JSONB())
    kind = column.type.python_type
    if kind is datetime:
        return datetime.fromisoformat(value) if value is not None else datetime.min.replace(tzinfo=UTC)
    if kind is date:
        return date.fromisoformat(value)
    if kind is UUID:
        return UUID(value)
    return Decimal(value) if kind is Decimal else value


def plain_value(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID | Decimal) else value


def seal_token(key: list[Any], digest: str, caller: Caller, secret: bytes) -> str:
    nonce = token_bytes(12)
    body = json.dumps([digest, key, caller.principal, int(datetime.now(UTC).timestamp())]).encode()
    return urlsafe_b64encode(nonce + AESGCM(secret).encrypt(nonce, body, b"page")).rstrip(b"=").decode()


def open_token(token: str, digest: str, caller: Caller, secret: bytes) -> list[Any]:
    try:
        sealed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        body = json.loads(AESGCM(secret).decrypt(sealed[:12], sealed[12:], b"page"))
        of_query, key, principal, issued = body
        fresh = datetime.now(UTC).timestamp() - issued < TOKEN_SECONDS
        if of_query != digest or principal != caller.principal or not fresh:
            raise ValueError
    except (ValueError, InvalidTag):
        raise InvalidArgument("PAGE_TOKEN_INVALID") from None
    return key


def _readable(model: type[Resource], caller: Caller, *, custom: bool = False) -> Mapping[str, FilterField]:
    """Fields that the caller may read, with custom ones where asked; the others do not exist for filters either."""
    fields = _own_readable(model, caller)
    if not custom:
        return fields
    defined, others = _defined(model, caller)
    # Where some may not be read the object itself must not be asked for its keys.
    return {**{name: field for name, field in fields.items() if not (others and name == "custom")}, **defined}


def _own_readable(model: type[Resource], caller: Caller) -> Mapping[str, FilterField]:
    # What tells of other records in words would tell of their fields, too.
    hidden = concealed(levels_of(model, caller)) | model.quoted(caller)
    fields = _permitted(model, caller)
    return {name: field for name, field in fields.items() if name not in hidden} if hidden else fields


def _permitted(model: type[Resource], caller: Caller) -> Mapping[str, FilterField]:
    guarded = {n: f.rule.read_permission for n, f in model.described.fields.items() if f.rule.read_permission}
    by_entry = mapper(model).by_entry
    fields = {name: field for name, field in filter_fields(model).items() if name not in by_entry}
    if all(caller.may(permission) for permission in guarded.values()):
        return fields
    return {name: field for name, field in fields.items() if name not in guarded or caller.may(guarded[name])}


def _group_column(fields: Mapping[str, FilterField], name: str) -> ColumnElement[Any]:
    base, _, unit = name.partition(":")
    field = fields.get(base) or fields.get(snake(base))
    if field is None or field.kind in {"struct", "messages", "money"}:
        raise InvalidArgument("ORDER_BY_INVALID", field=base[:60])
    if field.kind in {"time", "date"}:
        if unit not in {"day", "week", "month", "quarter", "year"}:
            raise InvalidArgument("ORDER_BY_INVALID", field=name[:60])
        local = func.timezone(ZONE.key, field.column) if field.kind == "time" else field.column
        return cast(func.date_trunc(unit, local), Date)
    return field.column


def _figure_column(fields: Mapping[str, FilterField], name: str) -> FilterField:
    field = fields.get(name) or fields.get(snake(name))
    if field is None or field.kind not in {"number", "money"}:
        raise InvalidArgument("ORDER_BY_INVALID", field=name[:60])
    return field


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return value.date().isoformat() if isinstance(value, datetime) else str(value)


def _invalid(error: FilterError, caller: Caller) -> InvalidArgument:
    detail = error.detail_zh if caller.locale == CHINESE else error.detail_en
    return InvalidArgument("FILTER_INVALID", position=error.position + 1, detail=detail)


def _name_column(model: type[Resource]) -> ColumnElement[str]:
    return literal(f"{model.described.collection}/").concat(cast(_row(model).id, Text))


def _search_table(model: type[Resource]) -> Any:
    return model.search_table


def _row(model: type[Resource]) -> Any:
    return model
