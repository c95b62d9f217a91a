"""What the check has read of each line, kept for the run, so that nothing is read and spelt twice.

check → lines → encode → import_lines → decode → run

Only what the file and the plan alone decide is kept. Whatever asks the database (references, rights, who exists
already) is asked again by the run, and what was read by another plan or by other code is not believed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any
from uuid import UUID

from crm.common.v1 import common_pb2
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.resource import Resource
from crmkit.sheetfields import RowProblem
from crmkit.sheets import Row
from crmkit.text import NORMALISER_VERSION
from google.protobuf.message import Message

from customer.company_names import CompanyName
from customer.identifiers import TaxId, TaxIdStatus
from customer.importing.plan import Line, Plan
from customer.importing.work import CHUNK
from customer.matching import Identity, KeyKind, MatchKey
from customer.model.account import Account
from customer.model.contact import Contact
from customer.model.interaction import Interaction

_RECORDS: dict[str, type[Resource]] = {"account": Account, "contact": Contact, "interaction": Interaction}
_MESSAGES: dict[str, type[Message]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (common_pb2.Phone, common_pb2.Email, common_pb2.Address, pb.Account.Alias)
}
_PLAIN = (str, int, float, bool, type(None))
_FORGET = "DELETE FROM import_lines WHERE import = $1"
_KEEP = "INSERT INTO import_lines (import, position, stamp, lines) VALUES ($1, $2, $3, $4)"
_FIND = "SELECT lines FROM import_lines WHERE import = $1 AND position = $2 AND stamp = $3"


async def forget(import_: UUID, call: Call) -> None:
    """Drops what was kept of an import."""
    await (await driver(call.db)).execute(_FORGET, import_)


async def keep(import_: UUID, position: int, stamp: str, lines: bytes, call: Call) -> None:
    """Keeps the lines of a chunk."""
    await (await driver(call.db)).execute(_KEEP, import_, position, stamp, lines)


async def find(import_: UUID, position: int, stamp: str, call: Call) -> bytes | None:
    """The lines of the chunk at this position, if they were read by the same plan and code."""
    return await (await driver(call.db)).fetchval(_FIND, import_, position, stamp)


def stamp(plan: Plan, digest: str) -> str:
    """What the lines depend on: the file, the plan with the choices of its fields, and the code."""
    # In one order: the check proposes a mapping where there is none, and the run reads it.
    columns = sorted(
        repr((prefix, header, column.target, column.dictionary, column.references, dict(replacements)))
        for prefix, mapped in plan.mapped.items()
        for header, column, replacements in mapped
    )
    said = repr(
        (digest, CHUNK, plan.kind, plan.columns, sorted(plan.headers.items()), columns, plan.taken, _code())
    )
    return hashlib.sha256(said.encode()).hexdigest()


@cache
def _code() -> str:
    """Of what reads lines, a digest."""
    sources = [
        file.read_bytes()
        for package in ("crmkit", "customer", "customer.importing", "customer.model")
        for file in sorted(files(package).iterdir(), key=lambda file: file.name)
        if file.name.endswith((".py", ".toml", ".txt"))
    ]
    return hashlib.sha256(
        b"\0".join([sys.version.encode(), str(NORMALISER_VERSION).encode(), *sources])
    ).hexdigest()


def encode(lines: Sequence[Line]) -> bytes:
    """The lines as bytes. One that has what is not kept stands as null, and is read again."""
    told = [_line(line) for line in lines]
    return zlib.compress(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode(), 1)


def decode(kept: bytes) -> list[Line | None]:
    """The lines, with new records."""
    return [None if told is None else _told(told) for told in json.loads(zlib.decompress(kept))]


def filled(lines: Sequence[Line | None], rows: Sequence[Row], plan: Plan) -> list[Line]:
    """The lines, those that were not kept read from their rows."""
    return [line or plan.lines([row])[0] for line, row in zip(lines or [None] * len(rows), rows, strict=True)]


def _line(line: Line) -> list[Any] | None:
    records: dict[str, Any] = {}
    for name in _RECORDS:
        record = getattr(line, name)
        if record is not None:
            state = _state(record)
            if state is None:
                return None
            records[name] = state
    if any(not isinstance(value, str) for value in line.given.values()):
        return None
    problems = [(each.column, each.reason, each.zh, each.en) for each in line.problems]
    return [line.number, problems, records, line.given, _identity(line.identity)]


def _state(record: Resource) -> list[Any] | None:
    """What the record holds beside the defaults of a new one, and the spellings of its texts; None where it cannot be kept."""
    fresh, values, messages = _fresh(type(record)), dict[str, Any](), dict[str, Any]()
    for name, value in record.__dict__.items():
        if name in ("id", "_sa_instance_state", "spelled") or value == fresh.get(name, fresh):
            continue
        if isinstance(value, list) and value and all(isinstance(item, Message) for item in value):
            if any(item.DESCRIPTOR.full_name not in _MESSAGES for item in value):
                return None
            messages[name] = [
                value[0].DESCRIPTOR.full_name,
                *(base64.b64encode(item.SerializeToString()).decode() for item in value),
            ]
        elif isinstance(value, (*_PLAIN, dict)) or (
            isinstance(value, list) and all(isinstance(item, str) for item in value)
        ):
            values[name] = value
        else:
            return None
    return [values, messages, record.spell()]


@cache
def _fresh(model: type[Resource]) -> dict[str, Any]:
    return dict(model().__dict__)


def _identity(identity: Identity | None) -> list[Any] | None:
    if identity is None:
        return None
    return [
        identity.person,
        [
            (one.full, one.brand, one.industry, one.legal_form, one.branch, one.divisions, one.from_brand)
            for one in identity.names
        ],
        identity.tax_id and [identity.tax_id.value, identity.tax_id.country, identity.tax_id.status.value],
        identity.id_hash,
        [[key.kind.value, key.value] for key in identity.keys],
    ]


def _told(told: list[Any]) -> Line:
    number, problems, records, given, identity = told
    line = Line(number, [RowProblem(number, *each) for each in problems], given=given)
    for name, (values, messages, spelled) in records.items():
        record = _RECORDS[name]()
        # A new record has no history.
        record.__dict__.update(values)
        for field, (kind, *items) in messages.items():
            made = _MESSAGES[kind]
            record.__dict__[field] = [made.FromString(base64.b64decode(item)) for item in items]
        record.__dict__["spelled"] = spelled
        setattr(line, name, record)
    if identity is not None:
        person, names, tax_id, id_hash, keys = identity
        line.identity = Identity(
            person,
            tuple(_name(*name) for name in names),
            TaxId(tax_id[0], tax_id[1], TaxIdStatus(tax_id[2])) if tax_id else None,
            id_hash,
            frozenset(MatchKey(_KINDS[kind], value) for kind, value in keys),
        )
    return line


def _name(
    full: str, brand: str, industry: str, form: str, branch: str, divisions: list[str], from_brand: str
) -> CompanyName:
    return CompanyName(full, brand, industry, form, branch, tuple(divisions), from_brand)


_KINDS = {kind.value: kind for kind in KeyKind}
