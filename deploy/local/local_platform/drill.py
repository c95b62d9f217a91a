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
from urllib.parse import unquote, urlsplit

import asyncpg
import httpx
from crmkit.bus import Bus, stream_of
from crmkit.map import APPS, NATS_PORT, POSTGRES_PORT, moved
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
# Below the ports that the system gives to outgoing connections, of which any may be taken.
OWN_PORTS = 12_050


async def drill(folder: Path, key: Path, vault: backup.Vault) -> int:
    """Restores and proves; writes `proof.json` beside the backup. 0 where nothing is wrong."""
    began = time.monotonic()
    # Its servers are its own, whatever the environment names.
    for name in ("NATS_URL", "OIDC_ISSUER"):
        os.environ.pop(name, None)
    os.environ["PGSSLMODE"] = "disable"
    # Moved by an offset of its own, so that the platform goes on meanwhile.
    os.environ["PORT_OFFSET"] = str(int(os.environ.get("PORT_OFFSET", "0")) + OWN_PORTS)
    scratch = Path(tempfile.mkdtemp(prefix="drill"))
    os.chmod(scratch, 0o755)  # noqa: PTH101
    try:
        manifest = backup.unpack(folder, key, vault, scratch, backup.CUT)
        _know(scratch)
        # First as it was at the moment of the backup, then with all that was archived since.
        async with servers.postgres(scratch / "postgres", moved(POSTGRES_PORT), paused=True) as url:
            wrong = await backup.compare(url, manifest)
        backup.go_on(scratch / "postgres" / "data")
        async with servers.postgres(scratch / "postgres", moved(POSTGRES_PORT)) as url:
            restored = time.monotonic() - began
            wrong += await backup.unsound(url, list(manifest["databases"]))
            os.environ["DATABASE_URL"] = url
            platform = Platform(state=scratch)
            async with platform.running() as running:
                wrong += await _read(running, Secrets(scratch / "secrets.json"))
                apps = [app.name for app in APPS if app.name in manifest["databases"]]
                wrong += await _refilled(url, apps, _password(scratch))
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
    tables = [one for database in manifest["databases"].values() for one in database.values()]
    alike = sum(bool(one["digest"]) for one in tables)
    print(
        f"{folder.name}: {sum(one['rows'] for one in tables)} rows in {len(manifest['databases'])} databases and "
        f"{len(manifest['files'])} files; {alike} of {len(tables)} tables compared to the last letter, the others were "
        f"written to meanwhile; restored in {restored:.1f} s, proven in {proof['provenSeconds']} s"
    )
    print("\n".join(f"  WRONG: {one}" for one in wrong) if wrong else "  nothing is wrong")
    return 1 if wrong else 0


def _know(scratch: Path) -> None:
    """What the installation knows comes from the backup, as if this machine were gone; in a cluster from its Secret."""
    own = scratch / "own"
    if (own / "secrets.json").exists():
        for name in ("secrets.json", "postgres/password"):
            shutil.copy(own / name, scratch / name)
        return
    secrets, password = os.environ.get("SECRET_KEY"), urlsplit(os.environ.get("DATABASE_URL", "")).password
    if not secrets or not password:
        raise backup.BackupRefused(
            "BACKUP_KEY_MISSING: SECRET_KEY and DATABASE_URL say what the services know"
        )
    (scratch / "secrets.json").write_text(json.dumps({"platform": secrets}))
    (scratch / "postgres" / "password").write_text(unquote(password))


async def _refilled(url: str, databases: list[str], password: str) -> list[str]:
    """Which streams of the fresh NATS lack facts that the restored outboxes have sent: the relays fill them again."""
    # What was sent before the stream was made is not in it; one message may hold many facts.
    published = (
        "SELECT count(*), count(*) FILTER (WHERE published_at >= $1),"
        " count(DISTINCT stream_sequence) FILTER (WHERE published_at >= $1)"
        " FROM outbox WHERE published_at > now() - interval '6 days'"
    )
    nats = f"nats://guanxi:{password}@{servers.HOST}:{moved(NATS_PORT)}"
    lacking: dict[str, str] = {}
    async with Bus(nats, "drill") as bus:
        js = await bus.connected()
        for _ in range(REFILL_SECONDS):
            lacking = {}
            for database in databases:
                try:
                    stream = await js.stream_info(stream_of(database))
                    made, messages = stream.created, stream.state.messages
                except NotFoundError:
                    made, messages = None, 0
                connection = await asyncpg.connect(url, database=database)
                sent, held, told = await connection.fetchrow(published, made)
                await connection.close()
                if held < sent or messages < told:
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
