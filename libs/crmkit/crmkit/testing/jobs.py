"""Bulk jobs of workspace over a service, as its tests ask for them."""

from __future__ import annotations

import csv
import io
from typing import Any
from uuid import uuid4

from crmkit import blobs, sheets
from crmkit.testing import Service

Table = list[tuple[str, ...]]


async def job(
    service: Service, mode: str, rows: Table | None = None, who: str = "sales1", **fields: Any
) -> dict[str, Any]:
    """Asks for a job as workspace does, and waits for its end."""
    name = f"bulkJobs/{uuid4()}"
    options = [{"key": key, "value": value} for key, value in fields.pop("options", {}).items()]
    payload: dict[str, Any] = {
        "bulkJob": {
            "name": name,
            "mode": mode,
            "owner": service.person(who).employee,
            "options": options,
            **fields,
        }
    }
    if rows is not None:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        sha256, size = await blobs.keep(service.running.store, io.BytesIO(text.getvalue().encode()))
        payload["file"] = {
            "name": f"files/{uuid4()}",
            "displayName": "表.csv",
            "sha256": sha256,
            "size": str(size),
        }
    for _ in range(2):
        await service.tell("crm.workspace.v1.BulkRequested", payload, name)

    async def ended() -> Any:
        found = [
            f
            for f in await service.facts(f"crm.{service.running.app.name}.v1.BulkFinished")
            if f["job"] == name
        ]
        return found[0] if found else None

    return {"total": 0, "failed": 0, **await service.eventually(ended, 30)}


async def lines(service: Service, file: dict[str, Any]) -> list[list[str]]:
    """The heads and the rows of a stored sheet."""
    async with blobs.fetched(service.running.store, file["sha256"]) as stored:
        kind = "xlsx" if file["displayName"].endswith(".xlsx") else "csv"
        sheet = sheets.rows(io.BytesIO(stored.read()), kind)
        return [sheet.columns, *(row.values for row in sheet.rows)]
