"""Customers from a file, through the gateway: uploaded, checked, run; how many lines a second."""

import asyncio
import csv
import io
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
from crmkit import sheets
from crmkit.runfiles import XLSX

from tests.load.scenarios import company

HEADERS = ("客户名称", "员工人数", "电话")
PATIENCE = 900.0


def content(kind: str, lines: int, chance: random.Random) -> bytes:
    """A file of so many customers: utf-8, gb18030 or xlsx."""
    rows = [
        (company(chance), str(chance.randrange(1, 5000)), f"13{chance.randrange(10**9):09}")
        for _ in range(lines)
    ]
    if kind == "xlsx":
        workbook = io.BytesIO()
        sheets.write_xlsx(workbook, HEADERS, rows)
        return workbook.getvalue()
    text = io.StringIO()
    csv.writer(text).writerows([HEADERS, *rows])
    return text.getvalue().encode(kind)


@dataclass
class Brought:
    """How long check and run took, what had been spent at the end of each, and what went wrong."""

    check: float = 0.0
    run: float = 0.0
    wrong: str = ""
    marks: list[Any] = field(default_factory=list[Any])


async def bring_in(
    url: str,
    token: Callable[[], Awaitable[str]],
    kind: str,
    file: bytes,
    lines: int,
    spent: Callable[[], Any],
) -> Brought:
    """Uploads a file, has it checked and run, and waits for the end of each."""
    headers = {"Accept-Language": "en"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as client:

        async def sign_in() -> float:
            """Until when the new token surely counts: it lives five minutes, which many lines outlast."""
            client.headers["Authorization"] = f"Bearer {await token()}"
            return time.monotonic() + 120

        async def post(path: str, body: Any) -> Any:
            answer = await client.post(path, json=body, headers={"Idempotency-Key": str(uuid4())})
            return answer.raise_for_status().json()

        async def settled(name: str, reached: Callable[[str], bool]) -> Any:
            until, signed_in = time.monotonic() + PATIENCE, await sign_in()
            while time.monotonic() < until:
                if time.monotonic() > signed_in:
                    signed_in = await sign_in()
                answer = await client.get(f"/v1/{name}")
                # A machine that is busy with the import may be late with an answer about it.
                if answer.status_code not in (503, 504):
                    found = answer.raise_for_status().json()
                    if reached(found["state"]):
                        return found
                await asyncio.sleep(0.2)
            raise TimeoutError(f"{name} has not ended in {PATIENCE:.0f} s")

        await sign_in()
        stored = await client.post(
            "/v1/files",
            content=file,
            headers={
                "X-File-Name": quote("客户.xlsx" if kind == "xlsx" else "客户.csv"),
                "Content-Type": XLSX if kind == "xlsx" else "text/csv",
            },
        )
        body = {"file": stored.raise_for_status().json()["name"], "kind": "ACCOUNTS"}
        made = await post("/v1/imports", body)
        found, begun = Brought(marks=[spent()]), time.monotonic()
        await post(f"/v1/{made['name']}:check", {})
        checked = await settled(made["name"], lambda state: state in ("CHECKED", "FAILED"))
        between = time.monotonic()
        found.check = between - begun
        found.marks.append(spent())
        if checked["state"] == "FAILED" or checked.get("failed"):
            found.wrong = str(checked.get("failure") or checked.get("errors"))[:300]
            return found
        await post(f"/v1/{made['name']}:run", {})
        done = await settled(made["name"], lambda state: state in ("DONE", "FAILED"))
        found.run = time.monotonic() - between
        found.marks.append(spent())
        found.wrong = "" if done["state"] == "DONE" else str(done.get("failure"))[:300]
        if not found.wrong and done.get("created", 0) + done.get("skipped", 0) != lines:
            found.wrong = f"{lines} lines, {done.get('created')} made, {done.get('skipped')} left out"
        return found
