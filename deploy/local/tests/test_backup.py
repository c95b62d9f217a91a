"""Backups on real servers: what is restored is what was there, and what is wrong is refused before it does harm."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from local_platform import backup
from local_platform.backup import BackupRefused, Vault
from local_platform.servers import postgres

Ports = Callable[[], int]


async def rows(url: str) -> int:
    connection = await asyncpg.connect(url, database="sales")
    try:
        return int(await connection.fetchval("SELECT count(*) FROM leads"))
    finally:
        await connection.close()


async def fill(url: str) -> None:
    admin = await asyncpg.connect(url, database="postgres")
    await admin.execute("CREATE DATABASE sales")
    await admin.close()
    inside = await asyncpg.connect(url, database="sales")
    await inside.execute(
        "CREATE TABLE leads (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text);"
        "INSERT INTO leads (title) SELECT 'lead ' || n FROM generate_series(1, 5000) AS n;"
        "CREATE TABLE prices (id bigint PRIMARY KEY, text text, at timestamptz);"
        "INSERT INTO prices SELECT n, '价 ' || n, now() FROM generate_series(1, 300) AS n"
    )
    await inside.close()


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(BackupRefused) as refusal:
        work()
    return str(refusal.value).partition(":")[0]


async def test_a_backup_made_while_people_write_comes_back_whole_to_the_last_archived_minute(
    tmp_path: Path, free_port: Ports
) -> None:
    state, key = tmp_path / "state", tmp_path / "private.key"
    vault = Vault(state / "backups")
    assert refused(lambda: vault.recipient) == "BACKUP_KEY_MISSING"
    vault.make_key(key)
    assert refused(lambda: vault.make_key(tmp_path / "another.key")) == "BACKUP_KEY_EXISTS"
    (state / "files" / "ab").mkdir(parents=True)
    (state / "files" / "ab" / "abcd").write_bytes(b"contract" * 1000)
    async with postgres(state / "postgres", free_port()) as url:
        await fill(url)
        writing = asyncio.Event()

        async def write() -> None:
            connection = await asyncpg.connect(url, database="sales")
            begun = asyncio.get_running_loop().time()
            thrown = 0
            while not writing.is_set():
                await connection.execute("INSERT INTO leads (title) VALUES ('while it was made')")
                # So much is written meanwhile that the server needs the beginning of its log no more.
                if thrown < 5 and asyncio.get_running_loop().time() - begun > thrown + 1:
                    await connection.execute("SELECT pg_switch_wal()")
                    await connection.execute("CHECKPOINT")
                    thrown += 1
            await connection.close()

        writer = asyncio.create_task(write())
        folder = await backup.create(url, state, vault)
        writing.set()
        await writer
        later = await asyncpg.connect(url, database="sales")
        await later.execute("INSERT INTO leads (title) VALUES ('after it was made')")
        total = await later.fetchval("SELECT count(*) FROM leads")
        segment = await later.fetchval("SELECT pg_walfile_name(pg_switch_wal())")
        await later.close()
        for _ in range(100):
            if (vault.wal / f"{segment}.age").exists():
                break
            await asyncio.sleep(0.1)
        await damage_and_wrong_keys(folder, key, vault, tmp_path)
        with vault.alone(), pytest.raises(BackupRefused, match="BACKUP_RUNNING"):
            await backup.create(url, state, vault)
    assert not any(b"while it was made" in part.read_bytes() for part in folder.glob("*.age"))

    manifest = backup.unpack(folder, key, vault, tmp_path / "scratch")
    shutil.copy(state / "postgres" / "password", tmp_path / "scratch" / "postgres" / "password")
    async with postgres(tmp_path / "scratch" / "postgres", free_port()) as url:
        assert await rows(url) == total
        assert await backup.unsound(url, ["sales"]) == []
    await what_a_drill_compares(folder, key, vault, tmp_path / "drilled", free_port, total)

    # To the moment of the backup: what was written after it stays away.
    made = datetime.fromisoformat(manifest["start"])
    backup.unpack(folder, key, vault, tmp_path / "early", made)
    shutil.copy(state / "postgres" / "password", tmp_path / "early" / "postgres" / "password")
    async with postgres(tmp_path / "early" / "postgres", free_port()) as url:
        assert 5000 <= await rows(url) < total

    confirm = [["Chen"], ["Chen", " Chen "], []]
    for by in confirm:
        assert refused(lambda by=by: backup.restore(folder, key, vault, state, by)) == "RESTORE_NOT_CONFIRMED"
    assert (state / "postgres" / "data" / "PG_VERSION").exists()
    aside = backup.restore(folder, key, vault, state, ["Chen", "Wang"])
    assert (aside / "postgres" / "data" / "PG_VERSION").exists()
    async with postgres(state / "postgres", free_port()) as url:
        assert await rows(url) == total
    assert (state / "files" / "ab" / "abcd").read_bytes() == b"contract" * 1000


def test_backups_and_wal_age_out_after_35_days_but_for_the_newest_and_what_it_needs(tmp_path: Path) -> None:
    vault, now = Vault(tmp_path / "vault"), datetime.now(UTC)
    for number, age in (("BK1", 90), ("BK2", 36), ("BK3", 34), ("BK4", 33)):
        (vault.folder / number).mkdir(parents=True)
        manifest = {"start": (now - timedelta(days=age)).isoformat()}
        (vault.folder / number / "manifest.json").write_text(json.dumps(manifest))
    vault.wal.mkdir()
    for name, age in (("0001.age", 35), ("0002.age", 33), ("0003.history.age", 80)):
        piece = vault.wal / name
        piece.touch()
        archived = (now - timedelta(days=age)).timestamp()
        os.utime(piece, (archived, archived))
    assert vault.purge(now) == ["BK1", "BK2"]
    assert sorted(path.name for path in vault.wal.iterdir()) == ["0002.age", "0003.history.age"]
    # Nothing newer could be made for months: the last one stays, and what is written since.
    assert vault.purge(now + timedelta(days=300)) == ["BK3"]
    assert (vault.folder / "BK4" / "manifest.json").exists() and (vault.wal / "0002.age").exists()


async def test_whoever_works_comes_first_each_row_is_read_once_in_small_pieces_and_disk_and_cores_are_left_free(
    tmp_path: Path, free_port: Ports
) -> None:
    state = tmp_path / "state"
    vault = Vault(state / "backups")
    vault.make_key(tmp_path / "private.key")
    async with postgres(state / "postgres", free_port()) as url:
        await fill(url)
        watcher = await asyncpg.connect(url, database="sales")
        await watcher.execute(
            "INSERT INTO leads (title) SELECT 'more ' || n FROM generate_series(1, 40000) AS n;"
            "ALTER DATABASE sales SET log_statement = 'all'"
        )
        read = "SELECT sum(seq_tup_read)::int FROM pg_stat_user_tables WHERE relname IN ('leads', 'prices')"
        before = await watcher.fetchval(read)
        making = asyncio.create_task(backup.create(url, state, vault))
        # Between two pieces the last that a session did was to end the one.
        resting = (
            "SELECT pid FROM pg_stat_activity WHERE datname = 'sales' AND query LIKE 'RELEASE SAVEPOINT%'"
        )
        priorities: set[int] = set()
        while not making.done():
            for (pid,) in await watcher.fetch(resting):
                with contextlib.suppress(ProcessLookupError):
                    priorities.add(os.getpriority(os.PRIO_PROCESS, pid))
            await asyncio.sleep(0.02)
        folder = await making
        assert await watcher.fetchval(read) - before == 45_300
        await watcher.close()
    assert priorities == {backup.NICE}
    log = (state / "postgres" / "postgres.log").read_text()
    pieces = re.findall(r"Parameters: \$1 = '\((\d+),0\)', \$2 = '\((\d+),0\)'", log)
    assert len(pieces) > 3 and {int(end) - int(start) for start, end in pieces} == {backup.PAGES}
    manifest = json.loads((folder / "manifest.json").read_text())
    took = datetime.fromisoformat(manifest["finish"]) - datetime.fromisoformat(manifest["start"])
    # pg_basebackup counts in megabytes of 2^20 bytes, and lets an eighth of a second's share go at once.
    most = int(backup.RATE.removesuffix("M")) * 2**20 * (took.total_seconds() + 1)
    assert (folder / "base.tar.age").stat().st_size < most


@pytest.mark.parametrize("command", ["verify", "drill"])
def test_the_command_says_what_is_wrong_with_a_damaged_backup_in_its_last_line(
    command: str, tmp_path: Path
) -> None:
    key = tmp_path / "private.key"
    Vault(tmp_path / "backups").make_key(key)
    folder = tmp_path / "backups" / "BK20261122001"
    folder.mkdir()
    (folder / "base.tar.age").write_bytes(b"damaged")
    (folder / "manifest.json").write_text(json.dumps({"parts": {"base.tar.age": "0" * 64}}))
    done = subprocess.run(
        [sys.executable, "-m", "local_platform.backup", command, folder.name, "--key", key, "--state", tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "BACKUP_CORRUPT: base.tar.age differ from the manifest"


async def what_a_drill_compares(
    folder: Path, key: Path, vault: Vault, scratch: Path, free_port: Ports, total: int
) -> None:
    """The moment of the backup, table by table: one letter that differs is found; then all that was archived since."""
    manifest = backup.unpack(folder, key, vault, scratch, backup.CUT)
    shutil.copy(scratch / "own" / "postgres" / "password", scratch / "postgres" / "password")
    known = manifest["databases"]["sales"]
    assert known["prices"] == {"rows": 300, "digest": known["prices"]["digest"]} and known["prices"]["digest"]
    assert known["leads"]["rows"] >= 5000 and known["leads"]["digest"] == ""
    async with postgres(scratch / "postgres", free_port(), paused=True) as url:
        assert 5000 <= await rows(url) < total
        assert await backup.compare(url, manifest) == []
        manifest["databases"]["sales"]["leads"]["rows"] = total
        assert await backup.compare(url, manifest) == [f"sales.leads has {await rows(url)} rows, not {total}"]
    manifest["databases"]["sales"]["leads"]["rows"] = 5000
    backup.go_on(scratch / "postgres" / "data")
    async with postgres(scratch / "postgres", free_port()) as url:
        assert await rows(url) == total
        inside = await asyncpg.connect(url, database="sales")
        await inside.execute("UPDATE prices SET text = text || ' ' WHERE id = 7")
        await inside.close()
        assert await backup.compare(url, manifest) == ["sales.prices has other rows than when it was saved"]


async def damage_and_wrong_keys(folder: Path, key: Path, vault: Vault, tmp_path: Path) -> None:
    """Each is refused by its reason, and the running server is not touched."""
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    with (bad / "base.tar.age").open("r+b") as part:
        part.seek(part.seek(0, os.SEEK_END) // 2)
        part.write(b"\0\0\0\0")
    assert refused(lambda: backup.verify(bad)) == "BACKUP_CORRUPT"
    everything = sorted(path for path in (tmp_path / "state").iterdir())
    assert (
        refused(lambda: backup.restore(bad, key, vault, tmp_path / "state", ["Chen", "Wang"]))
        == "BACKUP_CORRUPT"
    )
    # Somebody who has bent the manifest as well is stopped by the seal of the part itself.
    manifest = json.loads((bad / "manifest.json").read_text())
    manifest["parts"]["base.tar.age"] = backup.part_hash(bad / "base.tar.age")
    (bad / "manifest.json").write_text(json.dumps(manifest))
    assert refused(lambda: backup.unpack(bad, key, vault, tmp_path / "a")) == "BACKUP_CORRUPT"
    (bad / "manifest.json").write_text("{")
    assert refused(lambda: backup.verify(bad)) == "BACKUP_CORRUPT"
    other = tmp_path / "other.key"
    Vault(tmp_path / "other").make_key(other)
    assert refused(lambda: backup.unpack(folder, other, vault, tmp_path / "b")) == "BACKUP_KEY_MISMATCH"
    left = sorted(path for path in (tmp_path / "state").iterdir() if path.name != "run.lock")
    assert left == [path for path in everything if path.name != "run.lock"]
