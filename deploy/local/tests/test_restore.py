"""One click restores: the launcher's agent, on a small platform of its own, from the request to what comes back."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from crmkit.map import APPS
from local_platform.agent import Agent, Restore
from local_platform.backup import Vault
from local_platform.launcher import Platform, Running
from local_platform.secret import Secrets
from local_platform.signin import sign_in

NEEDED = tuple(app for app in APPS if app.name in ("workspace", "gateway"))
PATIENCE = 120.0


class Person:
    """Somebody signed in with both factors."""

    def __init__(self, running: Running, secrets: Secrets, name: str) -> None:
        self._running, self._secrets, self._name, self._token = running, secrets, name, ""

    async def take(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """The body of a good answer."""
        if not self._token:
            back = f"{self._running.url}/session/callback"
            signed = await sign_in(self._running.issuer, self._name, back, self._secrets, second_factor=True)
            self._token = signed.access_token
        headers = {"Authorization": f"Bearer {self._token}", "Idempotency-Key": uuid4().hex}
        asked = {} if method == "GET" else {"json": body}
        async with httpx.AsyncClient(base_url=self._running.url, timeout=30) as http:
            answer = await http.request(method, f"/v1/{path}", headers=headers, **asked)
        assert answer.is_success, answer.text
        return answer.json()


async def until(ask: Callable[[], Awaitable[Any]], fits: Callable[[Any], Any]) -> Any:
    """What is found once it fits."""
    async with asyncio.timeout(PATIENCE):
        while not fits(found := await ask()):  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    return found


async def test_two_people_have_a_proven_backup_restored_by_one_click_each_and_lose_nothing_that_was_archived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT_OFFSET", str(3000 + os.getpid() % 1000 * 10))
    monkeypatch.setenv("BACKUP_KEY", str(tmp_path / "private.key"))
    state = tmp_path / "state"
    vault = Vault(state / "backups")
    vault.make_key(tmp_path / "private.key")
    platform = Platform("dev", NEEDED, state=state)
    async with platform.running() as running:
        agent = Agent(running.url, running.issuer, state, pause=0.5)
        admin, second = (Person(running, platform.secrets, name) for name in ("admin", "zong"))
        working = asyncio.create_task(agent.run())
        try:
            early = await admin.take("POST", "tasks", displayName="before the backup")
            name = (await admin.take("POST", "backups:create"))["name"]
            made = await until(lambda: admin.take("GET", name), lambda one: one["state"] == "DONE")
            # As a drill leaves it: that one proves what it says is tried on a whole platform.
            proof = {
                "number": made["number"], "verifiedTime": datetime.now(UTC).isoformat(),
                "restoredSeconds": 1, "provenSeconds": 2, "wrong": [],
            }  # fmt: skip
            (vault.folder / made["number"] / "proof.json").write_text(json.dumps(proof))
            late = await admin.take("POST", "tasks", displayName="after the backup")
            await archived(running.database, vault)
            await until(lambda: admin.take("GET", name), lambda one: one["state"] == "VERIFIED")

            zong = await who(admin, "zong")
            await admin.take(
                "POST", f"{zong}:assignRole", role="system_administrator", reason="second person"
            )
            await admin.take("POST", f"{name}:proposeRestore", reason="the disk is broken")
            await asyncio.sleep(2)
            assert not working.done()
            await until(lambda: allowed(second, f"{name}:restore"), bool)
            wanted = await asyncio.wait_for(working, PATIENCE)
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
    assert isinstance(wanted, Restore) and len({*wanted.confirmed_by}) == 2
    assert agent.restore(wanted) == ""
    platform = Platform("dev", NEEDED, state=state)
    async with platform.running() as running:
        admin = Person(running, platform.secrets, "admin")
        for task in (early, late):
            assert (await admin.take("GET", task["name"]))["displayName"] == task["displayName"]
        # It is told once, and the restored database, which still holds the request, has it done no second time.
        agent = Agent(running.url, running.issuer, state, pause=0.5)
        again = asyncio.create_task(agent.run())
        restored = await until(lambda: admin.take("GET", name), lambda one: "restoreTime" in one)
        assert "asked" not in restored and not again.done()
        again.cancel()
        with suppress(asyncio.CancelledError):
            await again


async def archived(database: str, vault: Vault) -> None:
    """Waits until everything that is written by now lies in the vault."""
    connection = await asyncpg.connect(database, database="postgres")
    segment = await connection.fetchval("SELECT pg_walfile_name(pg_switch_wal())")
    await connection.close()

    async def there() -> bool:
        return (vault.wal / f"{segment}.age").exists()

    await until(there, bool)


async def who(admin: Person, username: str) -> str:
    """The name of an employee."""
    found = await admin.take("GET", "employees?pageSize=200")
    return next(one["name"] for one in found["employees"] if one.get("username") == username)


async def allowed(person: Person, verb: str) -> bool:
    """Whether it was done: a new role is known everywhere within seconds."""
    with suppress(AssertionError):
        await person.take("POST", verb)
        return True
    return False
