"""A backup of the whole platform by the operator's agent, while fifty people write; a damaged one is never restored."""

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from local_platform.agent import Agent
from local_platform.launcher import Running

from tests.e2e.people import Person, Refusal

WRITERS = 50
QUIET_SECONDS = 4
WITHIN_SECONDS = 120


async def until_done(http: httpx.AsyncClient, name: str, headers: dict[str, str]) -> dict[str, Any]:
    """The backup, once the agent has nothing more to do with it."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        backup = (await http.get(f"/v1/{name}", headers=headers)).raise_for_status().json()
        if not backup.get("asked") and backup["state"] not in ("REQUESTED", "RUNNING"):
            return backup
        assert time.monotonic() < deadline, backup
        await asyncio.sleep(0.3)


async def while_people_write(
    http: httpx.AsyncClient, token: str, work: Callable[[], Any]
) -> tuple[Any, list[float]]:
    """What the work gives, and how long each write of fifty people took meanwhile; none of them is refused."""
    over = asyncio.Event()
    took: list[float] = []

    async def write(person: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            headers = {
                "Authorization": f"Bearer {token}",
                "Idempotency-Key": f"w{person}-{number}-{time.time_ns()}",
            }
            began = time.monotonic()
            body = {"displayName": f"备份时写入 {person}-{number}"}
            answer = await http.post("/v1/accounts", json=body, headers=headers)
            took.append(time.monotonic() - began)
            assert answer.status_code < 300, answer.text
            # People think in between.
            await asyncio.sleep(1)

    async with asyncio.TaskGroup() as group:
        for person in range(WRITERS):
            group.create_task(write(person))
        found = await work()
        over.set()
    return found, took


def p95(took: list[float]) -> float:
    return statistics.quantiles(took, n=20)[-1]


def test_a_backup_while_fifty_people_write_costs_them_nothing_and_a_damaged_one_is_not_restored(
    platform: Running, person: Callable[..., Person], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if not platform.database:
        pytest.skip("the platform is another machine's")  # reason: its agent has the vault, this one has none
    state = next(tmp_path_factory.getbasetemp().glob("platform*"))
    monkeypatch.setenv("BACKUP_KEY", str(tmp_path / "private.key"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    agent = Agent(platform.url, platform.issuer, state, platform.database, pause=0.3)
    agent.vault.make_key(tmp_path / "private.key")
    admin = person("admin")
    headers = {"Authorization": f"Bearer {admin.token()}"}

    async def story() -> tuple[str, str]:
        limits = httpx.Limits(max_connections=WRITERS + 10)
        async with httpx.AsyncClient(base_url=platform.url, timeout=60, limits=limits) as http:
            working = asyncio.create_task(agent.run())
            try:
                _, quiet = await while_people_write(http, admin.token(), lambda: asyncio.sleep(QUIET_SECONDS))

                async def back_up() -> dict[str, Any]:
                    answer = await http.post("/v1/backups:create", json={}, headers=headers)
                    return await until_done(http, answer.raise_for_status().json()["name"], headers)

                made, meanwhile = await while_people_write(http, admin.token(), back_up)
                print(
                    f"p95 of a write: {p95(quiet) * 1000:.0f} ms, while backed up {p95(meanwhile) * 1000:.0f} ms"
                )
                assert made["state"] == "DONE", made
                assert {entry["database"] for entry in made["databases"]} >= {"customer", "workspace"}
                # A machine that does other things as well says little about 20 %; nobody waits for seconds.
                assert p95(meanwhile) < 1.2 * p95(quiet) + 3

                part = agent.vault.folder / made["number"] / "base.tar.age"
                with part.open("r+b") as file:
                    file.seek(part.stat().st_size // 2)
                    file.write(os.urandom(16))
                asked = await http.post(f"/v1/{made['name']}:verify", json={}, headers=headers)
                asked.raise_for_status()
                found = await until_done(http, made["name"], headers)
                assert found["state"] == "FAILED" and found["problem"].startswith("BACKUP_CORRUPT"), found
                return made["name"], made["number"]
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

    name, _ = asyncio.run(story())
    with pytest.raises(Refusal) as refused:
        admin.take("POST", f"/v1/{name}:proposeRestore", json={"reason": "硬盘损坏，需要恢复"})
    assert refused.value.reason == "BACKUP_CORRUPT"
