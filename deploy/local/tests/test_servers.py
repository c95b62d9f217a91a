import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
from local_platform.child import StartFailed
from local_platform.secret import Secrets
from local_platform.servers import ensure_database, nats, postgres
from nats import connect
from nats.js.api import StreamConfig

Ports = Callable[[], int]

# Starts both servers, prints their pids, and waits to be killed.
LAUNCHER = """
import asyncio, sys
from pathlib import Path
from local_platform.servers import nats, postgres
async def main(directory, pg_port, nats_port):
    async with postgres(directory / "postgres", pg_port), nats(directory / "nats", nats_port):
        print("ready", flush=True)
        await asyncio.sleep(600)
asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


async def test_postgresql_keeps_every_commit_and_asks_for_a_password(
    tmp_path: Path, free_port: Ports
) -> None:
    port = free_port()
    async with postgres(tmp_path, port) as url:
        connection = await asyncpg.connect(url, database="postgres")
        safety = ("fsync", "full_page_writes", "synchronous_commit", "data_checksums")
        assert [await connection.fetchval(f"SHOW {setting}") for setting in safety] == ["on"] * 4
        assert (await connection.fetchval("SHOW server_version")).startswith("18.")
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(f"postgresql://postgres:wrong@127.0.0.1:{port}/postgres")


async def test_postgresql_comes_back_after_a_kill_with_what_was_committed(
    tmp_path: Path, free_port: Ports
) -> None:
    port = free_port()
    async with postgres(tmp_path, port) as url:
        connection = await asyncpg.connect(url, database="postgres")
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        os.kill(_pid(tmp_path / "postgres.pid"), signal.SIGKILL)
    async with postgres(tmp_path, port) as url:
        connection = await asyncpg.connect(url, database="postgres")
        assert await connection.fetchval("SELECT number FROM kept") == 7
        await connection.close()


async def test_a_stale_lock_of_postgresql_that_names_a_living_stranger_is_no_hindrance(
    tmp_path: Path, free_port: Ports
) -> None:
    port = free_port()
    async with postgres(tmp_path, port):
        lock = (tmp_path / "data" / "postmaster.pid").read_text()
    stranger = _start("sleep", "60")
    try:
        (tmp_path / "data" / "postmaster.pid").write_text(lock.replace(lock.split()[0], str(stranger.pid), 1))
        (tmp_path / "postgres.pid").write_text(f"{stranger.pid} 1.0")
        async with postgres(tmp_path, port):
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        assert stranger.stdout is not None
        stranger.stdout.close()


async def test_nats_syncs_always_and_keeps_what_it_acknowledged_over_a_kill(
    tmp_path: Path, free_port: Ports
) -> None:
    port = free_port()
    async with nats(tmp_path, port) as url:
        client = await connect(url)
        await client.jetstream().add_stream(StreamConfig(name="kept", subjects=["kept.>"]))
        await client.jetstream().publish("kept.one", b"1")
        os.kill(_pid(tmp_path / "nats.pid"), signal.SIGKILL)
        await client.close()
    async with nats(tmp_path, port) as url:
        client = await connect(url)
        assert (await client.jetstream().get_msg("kept", 1)).data == b"1"
        await client.close()
    assert "sync_interval: always" in (tmp_path / "nats.conf").read_text()
    assert stat.S_IMODE((tmp_path / "nats.conf").stat().st_mode) == 0o600


async def test_a_killed_launcher_leaves_servers_that_the_next_one_replaces(
    tmp_path: Path, free_port: Ports
) -> None:
    ports = [str(free_port()), str(free_port())]
    first = _start(sys.executable, "-c", LAUNCHER, str(tmp_path), *ports)
    assert first.stdout is not None and first.stdout.readline() == b"ready\n"
    first.kill()
    first.wait()
    first.stdout.close()
    left = _pid(tmp_path / "postgres" / "postgres.pid")
    assert psutil.pid_exists(left)
    async with postgres(tmp_path / "postgres", int(ports[0])), nats(tmp_path / "nats", int(ports[1])):
        assert not psutil.pid_exists(left)


async def test_a_taken_port_is_named(tmp_path: Path, free_port: Ports) -> None:
    port = free_port()
    async with nats(tmp_path / "one", port):
        with pytest.raises(StartFailed, match=f"Port {port} for nats is taken"):
            async with nats(tmp_path / "two", port):
                pass


async def test_an_app_reads_and_writes_rows_but_shapes_nothing_and_enters_no_other_database(
    tmp_path: Path, free_port: Ports
) -> None:
    secrets = Secrets(tmp_path / "secrets.json")
    async with postgres(tmp_path / "postgres", free_port()) as url:
        sales = await ensure_database(url, "sales", secrets)
        orders = await ensure_database(url, "orders", secrets)
        assert await ensure_database(url, "sales", secrets) == sales
        owner = await asyncpg.connect(sales.owner_url, database="sales")
        await owner.execute("CREATE TABLE leads (id bigint GENERATED ALWAYS AS IDENTITY, title text)")
        app = await asyncpg.connect(sales.url, database="sales")
        await app.execute("INSERT INTO leads (title) VALUES ('a'); UPDATE leads SET title = 'b'")
        assert await app.fetchval("DELETE FROM leads RETURNING title") == "b"
        for forbidden in ("CREATE TABLE more (id int)", "ALTER TABLE leads ADD more int", "TRUNCATE leads"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await app.execute(forbidden)
        rights = await app.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole FROM pg_roles"
            " WHERE rolname = current_user"
        )
        assert rights is not None and not any(rights)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(orders.url, database="sales")
        await owner.close()
        await app.close()


def test_secrets_stay_the_same_and_belong_to_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = Secrets(path).get("one")
    assert Secrets(path).get("one") == first != Secrets(path).get("two")
    assert json.loads(path.read_text()).keys() == {"one", "two"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def _start(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _pid(file: Path) -> int:
    deadline = time.monotonic() + 30
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return int(file.read_text().split()[0])
