"""What the columns of a file mean, and its lines as records; no database is asked here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from crm.customer.v1 import pb
from crmkit.auth import Caller
from crmkit.convert import Target, propose_mapping
from crmkit.errors import Validation
from crmkit.fieldlevels import Levels, read_only
from crmkit.mapping import mapper
from crmkit.resource import Resource
from crmkit.sheetfields import Column, RowProblem, columns, prefixed, read_row, violations
from crmkit.sheets import Row

from customer.identifiers import Phone
from customer.matching import Identity
from customer.model.account import Account
from customer.model.contact import Contact
from customer.model.importation import Import
from customer.model.interaction import Interaction
from customer.normalising import public_domains

PARENT = "parent"
CONTACT = "contact"
# References that a line names by another record's name or number; the rest cannot be named in a file.
_NAMED = {"account", "owner", "counterpart"}
_HEADERS = {
    "display_name": (
        "account",
        "company",
        "company name",
        "customer",
        "公司",
        "公司名称",
        "企业名称",
        "客户",
        "名称",
    ),
    "parent": ("subsidiary of", "parent", "parent company", "母公司", "上级单位", "所属集团"),
    "industry": ("sector",),
    "annual_revenue": ("revenue", "营业额", "年收入"),
    "employee_count": ("employee", "headcount", "人数"),
    "phones": ("phone", "telephone", "mobile", "手机", "手机号", "联系电话", "电话号码"),
    "emails": ("email", "mail", "邮件", "电子邮箱", "电子邮件"),
    "addresses": ("address", "office location", "location", "所在地", "公司地址", "联系地址"),
    "website": ("web", "url", "网址", "官网"),
    "tax_id": ("vat id", "税号", "信用代码"),
}
_PERSON_HEADERS = {
    "account": ("company", "company name", "customer", "公司", "公司名称", "客户名称", "客户编号"),
    "display_name": ("contact", "联系人", "联系人姓名"),
    "start_time": ("date", "日期", "时间", "跟进时间"),
    "summary": ("text", "notes", "跟进内容", "备注"),
    "phones": _HEADERS["phones"],
    "emails": _HEADERS["emails"],
}

Mapped = tuple[str, Column, Mapping[str, str]]


@dataclass
class Line:
    """One line of the file: what it would make, and what is wrong with it."""

    number: int
    problems: list[RowProblem] = field(default_factory=list[RowProblem])
    account: Account | None = None
    identity: Identity | None = None
    contact: Contact | None = None
    interaction: Interaction | None = None
    given: dict[str, Any] = field(default_factory=dict[str, Any])
    """Named records as text by path: account, parent, owner, contact.owner …"""


@dataclass
class Plan:
    """Which columns fill which fields of which record."""

    kind: str
    mapped: dict[str, list[Mapped]]
    headers: dict[str, str]
    columns: list[str]
    # What the importer's roles take from fields, by prefix: such cells are refused.
    taken: Mapping[str, Levels]
    # Mail at these says nothing of who a customer is.
    public_domains: frozenset[str]
    # What it was made of: so it goes to another process.
    made_of: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return Plan._made, self.made_of

    @classmethod
    def of(
        cls, found: Import, file_columns: Sequence[str], config: Callable[[str], Any], importer: Caller
    ) -> Plan:
        """The plan by the import's mapping, or by the headers where it has none."""
        fields = found.fields() or {
            header: (path, {}) for header, path in propose(found.kind, file_columns, config).items()
        }
        asked: dict[str, Any] = {}
        prefixes = _records(found.kind, lambda key: asked.setdefault(key, config(key)))
        taken = {
            prefix: importer.fields(_model(found.kind, prefix).described.collection) for prefix in prefixes
        }
        return cls._made(found.kind, fields, [*file_columns], taken, public_domains(config), asked)

    @classmethod
    def _made(
        cls,
        kind: str,
        fields: Mapping[str, tuple[str, Mapping[str, str]]],
        file_columns: list[str],
        taken: Mapping[str, Levels],
        domains: frozenset[str],
        config: Mapping[str, Any],
    ) -> Plan:
        records = _records(kind, config.get)
        mapped: dict[str, list[Mapped]] = {prefix: [] for prefix in records}
        headers: dict[str, str] = {}
        for header, (path, replacements) in fields.items():
            prefix, name = _split(path, records)
            if header in file_columns and name in records[prefix]:
                mapped[prefix].append((header, records[prefix][name], replacements))
                headers[path] = header
        made_of = kind, fields, file_columns, taken, domains, config
        return cls(kind, mapped, headers, file_columns, taken, domains, made_of)

    def lines(self, entries: Sequence[Row]) -> list[Line]:
        """The lines as records that have completed themselves."""
        return [self._line(entry) for entry in entries]

    def message(self, found: dict[str, Any]) -> list[Any]:
        """A mapping of header to path as the import keeps it."""
        return [
            pb.Import.ColumnMapping(column=header, field=found.get(header, "")) for header in self.columns
        ]

    def _line(self, entry: Row) -> Line:
        line = Line(entry.number)
        if entry.error:
            line.problems.append(
                RowProblem(entry.number, "", entry.error.reason, entry.error.detail_zh, entry.error.detail_en)
            )
            return line
        cells = dict(zip(self.columns, entry.values, strict=True))
        for prefix, mapped in self.mapped.items():
            values, problems = read_row(entry.number, cells, mapped)
            line.problems += problems
            if prefix == CONTACT and not values:
                continue
            record = self._record(prefix, line, values, mapped)
            setattr(line, {"": _FIRST[self.kind], CONTACT: "contact"}[prefix], record)
        if line.account is not None and not line.problems:
            line.identity = line.account.identity(self.public_domains)
        return line

    def _record(self, prefix: str, line: Line, values: dict[str, Any], mapped: Sequence[Mapped]) -> Resource:
        model = _model(self.kind, prefix)
        record, message, names = model(), model.__message__(), set[str]()
        at = f"{prefix}." if prefix else ""
        writers = {column.path: column.write for _, column, _ in mapped}
        for path, value in values.items():
            if path in self.taken[prefix]:
                why = read_only(path)
                header = self.headers.get(at + path, "")
                line.problems.append(RowProblem(line.number, header, why.reason, why.zh, why.en))
                continue
            if path in _NAMED or path == PARENT:
                line.given[at + path] = value
                continue
            if path == "phones":
                line.problems += _eaten(line.number, self.headers.get(at + path, ""), value)
            writers[path](message, value)
            names.add("custom" if path.startswith("custom.") else path)
        names |= _required(model)
        described = model.described.singular
        try:
            mapper(model).assign(record, message, names, new=True, prefix=described)
            if isinstance(record, Account):
                record.complete()
        except Validation as problem:
            told = {(each.line, each.column) for each in line.problems}
            found = violations(line.number, self.headers, problem.violations, at)
            line.problems += [each for each in found if (each.line, each.column) not in told]
        return record


@cache
def _required(model: type[Resource]) -> frozenset[str]:
    """The fields that a new record must have, but for the account, which a line names in its own way."""
    return frozenset(
        name for name, field in model.described.fields.items() if field.required and name != "account"
    )


def paths(kind: str, config: Callable[[str], Any]) -> set[str]:
    """Everything that a column of such an import may fill."""
    records = _records(kind, config)
    return {f"{prefix}.{path}" if prefix else path for prefix, found in records.items() for path in found}


def propose(kind: str, file_columns: Sequence[str], config: Callable[[str], Any]) -> dict[str, str]:
    """Which field each column most likely fills."""
    targets = _targets(kind, config)
    found = propose_mapping(file_columns, targets)
    usual = _HEADERS if kind in ("ACCOUNTS", "MIXED") else _PERSON_HEADERS
    for names in zip(*(list(each) + [""] * 10 for each in usual.values()), strict=False):
        others = [Target(name or path, "text") for path, name in zip(usual, names, strict=True)]
        spelled = {target.name: path for target, path in zip(others, usual, strict=True)}
        rest = [header for header in file_columns if header not in found]
        for header, name in propose_mapping(rest, others).items():
            if spelled[name] not in found.values() and spelled[name] in {target.name for target in targets}:
                found[header] = spelled[name]
    return found


_FIRST = {"ACCOUNTS": "account", "MIXED": "account", "CONTACTS": "contact", "INTERACTIONS": "interaction"}
_MODELS: dict[str, type[Resource]] = {"account": Account, "contact": Contact, "interaction": Interaction}
_PARENT = Column(Target(PARENT, "text", "上级客户", "Parent account", max_length=200), None)


def _model(kind: str, prefix: str) -> type[Resource]:
    """What a line's columns of the prefix make."""
    return Contact if prefix == CONTACT else _MODELS[_FIRST[kind]]


def _records(kind: str, config: Callable[[str], Any]) -> dict[str, dict[str, Column]]:
    """Columns by path of each record that a line makes."""
    first = _usable(_MODELS[_FIRST[kind]], config)
    if kind in ("ACCOUNTS", "MIXED"):
        first[PARENT] = _PARENT
    if kind != "MIXED":
        return {"": first}
    second = _usable(Contact, config)
    del second["account"]
    return {"": first, CONTACT: second}


def _usable(model: type[Resource], config: Callable[[str], Any]) -> dict[str, Column]:
    def named(column: Column) -> bool:
        kind = column.field.kind if column.field else ""
        return kind not in ("reference", "references") or column.path in _NAMED

    found = columns(model.described, config)
    return {path: column for path, column in found.items() if named(column) and path != "subjects"}


def _targets(kind: str, config: Callable[[str], Any]) -> list[Target]:
    records = _records(kind, config)
    targets = [column.target for column in records[""].values()]
    if CONTACT in records:
        targets += prefixed(records[CONTACT], CONTACT, "联系人", "Contact").values()
    return targets


def _split(path: str, records: Mapping[str, Any]) -> tuple[str, str]:
    prefix, _, name = path.partition(".")
    return (prefix, name) if name and prefix in records else ("", path)


def _eaten(line: int, header: str, numbers: Sequence[str]) -> list[RowProblem]:
    """Numbers of which a spreadsheet has kept only the first digits."""
    return [
        RowProblem(
            line,
            header,
            "SPREADSHEET_NUMBER",
            f"“{number}”已被电子表格截断",
            f'"{number}" was cut by a spreadsheet',
        )
        for number in numbers
        if "e" in number.casefold() and Phone.parse(number).reason == "SPREADSHEET_NUMBER"
    ]
