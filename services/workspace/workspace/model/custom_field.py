"""Fields that administrators add to the records of any service, while everything runs."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import formulas
from crmkit.auth import ZONE
from crmkit.call import Call, changed_fields
from crmkit.catalog import resources
from crmkit.convert import Refused
from crmkit.customfields import TODAY, Definition, fits, matches, read_limit
from crmkit.describe import COMMON, Described
from crmkit.errors import FailedPrecondition, Validation, Violation, required
from crmkit.formulas import FormulaError, Kind
from crmkit.resource import Resource
from crmkit.sheetfields import custom_column, plain_custom
from pydantic_core import SchemaError
from sqlalchemy import Index, Text, cast, func, select
from sqlalchemy.orm import Mapped

from workspace.model.base import Base
from workspace.model.dictionary import Dictionary
from workspace.model.role import Role

MOST_FIELDS = 200
LONGEST_TEXT = 20_000
FIELD_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
CHOICES = frozenset(["CHOICE", "MULTI_CHOICE"])
UNIQUE = frozenset(["TEXT", "NUMBER", "DATE", "REFERENCE", "EMPLOYEE", "DEPARTMENT", "EMAIL", "PHONE"])
SEARCHED = frozenset(["TEXT", "LONG_TEXT", "URL", "EMAIL", "PHONE"])
PATTERNED = frozenset(["TEXT", "LONG_TEXT"])
# Kinds that a field in use may change to; what records have follows.
BECOMES = {
    "TEXT": frozenset(["LONG_TEXT"]),
    "NUMBER": frozenset(["PERCENT", "TEXT"]),
    "PERCENT": frozenset(["NUMBER", "TEXT"]),
    "CHOICE": frozenset(["MULTI_CHOICE", "TEXT"]),
    "FORMULA": frozenset(["NUMBER", "TEXT"]),
}
ANY_BECOMES = frozenset(["TEXT"])
LIMITED = frozenset(["NUMBER", "PERCENT", "MONEY", "DATE"])
# What fields are to formulas: custom ones, and those that are built in.
RECKONED: Mapping[str, Kind] = {
    "NUMBER": "number", "PERCENT": "number", "MONEY": "number", "FORMULA": "number", "DATE": "date", "INSTANT": "date",
    "BOOL": "bool", "CHOICE": "text", "TEXT": "text",
}  # fmt: skip
RECKONED_KINDS: Mapping[str, Kind] = {
    "decimal": "number", "int": "number", "float": "number", "money": "number", "date": "date", "time": "date",
    "bool": "bool", "enum": "text", "text": "text",
}  # fmt: skip
# The states in which records have values of the field, and take new ones.
USED = ("ACTIVE", "HIDDEN")
# The collections whose records may name a field: in a filter, a condition, a pattern or a level.
NAMING = (
    "customFields", "savedViews", "roles", "approvalPolicies", "numberRules", "notificationRules", "mailTemplates",
)  # fmt: skip
# How long values can still come back.
KEPT = timedelta(days=90)
PORTALS = frozenset(["READ", "EDIT"])
# What has one value that people know: of custom fields, and of those that are built in.
DECIDING = frozenset(["CHOICE", "TEXT", "BOOL"])
DECIDING_KINDS = frozenset(["enum", "text", "bool"])


def check_collection(collection: str) -> Described:
    """What a collection declares; refuses one that no service has."""
    for described in resources().values():
        if described.collection == collection:
            return described
    raise FailedPrecondition("COLLECTION_UNKNOWN", collection=collection)


class CustomField(Resource, Base):
    """A field that administrators add to a collection. Its key and uniqueness never change."""

    __message__ = pb.CustomField
    __table_args__ = (Index("custom_fields_collection_key_key", "collection", "key", unique=True),)

    collection: Mapped[str]
    key: Mapped[str]
    display_name: Mapped[str]
    english_name: Mapped[str]
    kind: Mapped[str]
    required: Mapped[bool]
    unique: Mapped[bool]
    searchable: Mapped[bool]
    choices: Mapped[Any]
    dictionary: Mapped[str]
    references: Mapped[str]
    max_length: Mapped[int]
    default_value: Mapped[str]
    roles: Mapped[list[str]]
    position: Mapped[int]
    min_value: Mapped[str]
    max_value: Mapped[str]
    pattern: Mapped[str]
    visible_if: Mapped[pb.CustomField.Condition | None]
    portal: Mapped[str]
    state: Mapped[str]
    retire_time: Mapped[datetime | None]
    purge_time: Mapped[datetime | None]
    purged_records: Mapped[int]
    formula: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Begins as a draft."""
        described = check_collection(self.collection)
        self.state = "DRAFT"
        if not FIELD_KEY.fullmatch(self.key):
            raise FailedPrecondition("FIELD_KEY_INVALID")
        same = (CustomField.collection == self.collection, CustomField.key == self.key)
        if self.key in _taken(described) or await call.find(CustomField, *same) is not None:
            raise FailedPrecondition("FIELD_KEY_TAKEN", collection=self.collection, key=self.key)
        await self._check(described, call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Words, choices and duty may change at any time, the kind as far as values fit the new one."""
        self.check_state("DRAFT", *USED)
        if "kind" in changed:
            self._change_kind(changed_fields(self)["kind"])
        described = check_collection(self.collection)
        await self._check(described, call)
        await self._check_users(described, call)
        if changed & {"kind", "formula"} and self.state in USED:
            self._ask_to_recast(call)

    async def deleting(self, call: Call) -> None:
        """Only what no record ever had goes, or none has any more."""
        self.check_state("DRAFT", "PURGED")

    async def activate(self, call: Call) -> None:
        """Makes the field usable, and shown."""
        self.check_state("DRAFT", "HIDDEN", "RETIRED")
        active = select(func.count()).where(
            CustomField.collection == self.collection,
            CustomField.state.in_(USED),
            CustomField.id != self.id,
        )
        if (await call.db.scalar(active) or 0) >= MOST_FIELDS:
            raise FailedPrecondition("FIELD_LIMIT", limit=MOST_FIELDS)
        if self.kind == "FORMULA":
            await self._check_formula(check_collection(self.collection), call)
            self._ask_to_recast(call)
        self.state, self.retire_time = "ACTIVE", None

    def _ask_to_recast(self, call: Call) -> None:
        call.emit(
            events.CustomFieldRecastAsked,
            self,
            custom_field=self.name,
            collection=self.collection,
            key=self.key,
            kind=pb.CustomField.Kind.Value(self.kind),
            formula=self.formula,
        )

    def hide(self) -> None:
        """Takes it from what people see; values go on."""
        self.check_state("ACTIVE")
        self.state = "HIDDEN"

    def retire(self, call: Call) -> None:
        """Takes it out of use; values stay."""
        self.check_state(*USED)
        self.state, self.retire_time = "RETIRED", call.now

    async def purge(self, call: Call) -> None:
        """Asks the service that has the records to take the values out."""
        # What was given up half way is asked for again.
        self.check_state("RETIRED", "PURGING")
        due = (self.retire_time or call.now) + KEPT
        if call.now < due:
            day = due.astimezone(ZONE).date().isoformat()
            raise _not_purgeable(call, f"停用满 90 天后（{day}）才能清除", f"not before {day}, 90 days after")
        if users := await self._needed_by(call):
            named = "、".join(users)
            raise _not_purgeable(call, f"仍被使用：{named}", f"still used by {', '.join(users)}")
        self.state = "PURGING"
        call.emit(
            events.CustomFieldPurgeAsked,
            self,
            custom_field=self.name,
            collection=self.collection,
            key=self.key,
        )

    def purged(self, records: int, call: Call) -> None:
        """No record has a value any more."""
        if self.state == "PURGING":
            self.state, self.purge_time, self.purged_records = "PURGED", call.now, records

    async def _needed_by(self, call: Call) -> list[str]:
        """What names the field, a few of each kind, whoever may see it.

        A row that speaks of the collection and of the key counts, even where it means another collection's field.
        """
        found: list[str] = []
        async with call.everybody():
            for collection in NAMING:
                table = call.running.models_by_collection[collection].__table__
                row = cast(table.table_valued(), Text)
                names = (rf"\mcustom\.{self.key}\M", rf"\m{self.collection}\M")
                other = table.c.id != self.id
                asked = select(table.c.id).where(other, *(row.regexp_match(name) for name in names)).limit(3)
                if collection == "customFields":
                    asked = asked.where(table.c.state != "PURGED")
                found += [f"{collection}/{one}" for one in await call.db.scalars(asked)]
        return found

    def _change_kind(self, before: str) -> None:
        if self.state != "DRAFT" and self.kind not in BECOMES.get(before, ANY_BECOMES):
            raise FailedPrecondition("FIELD_TYPE_CHANGE")
        if self.state != "DRAFT" and self.unique and before == "NUMBER":
            # 1 and 1.0 are one number and two texts.
            raise FailedPrecondition("FIELD_TYPE_CHANGE")
        if self.kind not in CHOICES:
            self.choices, self.dictionary = [], ""
        if self.kind != "REFERENCE":
            self.references = ""
        if self.kind != "FORMULA":
            self.formula = ""
        if before == "LONG_TEXT" and not self.max_length:
            # What records have stays within what they may have.
            self.max_length = LONGEST_TEXT

    def told(self) -> dict[str, Any]:
        """The field as every service knows it, but for its default."""
        return {
            "key": self.key,
            "kind": self.kind,
            "label": {"zh": self.display_name, "en": self.english_name or self.display_name},
            "required": self.required,
            "unique": self.unique,
            "searchable": self.searchable,
            "choices": [
                {"key": choice.key, "label": {"zh": choice.label.zh, "en": choice.label.en}}
                for choice in self.choices
            ],
            "dictionary": self.dictionary,
            "references": self.references,
            "maxLength": self.max_length or (LONGEST_TEXT if self.kind == "LONG_TEXT" else 0),
            "roles": list(self.roles),
            "minimum": self.min_value,
            "maximum": self.max_value,
            "pattern": self.pattern,
            "visibleIf": self.visible_if
            and {"field": self.visible_if.field, "values": list(self.visible_if.values)},
            "portal": self.portal if self.portal in PORTALS else "",
            "formula": self.formula,
            "hidden": self.state == "HIDDEN",
            "retired": self.state in {"RETIRED", "PURGING"},
        }

    def default(self, call: Call) -> Any:
        """What new records start with, as they keep it; None where there is nothing, or nothing any more."""
        found = self._default(call)
        return None if isinstance(found, Refused) else found

    def _default(self, call: Call) -> Any:
        definition = Definition.read(self.collection, self.told())
        if not self.default_value or (self.kind == "DATE" and self.default_value == TODAY):
            return self.default_value or None
        value = custom_column(definition, call.config).read(self.default_value)
        if isinstance(value, Refused) or value is None:
            return value
        plain = plain_custom(value)
        fields = call.running.directory.custom
        return (
            plain
            if fits(definition, plain, fields)
            else Refused("WRONG_TYPE", "值与字段类型不符", "does not fit")
        )

    async def _check(self, described: Described, call: Call) -> None:
        if self.kind in CHOICES:
            await self._check_choices(call)
        if self.kind == "REFERENCE":
            if not self.references:
                raise Validation(required("custom_field.references"))
            check_collection(self.references)
        if self.kind == "FORMULA":
            if self.required or self.default_value or self.portal == "EDIT":
                raise _invalid(
                    call,
                    "公式不能必填、有默认值或在门户中修改",
                    "nobody fills a formula in, and it has no default",
                )
            await self._check_formula(described, call)
        if self.max_length > LONGEST_TEXT:
            raise _invalid(call, f"最大长度不能超过 {LONGEST_TEXT}", f"texts are at most {LONGEST_TEXT} long")
        if self.unique and (self.kind not in UNIQUE or self.default_value):
            raise _invalid(
                call,
                "该类型不能唯一，或唯一字段不能有默认值",
                "this kind, or one with a default, cannot be unique",
            )
        if self.roles and self.portal in PORTALS:
            raise _invalid(
                call, "限定角色的字段不能在门户中显示", "a field of some roles is shown in no portal"
            )
        if self.searchable and (self.kind not in SEARCHED or self.roles or not described.searchable):
            raise _invalid(
                call, "只有全员可见的文本字段可以被搜索", "only texts that everybody sees are searched"
            )
        self._check_limits(call)
        if self.visible_if is not None:
            await self._check_condition(self.visible_if.field, described, call)
        for role in self.roles:
            if await call.find(Role, Role.code == role, Role.state == "ACTIVE") is None:
                raise FailedPrecondition("ROLE_UNKNOWN", role=role)
        if isinstance(wrong := self._default(call), Refused):
            raise Validation(
                Violation("custom_field.default_value", wrong.reason, wrong.detail_zh, wrong.detail_en)
            )

    async def _check_formula(self, described: Described, call: Call) -> None:
        """It makes a number of fields that everybody reads who reads it, and needs none that needs it."""
        if not self.formula:
            raise Validation(required("custom_field.formula"))
        same = (CustomField.collection == self.collection, CustomField.id != self.id)
        others = [one for one in await call.db.scalars(select(CustomField).where(*same)) if one.state in USED]
        own: dict[str, Kind] = {
            name: RECKONED_KINDS[field.kind]
            for name, field in described.fields.items()
            if field.kind in RECKONED_KINDS
            and name not in COMMON
            and not (field.rule.secret or field.rule.read_permission or field.rule.entry_permission)
            and not (field.rule.internal and self.portal in PORTALS)
        }
        custom: dict[str, Kind] = {
            f"custom.{one.key}": RECKONED[one.kind]
            for one in others
            if one.kind in RECKONED
            and (not one.roles or (self.roles and {*self.roles} <= {*one.roles}))
            and (one.portal in PORTALS or self.portal not in PORTALS)
        }
        try:
            formula = formulas.read(self.formula)
            known = {one.key: formulas.read(one.formula) for one in others if one.kind == "FORMULA"}
            known[self.key] = formula
            if cycle := known.keys() - formulas.in_order(known).keys():
                raise FailedPrecondition("FORMULA_CYCLE", fields=", ".join(sorted(cycle)))
            formula.check({**own, **custom})
        except FormulaError as error:
            raise FailedPrecondition("FORMULA_INVALID", detail=call.text(error.zh, error.en)) from None

    async def _check_users(self, described: Described, call: Call) -> None:
        """What formulas are reckoned from stays so that they can be."""
        same = (CustomField.collection == self.collection, CustomField.id != self.id)
        kind = (CustomField.kind == "FORMULA", CustomField.state.in_(USED))
        for one in await call.db.scalars(select(CustomField).where(*same, *kind)):
            if f"custom.{self.key}" in formulas.read(one.formula).fields:
                await one._check_formula(described, call)

    def _check_limits(self, call: Call) -> None:
        limits = [limit for limit in (self.min_value, self.max_value) if limit]
        if (limits and self.kind not in LIMITED) or (self.pattern and self.kind not in PATTERNED):
            raise _invalid(
                call,
                "只有数字、金额和日期有最小值和最大值，只有文本有格式",
                "only numbers, amounts and days have limits, and only texts a pattern",
            )
        try:
            found = [read_limit(self.kind, limit) for limit in limits]
            matches(self.pattern, "")
        except ValueError:
            raise _invalid(
                call,
                "最小值或最大值与字段类型不符",
                "the least or greatest value is none of the field's kind",
            ) from None
        except SchemaError:
            raise _invalid(
                call, "格式不是有效的正则表达式", "the pattern is no regular expression that can be used"
            ) from None
        if found != sorted(found):
            raise _invalid(call, "最小值大于最大值", "the least value is above the greatest")

    async def _check_condition(self, field: str, described: Described, call: Call) -> None:
        """Another field decides, and one that is always shown itself: so nothing waits for itself."""
        head, _, key = field.partition(".")
        if head == "custom":
            same = (CustomField.collection == self.collection, CustomField.key == key)
            usable = (CustomField.kind.in_(DECIDING), CustomField.state != "DRAFT")
            other = await call.find(CustomField, *same, *usable)
            known = other is not None and not other.roles and other.visible_if is None and key != self.key
        else:
            own = described.fields.get(head)
            known = own is not None and not key and own.kind in DECIDING_KINDS and not own.output_only
        beside = select(CustomField).where(
            CustomField.collection == self.collection, CustomField.id != self.id
        )
        deciding = {one.visible_if.field for one in await call.db.scalars(beside) if one.visible_if}
        if not known or f"custom.{self.key}" in deciding:
            raise _invalid(
                call,
                "显示条件须取决于另一个始终显示的选项、文本或是否字段",
                "another choice, text, or yes or no that is always shown decides whether it is shown",
            )

    async def _check_choices(self, call: Call) -> None:
        if self.dictionary:
            if await call.find(Dictionary, Dictionary.key == self.dictionary) is None:
                path = "custom_field.dictionary"
                raise Validation(
                    Violation(path, "UNKNOWN_REFERENCE", "没有这个字典", "There is no such dictionary.")
                )
            return
        keys = [choice.key for choice in self.choices]
        if not keys:
            raise Validation(required("custom_field.choices"))
        if len(set(keys)) < len(keys):
            raise Validation(
                Violation("custom_field.choices", "DUPLICATE", "选项代码重复", "A key occurs twice.")
            )


def _taken(described: Described) -> set[str]:
    """The names that are built in, however they are written."""
    names = {name for field in described.fields.values() for name in (field.name, field.json_name.lower())}
    return names | {name.replace("_", "") for name in names} | {"id"}


def _not_purgeable(call: Call, zh: str, en: str) -> FailedPrecondition:
    return FailedPrecondition("FIELD_NOT_PURGEABLE", detail=call.text(zh, en))


def _invalid(call: Call, zh: str, en: str) -> FailedPrecondition:
    return FailedPrecondition("FIELD_INVALID", detail=call.text(zh, en))
