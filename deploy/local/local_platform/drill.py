"""The restore drill: a backup is restored into fresh servers, compared, and read through the services."""

import asyncio
import json
import os
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from crmkit.bus import Bus, stream_of
from crmkit.map import NATS_PORT, POSTGRES_PORT, moved
from nats.js.errors import NotFoundError

from local_platform import backup, servers
from local_platform.launcher import Platform, Running
from local_platform.secret import Secrets
from local_platform.signin import sign_in

SMOKE = (
    "accounts", "contacts", "opportunities", "quotes", "contracts", "orders", "invoices", "tickets", "tasks",
    "auditEntries",
)  # fmt: skip

REFILL_SECONDS = 120


async def drill(folder: Path, key: Path, vault: backup.Vault) -> int:
    """Restores and proves; writes `proof.json` beside the backup. 0 where nothing is wrong."""
    began = time.monotonic()
    # Moved by an offset of its own, so that the platform goes on meanwhile.
    os.environ["PORT_OFFSET"] = str(int(os.environ.get("PORT_OFFSET", "0")) + 5000)
    scratch = Path(tempfile.mkdtemp(prefix="drill"))
    os.chmod(scratch, 0o755)  # noqa: PTH101
    try:
        manifest = backup.unpack(folder, key, vault, scratch)
        # From the backup, as if this machine were gone.
        for name in ("secrets.json", "postgres/password"):
            shutil.copy(scratch / "own" / name, scratch / name)
        async with servers.postgres(scratch / "postgres", moved(POSTGRES_PORT)) as url:
            restored = time.monotonic() - began
            wrong = await backup.prove(url, manifest)
            os.environ["DATABASE_URL"] = url
            platform = Platform(state=scratch)
            async with platform.running() as running:
                wrong += await _read(running, Secrets(scratch / "secrets.json"))
                wrong += await _refilled(url, list(manifest["databases"]), _password(scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    proof: dict[str, Any] = {
        "number": folder.name,
        "verifiedTime": datetime.now(UTC).isoformat(),
        "restoredSeconds": round(restored, 1),
        "provenSeconds": round(time.monotonic() - began, 1),
        "wrong": wrong,
    }
    (folder / "proof.json").write_text(json.dumps(proof, indent=1, ensure_ascii=False))
    rows = sum(least for tables in manifest["databases"].values() for least, _ in tables.values())
    print(
        f"{folder.name}: {rows} rows in {len(manifest['databases'])} databases and {len(manifest['files'])} files, "
        f"restored in {restored:.1f} s, proven in {proof['provenSeconds']} s"
    )
    print("\n".join(f"  WRONG: {one}" for one in wrong) if wrong else "  nothing is wrong")
    return 1 if wrong else 0


async def _refilled(url: str, databases: list[str], password: str) -> list[str]:
    """Which streams of the fresh NATS lack facts that the restored outboxes have sent: the relays fill them again."""
    published = "SELECT count(*) FROM outbox WHERE published_at > now() - interval '6 days'"
    nats = f"nats://guanxi:{password}@{servers.HOST}:{moved(NATS_PORT)}"
    lacking: dict[str, str] = {}
    async with Bus(nats, "drill") as bus:
        js = await bus.connected()
        for _ in range(REFILL_SECONDS):
            lacking = {}
            for database in databases:
                connection = await asyncpg.connect(url, database=database)
                sent = await connection.fetchval(published)
                await connection.close()
                try:
                    held = (await js.stream_info(stream_of(database))).state.messages
                except NotFoundError:
                    held = 0
                if held < sent:
                    lacking[database] = f"the stream of {database} has {held} of {sent} facts"
            if not lacking:
                return []
            await asyncio.sleep(1)
    return list(lacking.values())


async def _read(running: Running, secrets: Secrets) -> list[str]:
    """Reads through the services, and walks the audit chain to its end."""
    tokens = await sign_in(running.issuer, "admin", f"{running.url}/session/callback", secrets)
    headers = {"Authorization": f"Bearer {tokens.access_token}"}
    wrong: list[str] = []
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=30) as http:
        for collection in SMOKE:
            answer = await http.get(f"/v1/{collection}?pageSize=5")
            if answer.status_code != 200:
                wrong.append(f"GET /v1/{collection}: {answer.status_code}")
        next_seq = 1
        while next_seq:
            answer = await http.post("/v1/auditEntries:verify", json={"fromSeq": next_seq})
            found = answer.json()
            if answer.status_code != 200 or found.get("firstBreak"):
                wrong.append(f"the audit chain: {answer.status_code} {found}")
                break
            next_seq = found.get("nextSeq", 0)
    return wrong


def _password(scratch: Path) -> str:
    return (scratch / "nats" / "password").read_text()
