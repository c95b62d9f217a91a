"""Records written out into a file, as the owner of the job sees them."""

from __future__ import annotations

import asyncio
import json
import queue
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, BinaryIO, cast

from crm.options.v1 import options_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor

from crmkit import sheets
from crmkit.call import Call
from crmkit.customfields import Definition
from crmkit.describe import COMMON, Field
from crmkit.errors import CHINESE, FailedPrecondition
from crmkit.fieldlevels import FieldLevel, conceal, mask
from crmkit.jobs import finish, model_of, need, progress
from crmkit.listing import ZONE, Query, Record, aggregate, page
from crmkit.mapping import mapper, read_date
from crmkit.options import option
from crmkit.resource import Resource
from crmkit.runfiles import store
from crmkit.runs import Run
from crmkit.scope import predicate

EXPORT_PAGE = 200
HOME_CURRENCY = "CNY"
IN_CLEAR = "workspace.exports.readSensitive"
_SENSITIVE = re.compile(r"(^|_)(phones?|mobile|identity|id_number|bank|iban|card_number|bank_account)(_|$)")
_UNNAMED = re.compile(r'[\\/:*?"<>|\s]+')

Shown = Field | Definition


async def write_out(run: Run) -> None:
    """Writes what the owner sees into a file. Interrupted, it begins anew: nothing has been changed."""
    if run.phase == "ENDED":
        return
    model = model_of(run)
    need(run, model, "read")
    options = run.spec["options"]
    shown = _exported(model, run)
    ending = {"XLSX": "xlsx", "NDJSON": "ndjson"}.get(options.get("format", "").upper(), "csv")
    mark = str(options.get("mark", ""))
    pages: queue.Queue[list[list[Any]] | None] = queue.Queue(2)

    def rows() -> Iterator[list[Any]]:
        while (part := pages.get()) is not None:
            yield from part

    def write(file: BinaryIO) -> None:
        columns = [_label(field, run) for field in shown]
        if ending == "xlsx":
            sheets.write_xlsx(cast("Any", file), columns, rows(), mark)
        elif ending == "ndjson":
            for row in rows():
                told = {
                    _key(field): value for field, value in zip(shown, row, strict=True) if value is not None
                }
                file.write(f"{json.dumps(told, ensure_ascii=False)}\n".encode())
        else:
            sheets.write_csv(file, columns, rows())

    async with run.chunk():
        run.next_phase("")
        run.tally = {}
    label = model.described.rule.label.zh or model.described.collection
    # Plain text has no pages to mark: who asked for it and when stands in its name.
    name = f"{label} {_UNNAMED.sub('-', mark)}" if mark else label
    writing = asyncio.create_task(store(run, f"{name}.{ending}", run.requester, write))
    try:
        await _pages(run, model, shown, pages, writing)
    finally:
        await asyncio.to_thread(pages.put, None)
    stored = await writing
    async with run.chunk() as call:
        await finish(run, call, "DONE", result_file=stored)
        run.next_phase("ENDED")


async def count(run: Run) -> None:
    """Says how many rows an export would have."""
    if run.phase == "ENDED":
        return
    model, options = model_of(run), run.spec["options"]
    need(run, model, "read")
    query = Query(filter=options.get("filter", ""), q=options.get("q", ""))
    async with run.chunk() as call:
        reached = predicate(model, call.caller, "export")
        found = await aggregate(
            call.db, model, query, (), (), (), call.caller, call.now, within=reached
        )  # fmt: skip
        run.tally["total"] = found[0][1] if found else 0
        await finish(run, call, "DONE")
        run.next_phase("ENDED")


def sensitive(field: Field) -> bool:
    """Whether a field's values are masked for who may not export them in clear: telephone, identity, bank."""
    return bool(_SENSITIVE.search(field.name)) and field.kind not in {"enum", "bool", "time", "date"}


def masked(value: Any) -> Any:
    """The ends of a text, so that who knows it knows it again."""
    if not isinstance(value, str) or not value:
        return None if value is None else "****" if value != "" else value
    return "；".join(mask(one) for one in value.split("；"))


async def _pages(
    run: Run, model: type[Resource], shown: Sequence[Shown], pages: Any, writing: asyncio.Task[Any]
) -> None:
    options = run.spec["options"]
    query = Query(options.get("filter", ""), options.get("orderBy", ""), options.get("q", ""))
    token = ""
    while True:
        async with run.chunk() as call:
            found = await page(
                call.db, model, query, EXPORT_PAGE, token, call.caller, call.now, run.running.settings.secret,
                predicate(model, call.caller, "export"),
            )  # fmt: skip
            messages = [_message(row, call) for row in found.rows]
            for message in messages:
                conceal(message, call.caller.fields(model.described.collection))
            clear = call.caller.may(IN_CLEAR)
            cells = _values if options.get("format", "").upper() == "NDJSON" else _cells
            part = [cells(message, shown, clear, call) for message in messages]
            run.position += len(part)
            if 0 < int(options.get("limit") or 0) < run.position:
                raise FailedPrecondition("EXPORT_TOO_LARGE", rows=run.position, limit=options["limit"])
            run.tally["total"] = run.position
            await progress(run, call)
        while not writing.done():
            try:
                await asyncio.to_thread(pages.put, part, True, 1)
                break
            except queue.Full:
                continue
        token = found.next_page_token
        if not token or writing.done():
            return


def _exported(model: type[Resource], run: Run) -> list[Shown]:
    """The wanted fields that the owner may read; all of them where none are named."""
    # Of entries that want a permission each, an export has none.
    custom = run.running.directory.custom.of(model.described.collection)
    caller, guarded = run.caller(), mapper(model).guarded
    levels = caller.fields(model.described.collection)
    fields = model.described.fields
    by_name = {**fields, **{field.json_name: field for field in fields.values()}}
    wanted = [name.strip() for name in run.spec["options"].get("fields", "").split(",") if name.strip()]
    usual = [
        "number",
        *(name for name in fields if name not in COMMON and name != "name"),
        *(one.path for one in custom.values() if not (one.retired or one.hidden)),
        "owner",
        "create_time",
    ]
    known: dict[str, Shown] = {
        **{
            name: field
            for name, field in by_name.items()
            if not field.rule.entry_permission
            and field.name != "custom"
            and (field.name not in guarded or caller.may(guarded[field.name]))
            and levels.get(field.name) is not FieldLevel.HIDDEN
        },
        **{
            one.path: one
            for one in custom.values()
            if caller.may(one.permission) and levels.get(one.path) is not FieldLevel.HIDDEN
        },
    }
    return [known[name] for name in wanted or usual if name in known]


def _label(field: Shown, run: Run) -> str:
    if isinstance(field, Definition):
        zh, en = field.label
        return (zh if run.spec["locale"] == CHINESE else en) or field.key
    text = field.rule.label
    return (text.zh if run.spec["locale"] == CHINESE else text.en) or field.json_name


def _message(row: Any, call: Call) -> Any:
    return mapper(row.model).record_message(row.values) if isinstance(row, Record) else call.message_of(row)


def _cells(message: Any, shown: Sequence[Shown], clear: bool, call: Call) -> list[Any]:
    """What stands in the columns of a table."""
    return [
        masked(_cell(message, field, call))
        if not clear and isinstance(field, Field) and sensitive(field)
        else _cell(message, field, call)
        for field in shown
    ]


def _values(message: Any, shown: Sequence[Shown], clear: bool, call: Call) -> list[Any]:
    """The values for programs, as the API gives them."""
    told = json_format.MessageToDict(message)
    custom = told.get("custom", {})
    return [
        custom.get(field.key)
        if isinstance(field, Definition)
        else told.get(field.json_name)
        if clear or not sensitive(field)
        else _masked_within(told.get(field.json_name))
        for field in shown
    ]


def _masked_within(value: Any) -> Any:
    """Every text in a value by its ends alone."""
    if isinstance(value, dict):
        return {key: _masked_within(one) for key, one in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_masked_within(one) for one in cast("list[Any]", value)]
    return masked(value)


def _key(field: Shown) -> str:
    """The name by which programs know a field."""
    return field.path if isinstance(field, Definition) else field.json_name


def _cell(message: Any, field: Shown, call: Call) -> Any:
    """A field's value as the import reads it again."""
    if isinstance(field, Definition):
        return _custom_cell(message, field, call)
    value: Any = getattr(message, field.name)
    match field.kind:
        case "enum":
            return _choice(field, value)
        case "enums":
            return "；".join(_choice(field, each) for each in value)
        case "money":
            if not value.currency_code:
                return None
            home = value.currency_code == HOME_CURRENCY
            return Decimal(value.amount) if home else f"{value.currency_code} {value.amount}"
        case "decimal":
            return Decimal(value) if value else None
        case "time":
            return value.ToDatetime(UTC).astimezone(ZONE) if message.HasField(field.name) else None
        case "date":
            return read_date(value)
        case "texts" | "references":
            return "；".join(value)
        case "messages":
            return "；".join(_text(item) for item in value)
        case "message":
            return _text(value) if message.HasField(field.name) else None
        case _:
            return value


def _custom_cell(message: Any, field: Definition, call: Call) -> Any:
    if field.key not in message.custom:
        return None
    value: Any = json_format.MessageToDict(message.custom)[field.key]
    labels = call.running.directory.custom.labels(field)
    match field.kind:
        case "NUMBER" | "PERCENT" | "FORMULA":
            return Decimal(str(value))
        case "INSTANT":
            return datetime.fromisoformat(value).astimezone(ZONE)
        case "MONEY":
            home = value["currencyCode"] == HOME_CURRENCY
            return Decimal(value["amount"]) if home else f"{value['currencyCode']} {value['amount']}"
        case "DATE":
            return date.fromisoformat(value)
        case "CHOICE":
            return labels.get(value) or value
        case "MULTI_CHOICE" | "FILES":
            return "；".join(labels.get(each) or each for each in cast("list[str]", value))
        case _:
            return value


def _choice(field: Field, number: int) -> str:
    value = cast("EnumDescriptor", field.descriptor.enum_type).values_by_number.get(number)
    return option(value, options_pb2.text).zh or value.name if number and value is not None else ""


def _text(item: Any) -> str:
    return next(
        (str(getattr(item, name)) for name in ("number", "address", "line", "text") if hasattr(item, name)),
        "",
    )
