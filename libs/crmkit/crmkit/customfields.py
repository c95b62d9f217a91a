"""Fields that administrators define at run time, read from the live configuration and checked against it.

Values lie in `custom` by key: texts, choices, references and files as text, days as `2026-03-05`, numbers as
numbers or decimal texts, percentages as the number before the sign, instants as `2026-03-05T01:00:00Z`, telephone
numbers as E.164, amounts as `{"currencyCode", "amount"}`, several choices or files as list. A field that names roles is read,
written, filtered and exported by these alone; one for portals by everybody, and any other by all staff.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast
from uuid import UUID

from crm.common.v1 import common_pb2
from pydantic import HttpUrl, StringConstraints, TypeAdapter, ValidationError
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from crmkit import formulas
from crmkit.errors import Validation, Violation, required
from crmkit.fieldlevels import NONE, FieldLevel, Levels, concealed, mask, read_only
from crmkit.formulas import Formula
from crmkit.phones import e164
from crmkit.tables import CustomValue
from crmkit.text import is_mail_address, reject_bad_text
from crmkit.values import Money

NOT_CHOSEN = ("该选项已停用或不在有效期内，不能选择", "The entry is retired or not valid today.")
ELSEWHERE = ("该选项只供其他部门使用", "The entry is for other departments.")

if TYPE_CHECKING:
    from crmkit.call import Call
    from crmkit.resource import Resource

# What every person of the company holds, and nobody of a customer or partner.
STAFF = "custom.staff"
# What everybody who signs in holds, customers and partners too.
PORTAL = "custom.portal"
TODAY = "today"
MOST_CHOICES = 100
MOST_FILES = 20
# Kinds whose values are names of records, with the collection of these.
NAMING: Mapping[str, str] = {
    "FILE": "files", "FILES": "files", "EMPLOYEE": "employees", "DEPARTMENT": "departments",
}  # fmt: skip
_EMPTY: tuple[Any, ...] = (None, "", [])


class ConfigReader(Protocol):
    """The part of the live configuration that fields need."""

    def get(self, key: str) -> Any:
        """The value of a key, None if absent."""
        ...

    def prefix(self, prefix: str) -> Mapping[str, Any]:
        """All entries whose key begins so."""
        ...

    def changed(self, prefix: str, listener: Callable[[str, Any], None]) -> None:
        """Calls the listener for every change of such a key."""
        ...


@dataclass(frozen=True)
class Definition:
    """One field of a collection, as it is now."""

    collection: str
    key: str
    kind: str
    label: tuple[str, str]
    required: bool
    unique: bool
    searchable: bool
    retired: bool
    # Forms and lists leave it out, and nobody is asked for it; who knows its key reads and writes it.
    hidden: bool
    # Whether customers and partners have it: "READ", "EDIT", or "" where they have not.
    portal: str
    roles: tuple[str, ...]
    choices: Mapping[str, tuple[str, str]]
    dictionary: str
    # The collection of the records that values name; "" where they name none.
    references: str
    max_length: int
    default: Any
    minimum: str
    maximum: str
    pattern: str
    # Another field, and which of its values show this one; "" where it is always shown.
    shown_by: str
    shown_for: tuple[str, ...]
    # What a "FORMULA" is reckoned by (`crmkit.formulas`).
    formula: str

    @classmethod
    def read(cls, collection: str, entry: Mapping[str, Any]) -> Definition:
        """A field as the configuration tells it."""
        label: dict[str, str] = entry.get("label") or {}
        condition: dict[str, Any] = entry.get("visibleIf") or {}
        return cls(
            collection, entry["key"], entry["kind"], (label.get("zh", ""), label.get("en", "")),
            bool(entry.get("required")), bool(entry.get("unique")), bool(entry.get("searchable")),
            bool(entry.get("retired")), bool(entry.get("hidden")), entry.get("portal", ""),
            tuple(entry.get("roles", ())), _choices(entry.get("choices", ())),
            entry.get("dictionary", ""), _named(entry), int(entry.get("maxLength") or 2000),
            entry.get("default"), entry.get("minimum", ""), entry.get("maximum", ""), entry.get("pattern", ""),
            condition.get("field", ""), tuple(condition.get("values", ())), entry.get("formula", ""),
        )  # fmt: skip

    @property
    def permission(self) -> str:
        """What a caller must hold to read and write it; `Directory` gives it to the field's roles."""
        if self.roles:
            return f"custom.{self.collection}.{self.key}"
        return PORTAL if self.portal else STAFF

    @property
    def path(self) -> str:
        """How filters, orders and columns name it."""
        return f"custom.{self.key}"


def _named(entry: Mapping[str, Any]) -> str:
    kind = entry["kind"]
    return str(entry.get("references", "")) if kind == "REFERENCE" else NAMING.get(kind, "")


def read_definitions(collection: str, entry: Any) -> dict[str, Definition]:
    """The fields of a collection by key, from its entry in the configuration."""
    told: dict[str, Any] = entry or {}
    found: list[Mapping[str, Any]] = told.get("fields", [])
    return {one["key"]: Definition.read(collection, one) for one in found}


class CustomFields:
    """The fields of every collection, as the live configuration tells them."""

    def __init__(self, config: ConfigReader) -> None:
        self._config = config
        self._known: dict[str, Mapping[str, Definition]] = {}
        self._formulas: dict[str, Mapping[str, Formula]] = {}
        self._entries: dict[str, dict[str, dict[str, Any]]] = {}
        config.changed("customField.", self._forget)
        config.changed("dictionary.", self._forget_entries)

    def _forget(self, key: str, value: Any) -> None:
        self._known.pop(key.partition(".")[2], None)
        self._formulas.pop(key.partition(".")[2], None)

    def _forget_entries(self, key: str, value: Any) -> None:
        self._entries.pop(key.partition(".")[2], None)

    def of(self, collection: str) -> Mapping[str, Definition]:
        """The fields of the collection by key, retired ones too."""
        known = self._known.get(collection)
        if known is None:
            known = read_definitions(collection, self._config.get(f"customField.{collection}"))
            self._known[collection] = known
        return known

    def collections(self) -> set[str]:
        """The collections that have fields."""
        return set(self._config.prefix("customField."))

    def held_by(self, roles: Sequence[str], staff: bool) -> frozenset[str]:
        """The permissions that somebody with these roles has for fields."""
        held = {PORTAL, STAFF} if staff else {PORTAL}
        for collection in self.collections():
            held.update(one.permission for one in self.of(collection).values() if {*one.roles} & {*roles})
        return frozenset(held)

    def decided_by(self, collection: str, names: Collection[str]) -> bool:
        """Whether one of the record's own fields decides if a custom field is shown."""
        return any(one.shown_by in names for one in self.of(collection).values() if one.shown_by)

    def formulas(self, collection: str) -> Mapping[str, Formula]:
        """The formulas of the collection by key, each behind those that it is reckoned from."""
        known = self._formulas.get(collection)
        if known is None:
            found: dict[str, Formula] = {}
            for key, definition in self.of(collection).items():
                if definition.kind == "FORMULA" and not definition.retired:
                    found[key] = formulas.read(definition.formula)
            known = self._formulas[collection] = formulas.in_order(found)
        return known

    def reckoned(self, row: Resource) -> dict[str, Any]:
        """The row's values with what its formulas make of them and of its own fields."""
        collection = row.described.collection
        values, definitions = dict(row.custom), self.of(collection)
        for key, formula in self.formulas(collection).items():
            number = formula.reckon(lambda path: _reckonable(path, row, values, definitions))
            values.pop(key, None)
            if number is not None:
                values[key] = formulas.plain(number)
        return values

    def with_reckoned(self, collection: str, levels: Levels) -> Levels:
        """The levels with those of formulas, which tell as little as the least that they are reckoned from tells."""
        known = self.formulas(collection)
        if not known:
            return levels
        found = dict(levels)
        for key, formula in known.items():
            if formula.fields & concealed(found):
                found[f"custom.{key}"] = FieldLevel.HIDDEN
        return found

    def dictionary(self, name: str) -> dict[str, dict[str, Any]]:
        """The entries of a live dictionary by key."""
        known = self._entries.get(name)
        if known is None:
            found: dict[str, Any] = self._config.get(f"dictionary.{name}") or {}
            entries: list[dict[str, Any]] = found.get("entries", [])
            known = self._entries[name] = {entry["key"]: entry for entry in entries}
        return known

    def choices(self, definition: Definition) -> dict[str, tuple[str, str]]:
        """What may be chosen now, with its labels: the definition's own choices, or those of its dictionary."""
        if not definition.dictionary:
            return dict(definition.choices)
        return {
            key: (entry["label"].get("zh", ""), entry["label"].get("en", ""))
            for key, entry in self.dictionary(definition.dictionary).items()
            if not entry.get("retired")
        }

    def labels(self, definition: Definition) -> dict[str, str]:
        """What the choices are called in Chinese, retired ones too."""
        if not definition.dictionary:
            return {key: zh or key for key, (zh, _) in definition.choices.items()}
        entries = self.dictionary(definition.dictionary)
        return {key: entry["label"].get("zh") or key for key, entry in entries.items()}

    def search_texts(self, collection: str, values: Mapping[str, Any]) -> list[str]:
        """What `q` finds a record by, beside its own fields."""
        found: list[str] = []
        for key, definition in self.of(collection).items():
            value = values.get(key)
            if definition.searchable and value not in _EMPTY:
                found += cast("list[str]", value) if isinstance(value, list) else [str(value)]
        return found


@dataclass(frozen=True)
class Nobody:
    """Reads what everybody of the company may: whom business facts are written for."""

    custom: CustomFields

    def may(self, permission: str) -> bool:
        """True for what all staff reads."""
        return permission in {STAFF, PORTAL}

    def fields(self, collection: str) -> Levels:
        """Roles take nothing from whoever has none."""
        return NONE

    @property
    def is_system(self) -> bool:
        """Business facts are told to services."""
        return True


class _Wrong(Exception):
    """Why a value is not one of the field."""

    def __init__(self, reason: str, zh: str, en: str) -> None:
        self.reason, self.zh, self.en = reason, zh, en


_TYPE = ("WRONG_TYPE", "值与字段类型不符", "The value does not fit the field.")


async def check_custom(
    row: Resource, call: Call, before: Mapping[str, Any] | None = None, *, hold: bool = True
) -> None:
    """Completes and checks `custom`; Validation where something does not fit. `before` is what an old row had.

    Values of unique fields are taken at the next flush, unless `hold` says that `hold_many` will do it.
    """
    fields = call.running.directory.custom
    definitions = fields.of(row.described.collection)
    if not definitions and not row.custom:
        return
    head, old, new = f"{row.described.singular}.custom", before or {}, before is None
    values = {key: value for key, value in row.custom.items() if value not in _EMPTY}
    violations: list[Violation] = []
    for key in [key for key in values if key not in definitions and values[key] != old.get(key)]:
        violations.append(_unknown(f"{head}.{key}"))
    levels = call.caller.fields(row.described.collection)
    # Whether one is shown is told by values that are complete by then.
    for key, definition in sorted(definitions.items(), key=lambda one: bool(one[1].shown_by)):
        level = levels.get(definition.path)
        if definition.portal == "READ" and not call.caller.may(STAFF):
            level = level or FieldLevel.READ_ONLY
        path, seen = (
            f"{head}.{key}",
            call.caller.may(definition.permission) and level is not FieldLevel.HIDDEN,
        )
        if definition.kind == "FORMULA":
            known = old.get(key)
            if values.pop(key, known) != known:
                violations.append(read_only(path) if seen else _unknown(path))
            values |= {key: known} if known is not None else {}
            continue
        if level and seen and not definition.retired:
            known = old.get(key)
            if key in values and values[key] not in (known, mask(known) if isinstance(known, str) else known):
                violations.append(read_only(path))
            # Nor is it taken away by leaving it out.
            values.pop(key, None)
            values |= {key: known} if known is not None else {}
        if definition.retired or not seen:
            # Who does not know of a value cannot mean to take it away.
            if key in values and values[key] != old.get(key):
                violations.append(
                    Violation(path, "RETIRED", "该字段已停用", "The field is retired.")
                    if seen
                    else _unknown(path)
                )
            elif key in old:
                values[key] = old[key]
        shown = _is_shown(definition, row, values)
        if new and shown and key not in values and definition.default is not None and not definition.retired:
            values[key] = _default(definition, call)
        if key not in values:
            if (
                definition.required
                and shown
                and seen
                and not level
                and not definition.retired
                and not definition.hidden
                and not call.caller.is_system
            ):
                violations.append(required(path))
            continue
        if values[key] == old.get(key):
            continue
        try:
            values[key] = normal(definition, values[key], fields)
            _check_chosen(definition, values[key], row, call)
            await _check_name(definition, values[key], call)
        except _Wrong as wrong:
            violations.append(Violation(path, wrong.reason, wrong.zh, wrong.en))
    if violations:
        raise Validation(*violations)
    row.custom = values
    if fields.formulas(row.described.collection):
        row.custom = fields.reckoned(row)
    keys = [key for key, one in definitions.items() if one.unique and values.get(key) != old.get(key)]
    if keys and hold:
        call.after_flush(lambda: _hold(row, [definitions[key] for key in keys], call))


def _reckonable(
    path: str, row: Resource, values: Mapping[str, Any], definitions: Mapping[str, Definition]
) -> Any:
    """A value as formulas reckon with it; None where there is none."""
    from crmkit.auth import ZONE

    head, _, key = path.partition(".")
    value: Any = values.get(key) if key else getattr(row, head, None)
    if value in _EMPTY:
        return None
    if not key:
        return value.astimezone(ZONE) if isinstance(value, datetime) else value
    try:
        match definitions[key].kind:
            case "NUMBER" | "PERCENT" | "FORMULA":
                return Decimal(str(value))
            case "MONEY":
                return Money(Decimal(value["amount"]), value["currencyCode"])
            case "DATE":
                return date.fromisoformat(value)
            case "INSTANT":
                return datetime.fromisoformat(value).astimezone(ZONE)
            case _:
                return value
    except (ArithmeticError, LookupError, TypeError, ValueError):
        # A value of before the field became what it is.
        return None


def _unknown(path: str) -> Violation:
    return Violation(path, "CUSTOM_FIELD_UNKNOWN", "没有这个自定义字段", "There is no such custom field.")


def _is_shown(definition: Definition, row: Resource, values: Mapping[str, Any]) -> bool:
    """Whether forms show the field beside what the record has otherwise. What is given all the same is kept."""
    if not definition.shown_by:
        return True
    head, _, key = definition.shown_by.partition(".")
    value = values.get(key) if key else getattr(row, head)
    text = json.dumps(value) if isinstance(value, bool) else str(value if value is not None else "")
    return text in definition.shown_for


def _default(definition: Definition, call: Call) -> Any:
    from crmkit.auth import ZONE

    if definition.kind == "DATE" and definition.default == TODAY:
        return call.now.astimezone(ZONE).date().isoformat()
    return definition.default


def choosable(entry: Mapping[str, Any], day: date) -> bool:
    """Whether an entry of a dictionary may be chosen on a day."""
    first, last = entry.get("validFrom") or "", entry.get("validTo") or "9999"
    return not entry.get("retired") and first <= day.isoformat() <= last


def not_chosen(entry: Mapping[str, Any], row: Resource, call: Call) -> tuple[str, str, str] | None:
    """Why the record may not get the entry of a dictionary: reason and both sentences. None where it may.

    An entry of some departments is for records of these and of those beneath them; the platform itself chooses freely.
    """
    from crmkit.company import beneath, today

    if not choosable(entry, today(call)):
        return ("DICTIONARY_ITEM_RETIRED", *NOT_CHOSEN)
    departments = entry.get("departments")
    if not departments or call.caller.is_system:
        return None
    owned = call.entry(row.owner).get("department", "") if row.owner else ""
    home = row.department or owned or call.caller.department
    return None if beneath(home, departments, call) else ("DICTIONARY_ITEM_ELSEWHERE", *ELSEWHERE)


def _check_chosen(definition: Definition, value: Any, row: Resource, call: Call) -> None:
    """Refuses what is a choice, but not today or not here."""
    if not definition.dictionary:
        return
    entries = call.running.directory.custom.dictionary(definition.dictionary)
    for one in cast("list[str]", value) if isinstance(value, list) else [str(value)]:
        if one in entries and (refused := not_chosen(entries[one], row, call)):
            raise _Wrong(*refused)


async def _check_name(definition: Definition, value: Any, call: Call) -> None:
    if not definition.references:
        return
    for name in cast("list[str]", value) if isinstance(value, list) else [value]:
        if not await call.knows(name, definition.references):
            raise _Wrong("UNKNOWN_REFERENCE", "引用的记录不存在", "The referenced record does not exist.")


def fits(definition: Definition, value: Any, fields: CustomFields) -> bool:
    """Whether the value is one of the field."""
    try:
        normal(definition, value, fields)
    except _Wrong:
        return False
    return True


def normal(definition: Definition, value: Any, fields: CustomFields) -> Any:
    """The value as records keep it; raises where it is none of the field."""
    kept = _of_kind(definition, value, fields)
    if definition.pattern and not matches(definition.pattern, kept):
        raise _Wrong("WRONG_FORMAT", "格式不符合要求", "The text does not have the form that is asked for.")
    if definition.minimum or definition.maximum:
        measure = _measure(definition.kind, kept)
        if definition.minimum and measure < read_limit(definition.kind, definition.minimum):
            raise _Wrong("TOO_SMALL", f"不能小于 {definition.minimum}", f"At least {definition.minimum}.")
        if definition.maximum and measure > read_limit(definition.kind, definition.maximum):
            raise _Wrong("TOO_LARGE", f"不能大于 {definition.maximum}", f"At most {definition.maximum}.")
    return kept


def _measure(kind: str, value: Any) -> Decimal:
    """What is compared with limits: of amounts the figure, of days their place in time."""
    if kind == "MONEY":
        return Decimal(value["amount"])
    return read_limit(kind, str(value))


def read_limit(kind: str, text: str) -> Decimal:
    """A least or greatest value of numbers, amounts or days; ValueError where the text is none."""
    if kind == "DATE":
        return Decimal(date.fromisoformat(text).toordinal())
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(text) from error
    if not number.is_finite():
        raise ValueError(text)
    return number


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits; `pydantic_core.SchemaError` where the pattern is none."""
    try:
        _compiled(pattern).validate_python(text)
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=1000)
def _compiled(pattern: str) -> TypeAdapter[str]:
    # Its engine takes a time that grows with the text alone: no author of a pattern can stop a service with it.
    return TypeAdapter(Annotated[str, StringConstraints(pattern=rf"\A(?:{pattern})\z")])


def _of_kind(definition: Definition, value: Any, fields: CustomFields) -> Any:
    match definition.kind:
        case "NUMBER" | "PERCENT":
            return _number(value)
        case "URL" | "EMAIL" | "PHONE" | "INSTANT" if isinstance(value, str):
            reject_bad_text(value)
            if len(value) <= definition.max_length and (kept := _WRITTEN[definition.kind](value.strip())):
                return kept
        case "MONEY":
            return _money(value)
        case "BOOL":
            if isinstance(value, bool):
                return value
        case "DATE":
            try:
                if isinstance(value, str):
                    return date.fromisoformat(value).isoformat()
            except ValueError:
                pass
        case "CHOICE":
            return _choice(definition, value, fields)
        case "MULTI_CHOICE":
            if isinstance(value, list) and len(cast("list[Any]", value)) <= MOST_CHOICES:
                return [_choice(definition, item, fields) for item in dict.fromkeys(cast("list[Any]", value))]
        case "FILES":
            given = cast("list[Any]", value) if isinstance(value, list) else [None]
            if len(given) <= MOST_FILES and all(isinstance(name, str) for name in given):
                return list(dict.fromkeys(given))
        case "URL" | "EMAIL" | "PHONE" | "INSTANT":
            pass
        case _:
            if isinstance(value, str) and len(value) <= definition.max_length:
                reject_bad_text(value)
                return value
    raise _Wrong(*_TYPE)


def _instant(text: str) -> str:
    """The moment in UTC; empty where the text is none, or does not say of which zone it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment.tzinfo else ""


def _url(text: str) -> str:
    """An address of the web: no other scheme, since people follow it from a record."""
    try:
        return text if _WEB.validate_python(text) and not _SPACE.search(text) else ""
    except ValidationError:
        return ""


_WEB = TypeAdapter(HttpUrl)
_SPACE = re.compile(r"\s")
# How a text of the kind is kept; empty where it is none.
_WRITTEN: Mapping[str, Callable[[str], str]] = {
    "URL": _url,
    "EMAIL": lambda text: text if is_mail_address(text) else "",
    "PHONE": e164,
    "INSTANT": _instant,
}


def _number(value: Any) -> Any:
    """Numbers stay numbers; a text that is one keeps all its digits."""
    try:
        number = Decimal(str(value)) if not isinstance(value, bool) else Decimal("NaN")
    except InvalidOperation:
        raise _Wrong(*_TYPE) from None
    if not number.is_finite() or abs(number) >= Decimal(10) ** 18:
        raise _Wrong(*_TYPE)
    return format(number, "f") if isinstance(value, str) else value


def _money(value: Any) -> dict[str, str]:
    given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    amount, currency = given.get("amount"), given.get("currencyCode")
    if set(given) != {"amount", "currencyCode"} or not isinstance(currency, str):
        raise _Wrong(*_TYPE)
    try:
        money = Money.parse(common_pb2.Money(currency_code=currency, amount=str(amount)))
    except ValueError:
        raise _Wrong(*_TYPE) from None
    if money is None:
        raise _Wrong(*_TYPE)
    return {"currencyCode": money.currency, "amount": format(money.amount, "f")}


def _choice(definition: Definition, value: Any, fields: CustomFields) -> str:
    if not isinstance(value, str):
        raise _Wrong(*_TYPE)
    choices = fields.choices(definition)
    if value in choices or not (choices or definition.dictionary):
        return value
    if definition.dictionary and value in fields.dictionary(definition.dictionary):
        raise _Wrong("DICTIONARY_ITEM_RETIRED", "该选项已停用，不能再选择", "The entry is retired.")
    raise _Wrong(*_TYPE)


async def _hold(row: Resource, fields: Sequence[Definition], call: Call) -> None:
    """Takes the row's values of unique fields; Validation where another record holds one of them."""
    keys = [field.key for field in fields]
    await call.db.execute(delete(CustomValue).where(CustomValue.record == row.id, CustomValue.key.in_(keys)))
    for entry in _entries([row], fields):
        taking = insert(CustomValue).values(entry).on_conflict_do_nothing().returning(CustomValue.record)
        if await call.db.scalar(taking) is None:
            raise Validation(_taken(row, entry["key"]))


async def taken_of(rows: Sequence[Resource], call: Call) -> dict[UUID, list[Violation]]:
    """Of new rows, which values of unique fields another record or an earlier one of them has."""
    found: dict[UUID, list[Violation]] = {}
    entries = _entries(rows, _unique(rows, call))
    if not entries:
        return found
    known = select(CustomValue.key, CustomValue.digest).where(
        CustomValue.collection == rows[0].described.collection,
        CustomValue.digest.in_([entry["digest"] for entry in entries]),
    )
    held = {(key, digest) for key, digest in await call.db.execute(known)}
    by_id = {row.id: row for row in rows}
    for entry in entries:
        one = (entry["key"], entry["digest"])
        if one in held:
            record = entry["record"]
            found.setdefault(record, []).append(_taken(by_id[record], entry["key"]))
        held.add(one)
    return found


async def hold_many(rows: Sequence[Resource], call: Call) -> None:
    """Takes the values of unique fields of new rows; ALREADY_EXISTS where somebody was quicker."""
    entries = _entries(rows, _unique(rows, call))
    if entries:
        await call.db.execute(insert(CustomValue), entries)


async def let_go(rows: Sequence[Resource], call: Call) -> None:
    """Gives the values of deleted rows back."""
    gone = [row.id for row in rows if _unique([row], call)]
    if gone:
        await call.db.execute(delete(CustomValue).where(CustomValue.record.in_(gone)))


def _unique(rows: Sequence[Resource], call: Call) -> list[Definition]:
    if not rows:
        return []
    fields = call.running.directory.custom.of(rows[0].described.collection)
    return [definition for definition in fields.values() if definition.unique]


def _entries(rows: Sequence[Resource], fields: Sequence[Definition]) -> list[dict[str, Any]]:
    return [
        {
            "collection": field.collection,
            "key": field.key,
            "digest": _digest(field, row.custom[field.key]),
            "record": row.id,
        }
        for row in rows
        for field in fields
        if field.key in row.custom
    ]


def _taken(row: Resource, key: str) -> Violation:
    path = f"{row.described.singular}.custom.{key}"
    return Violation(path, "NOT_UNIQUE", "已有记录使用了这个值", "Another record has this value.")


def _digest(field: Definition, value: Any) -> str:
    """The same for values that are the same to people: "A1" and "a1", 1 and 1.0."""
    if field.kind in {"NUMBER", "PERCENT"}:
        text = format(Decimal(str(value)).normalize(), "f")
    else:
        text = value.casefold() if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return sha256(text.encode()).hexdigest()


def _choices(found: Sequence[Any]) -> dict[str, tuple[str, str]]:
    """Choices with their labels; a bare text is its own label."""
    choices: dict[str, tuple[str, str]] = {}
    for choice in found:
        if isinstance(choice, str):
            choices[choice] = (choice, choice)
        else:
            label: dict[str, str] = choice.get("label") or {}
            choices[choice["key"]] = (label.get("zh", ""), label.get("en", ""))
    return choices
