"""An import taken back: what nobody has touched since goes, what was filled in gets its old value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.mapping import mapper
from crmkit.resource import Resource
from crmkit.runs import Run
from crmkit.standard import used
from crmkit.tables import BulkRow, BulkRun
from crmkit.transfer import remove
from google.protobuf import json_format
from sqlalchemy import select

from customer.importing.work import show_errors, the_import

CHUNK = 200


async def revert(run: Run) -> None:
    """Goes through what the last run did, from its end: relations, contacts, accounts."""
    if run.phase == "ENDED":
        return
    while True:
        async with run.chunk() as call:
            found = await the_import(run, call)
            rows = await _rows(run, call)
            left = await _take_back(rows, call)
            await insert_rows(call, BulkRow.__table__, [_left(run, row, reason) for row, reason in left])
            run.count(left=len(left), done=len(rows) - len(left))
            run.position += len(rows)
            found.left = run.tally["left"]
            if not rows:
                await show_errors(run, found, call, "LEFT")
                if run.spec.get("failure"):
                    found.fail(run.spec["failure"])
                else:
                    found.check_state("REVERTING")
                    found.state = "REVERTED"
                run.next_phase("ENDED")
                return


async def _rows(run: Run, call: Call) -> Sequence[BulkRow]:
    done = await call.db.scalar(
        select(BulkRun.id)
        .where(BulkRun.about == run.about, BulkRun.kind == "RunImport")
        .order_by(BulkRun.create_time.desc())
        .limit(1)
    )
    statement = (
        select(BulkRow)
        .where(BulkRow.run == done, BulkRow.action.in_(["CREATED", "UPDATED"]))
        .order_by(BulkRow.part.desc(), BulkRow.line.desc())
        .offset(run.position)
        .limit(CHUNK)
    )
    return (await call.db.scalars(statement)).all()


async def _take_back(rows: Sequence[BulkRow], call: Call) -> list[tuple[BulkRow, str]]:
    """What could not be taken back, with the reason."""
    left: list[tuple[BulkRow, str]] = []
    # Relations go before the contacts, and those before the accounts that they are at.
    for part, collection in dict.fromkeys((row.part, row.name.partition("/")[0]) for row in rows):
        mine = [row for row in rows if row.part == part and row.name.startswith(f"{collection}/")]
        model = call.running.models_by_collection[collection]
        ids = [UUID(row.name.partition("/")[2]) for row in mine]
        statement = select(model).where(model.id.in_(ids)).with_for_update()
        records = {record.name: record for record in await call.db.scalars(statement)}
        in_use = await used(call, model.described, [row.name for row in mine])
        for row in mine:
            record = records.get(row.name)
            if record is None:
                continue
            reason = (
                await remove(record, row.detail["version"], in_use, call)
                if row.action == "CREATED"
                else await _restore(record, row, call)
            )
            if reason:
                left.append((row, reason))
        await call.flush()
    return left


async def _restore(record: Resource, row: BulkRow, call: Call) -> str:
    """Gives fields that still hold the imported value their old one."""
    mapping, model = mapper(type(record)), type(record)
    by_json = {field.json_name: name for name, field in model.described.fields.items()}
    same = [
        key
        for key, value in row.detail["after"].items()
        if mapping.value_json(by_json[key], getattr(record, by_json[key])) == value
    ]
    before = {key: row.detail["before"][key] for key in same if row.detail["before"].get(key) is not None}
    message: Any = json_format.ParseDict(before, model.__message__(), ignore_unknown_fields=True)
    try:
        changed = mapping.assign(record, message, [by_json[key] for key in same], new=True, prefix="")
        await record.updating(call, changed)
    except Problem as problem:
        await call.db.refresh(record)
        return problem.reason
    return "" if len(same) == len(row.detail["after"]) else "CHANGED_SINCE"


def _left(run: Run, row: BulkRow, reason: str) -> dict[str, Any]:
    texts = {
        "CHANGED_SINCE": ("导入后已被修改，保留", "Changed since the import, kept"),
        "IN_USE": ("已被其他记录引用，保留", "Others refer to it, kept"),
    }
    zh, en = texts.get(reason, (reason, reason))
    detail = {"column": "", "reason": reason, "zh": f"{row.name} {zh}", "en": f"{row.name} {en}"}
    return {
        "run": run.id,
        "line": row.line,
        "part": row.part,
        "action": "LEFT",
        "name": row.name,
        "detail": detail,
    }
