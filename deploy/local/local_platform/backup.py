"""Backup and restore of a whole installation, with proof.

A backup is one base backup of the server that holds all databases, the files, what the installation itself knows
(passwords, the keys of the dev issuer), and a manifest of what must be in it. WAL is archived as it is written, so a
restore loses at most a minute. Everything is encrypted for a public key (age, X25519); the private key is needed to
restore and never lies on the server. A backup counts when it has been restored.

`python -m local_platform.backup key | create | verify | restore | drill`
"""

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import asyncpg
import pyrage

from local_platform import servers
from local_platform.layout import STATE

# The binding tells the types of its first version only.
age: Any = pyrage
CHUNK = 2**20
# Of PostgreSQL.
PAGE = 8192
# Erased people must age out of the backups.
KEPT = timedelta(days=35)
# WAL that was archived so long before a backup began is of no use to it.
WAL_MARGIN = timedelta(hours=1)
# The last commit that the archive surely has is so long before its last piece.
ARCHIVED_SURELY = timedelta(minutes=3)
# What the installation knows of itself, beneath its state.
OWN = ("secrets.json", "postgres/password", "nats/password", "issuer")
# A base backup reads no faster than that a second, an eighth of it at once, so that others find disk and cores free.
RATE = "8M"
# What is written is on disk after so much of it, so that nobody's commit waits behind a whole backup.
SETTLED = 2**20
# Whoever works meanwhile comes first.
NICE = 19
# Tables are counted by so many pages at once, and so many times as long as that took is for others alone.
PAGES, BREATH = 64, 4
# What a session has done to a table all see so long afterwards: one that rests tells of it within ten seconds.
TOLD_SECONDS = 11
# Where recovery ends for a drill: at the moment of the backup itself, of which the manifest tells.
CUT = datetime(1970, 1, 1, tzinfo=UTC)
# Tables that are tidied while they are counted say nothing of what was lost.
UNCOUNTED = frozenset({"schedules", "number_counters", "config_entries", "audit_tallies"})


class BackupRefused(Exception):
    """Nothing was changed; the first word says why: BACKUP_RUNNING, BACKUP_CORRUPT, BACKUP_KEY_MISMATCH, …"""


# Of a table: how many rows, and the sum of their hashes.
Content = tuple[int, str]


@dataclass(frozen=True)
class Trace:
    """What the server has noted of a table and its partitions: all of it stays the same while nobody changes them.

    Where the ground is another one, how many rows were deleted is not known.
    """

    ground: tuple[Any, ...]
    marks: tuple[Any, ...]
    deleted: int


@dataclass(frozen=True)
class Vault:
    """The folder of backups: the public key, the archived WAL, and a folder for each backup."""

    folder: Path

    @property
    def recipient(self) -> str:
        """The public key; BackupRefused where none was made."""
        file = self.folder / "recipient"
        if not file.exists():
            raise BackupRefused("BACKUP_KEY_MISSING: make one with `python -m local_platform.backup key`")
        return file.read_text().strip()

    @property
    def key_id(self) -> str:
        """Which key the backups are for."""
        return key_id(self.recipient)

    @property
    def wal(self) -> Path:
        """Where archived WAL lies."""
        return self.folder / "wal"

    def make_key(self, file: Path) -> None:
        """Writes the private key to the file, which belongs elsewhere, and the public one here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "recipient").exists():
            raise BackupRefused("BACKUP_KEY_EXISTS: earlier backups are for the key that is there")
        identity = age.x25519.Identity.generate()
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(f"{identity}\n")
        (self.folder / "recipient").write_text(f"{identity.to_public()}\n")

    def latest(self) -> Path:
        """The newest backup that is whole."""
        found = sorted(self.folder.glob("BK*/manifest.json"))
        if not found:
            raise BackupRefused("BACKUP_MISSING: there is none yet")
        return found[-1].parent

    @property
    def archived_until(self) -> datetime | None:
        """Until when what was written is archived."""
        times = [path.stat().st_mtime for path in self.wal.glob("*.age")]
        return datetime.fromtimestamp(max(times), UTC) if times else None

    def purge(self, now: datetime) -> list[str]:
        """Takes away backups whose time is over, but for the newest, and WAL that no backup needs; their numbers."""
        began = {
            manifest.parent: datetime.fromisoformat(json.loads(manifest.read_text())["start"])
            for manifest in sorted(self.folder.glob("BK*/manifest.json"))
        }
        over = [folder for folder, start in list(began.items())[:-1] if now - start > KEPT]
        for folder in over:
            shutil.rmtree(folder)
            del began[folder]
        oldest = min(began.values(), default=now) - WAL_MARGIN
        for path in self.wal.glob("*"):
            # Histories tell how timelines hang together, however old they are.
            if ".history" not in path.name and datetime.fromtimestamp(path.stat().st_mtime, UTC) < oldest:
                path.unlink()
        return [folder.name for folder in over]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One backup at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackupRefused("BACKUP_RUNNING: another one is being made") from None
            yield


def key_id(recipient: str) -> str:
    """A short name of a public key."""
    return hashlib.sha256(recipient.encode()).hexdigest()[:16]


def read_identity(file: Path, wanted: str) -> Any:
    """The private key in the file; BACKUP_KEY_MISMATCH where it is not that of the backup."""
    identity = age.x25519.Identity.from_str(file.read_text().strip())
    if key_id(str(identity.to_public())) != wanted:
        raise BackupRefused("BACKUP_KEY_MISMATCH: the backup was made for another key")
    return identity


async def create(admin_url: str, state: Path, vault: Vault, asked: str = "", number: str = "") -> Path:
    """Makes a backup while people work, by hand or because of an asking, which gives its number; returns its folder."""
    with vault.alone():
        recipient = age.x25519.Recipient.from_str(vault.recipient)
        began = datetime.now(UTC)
        for left in vault.folder.glob("BK*.draft"):
            shutil.rmtree(left)
        folder = vault.folder / number if number else _next_folder(vault.folder, began)
        if folder.exists():
            raise BackupRefused(f"BACKUP_FAILED: {folder.name} is there")
        draft = folder.with_suffix(".draft")
        draft.mkdir()
        try:
            before = await _traces(admin_url)
            counted, head = await _counted(admin_url, BREATH)
            async with _log_kept(admin_url):
                await asyncio.to_thread(_base_backup, admin_url, draft / "base.tar.age", recipient)
            read = time.monotonic()
            files, own = state / "files", [state / name for name in OWN]
            everything = [path for path in files.rglob("*") if path.is_file()]
            listed = await asyncio.to_thread(_keep, everything, files, draft / "files.tar.age", recipient)
            known = [path for place in own for path in (place, *place.rglob("*")) if path.is_file()]
            await asyncio.to_thread(_keep, known, state, draft / "own.tar.age", recipient)
            finish = datetime.now(UTC)
            await asyncio.sleep(TOLD_SECONDS - (time.monotonic() - read))
            after = await _traces(admin_url)
            parts = {part.name: part_hash(part) for part in sorted(draft.glob("*.age"))}
            manifest = {
                "number": folder.name,
                "askId": asked,
                "start": began.isoformat(),
                "finish": finish.isoformat(),
                "size": sum(part.stat().st_size for part in draft.glob("*.age")),
                "keyId": vault.key_id,
                "parts": parts,
                "databases": {
                    database: {
                        table: _since(content, before[database].get(table), after[database].get(table))
                        for table, content in tables.items()
                    }
                    for database, tables in counted.items()
                },
                "auditSeq": head,
                "files": listed,
            }
            (draft / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False))
            draft.rename(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return folder


def _since(content: Content, before: Trace | None, after: Trace | None) -> dict[str, Any]:
    """What a table holds in a backup that was read after it was counted: exactly that, or at least so many rows."""
    rows, digest = content
    if before == after:
        return {"rows": rows, "digest": digest}
    if before is None or after is None or before.ground != after.ground or before.deleted > after.deleted:
        return {"rows": 0, "digest": ""}
    return {"rows": max(0, rows - (after.deleted - before.deleted)), "digest": ""}


def verify(folder: Path) -> dict[str, Any]:
    """The manifest, after its parts were found to be what they were; BACKUP_CORRUPT else. Needs no key."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        damaged = [name for name, known in manifest["parts"].items() if part_hash(folder / name) != known]
    except (OSError, ValueError, KeyError) as error:
        raise BackupRefused(f"BACKUP_CORRUPT: {error}") from None
    if damaged:
        raise BackupRefused(f"BACKUP_CORRUPT: {', '.join(damaged)} differ from the manifest")
    return manifest


def unpack(
    folder: Path, key: Path, vault: Vault, target: Path, until: datetime | None = None
) -> dict[str, Any]:
    """Restores a backup into an empty folder: `postgres/data`, ready to start, `files` and `own`. Returns the manifest.

    The server starts with what was written until then, with all that is archived where nothing is said, and with
    nothing beyond the backup where it is a moment before the backup was made.
    """
    manifest = verify(folder)
    identity = read_identity(key, manifest["keyId"])
    data, files = target / "postgres" / "data", target / "files"
    data.mkdir(parents=True, mode=0o700)
    files.mkdir(exist_ok=True)
    _open_tar(folder / "base.tar.age", identity, data)
    _open_tar(folder / "files.tar.age", identity, files)
    (target / "own").mkdir(mode=0o700)
    _open_tar(folder / "own.tar.age", identity, target / "own")
    wrong = [name for name, known in manifest["files"].items() if part_hash(files / name) != known]
    if wrong:
        raise BackupRefused(f"BACKUP_CORRUPT: {len(wrong)} files differ from the manifest")
    if vault.wal.exists():
        fetch = f'"{sys.executable}" -m local_platform.backup fetch "{vault.wal}" "{key.resolve()}" %f %p'
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"\nrestore_command = '{fetch}'\nrecovery_target_timeline = 'latest'\n")
            settings.write(_target(until, datetime.fromisoformat(manifest["finish"]), vault.archived_until))
        (data / "recovery.signal").touch()
    if os.geteuid() == 0:
        nobody = servers.nobody()
        for path in (data, *data.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    return manifest


def _target(until: datetime | None, made: datetime, archived: datetime | None) -> str:
    """Where recovery ends. A moment that the archive has not reached is no target: PostgreSQL would refuse to start."""
    if until is None or (until > made and (archived is None or until >= archived - ARCHIVED_SURELY)):
        return ""
    where = (
        "recovery_target = 'immediate'" if until <= made else f"recovery_target_time = '{until.isoformat()}'"
    )
    # A drill looks at that moment, and then goes on.
    return f"{where}\nrecovery_target_action = '{'pause' if until == CUT else 'promote'}'\n"


def go_on(data: Path) -> None:
    """Lets a stopped server that was restored to `CUT` catch up with all that is archived."""
    settings = data / "postgresql.auto.conf"
    lines = settings.read_text().splitlines(keepends=True)
    settings.write_text(
        "".join(line for line in lines if not line.startswith(("recovery_target ", "recovery_target_action")))
    )


def restore(
    folder: Path, key: Path, vault: Vault, state: Path, confirmed_by: list[str], until: datetime | None = None
) -> Path:
    """Puts a backup in the place of what is there, which is kept aside; returns where.

    Two people must have confirmed and the platform must be stopped. Everything is unpacked and found whole before
    anything that is there is touched.
    """
    if len({name.strip() for name in confirmed_by if name.strip()}) < 2:
        raise BackupRefused("RESTORE_NOT_CONFIRMED: two people must confirm")
    with (state / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupRefused("PLATFORM_RUNNING: stop it first") from None
        fresh = Path(tempfile.mkdtemp(prefix="restore", dir=state))
        try:
            unpack(folder, key, vault, fresh, until)
            aside = state / f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S}"
            own = [part for part in OWN if (fresh / "own" / part).exists()]
            # NATS is filled again from the outboxes.
            for part in ("postgres/data", "files", "nats/jetstream", *own):
                if (state / part).exists():
                    (aside / part).parent.mkdir(parents=True, exist_ok=True)
                    (state / part).rename(aside / part)
            for part in ("postgres/data", "files", *(f"own/{part}" for part in own)):
                place = state / part.removeprefix("own/")
                place.parent.mkdir(parents=True, exist_ok=True)
                (fresh / part).rename(place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return aside


async def compare(admin_url: str, manifest: dict[str, Any]) -> list[str]:
    """What differs from the manifest in a server that is restored to `CUT`. Empty where nothing does.

    A table that nobody wrote to while the backup was made has the same rows, to the last letter; of the others none is lost.
    """
    wrong: list[str] = []
    counted, head = await _counted(admin_url)
    for database, tables in manifest["databases"].items():
        for table, known in tables.items():
            rows, digest = counted.get(database, {}).get(table, (-1, ""))
            if rows < known["rows"]:
                wrong.append(f"{database}.{table} has {rows} rows, not {known['rows']}")
            elif known["digest"] and digest != known["digest"]:
                wrong.append(f"{database}.{table} has other rows than when it was saved")
    if head < manifest["auditSeq"]:
        wrong.append(f"the audit ends at {head}, not at {manifest['auditSeq']}")
    return wrong


async def unsound(admin_url: str, databases: list[str]) -> list[str]:
    """What pg_amcheck finds in tables and indexes; where the server lacks it, what reading every page and row finds."""
    admin = await asyncpg.connect(admin_url, database="postgres")
    try:
        thorough = await admin.fetchval("SELECT true FROM pg_available_extensions WHERE name = 'amcheck'")
    finally:
        await admin.close()
    binaries = servers.postgres_binaries()
    if thorough:
        commands = [[binaries / "pg_amcheck", "--all", "--install-missing", "--heapallindexed",
                     "--maintenance-db", f"{admin_url}/postgres"]]  # fmt: skip
    else:
        commands = [
            [binaries / "pg_dump", "--dbname", f"{admin_url}/{name}", "--file", os.devnull]
            for name in databases
        ]
    wrong: list[str] = []
    for command in commands:
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
        if done.returncode:
            wrong.append(f"{command[0].name}: {(done.stdout + done.stderr)[-500:]}")
    return wrong


def archive(vault: Vault, path: Path, name: str) -> None:
    """Encrypts a finished piece of WAL into the archive: what PostgreSQL's `archive_command` calls."""
    vault.wal.mkdir(parents=True, exist_ok=True)
    recipient = age.x25519.Recipient.from_str(vault.recipient)
    draft = vault.wal / f"{name}.draft"
    with path.open("rb") as clear, draft.open("wb") as sealed:
        age.encrypt_io(clear, sealed, [recipient])
        sealed.flush()
        os.fsync(sealed.fileno())
    draft.rename(vault.wal / f"{name}.age")


def fetch(wal: Path, key: Path, name: str, path: Path) -> bool:
    """Gives PostgreSQL a piece of WAL back; False where the archive ends."""
    sealed = wal / f"{name}.age"
    if not sealed.exists():
        return False
    identity = age.x25519.Identity.from_str(key.read_text().strip())
    with sealed.open("rb") as source, path.open("wb") as clear:
        age.decrypt_io(source, clear, [identity])
    return True


async def _traces(admin_url: str) -> dict[str, dict[str, Trace]]:
    """What was done to every table of every database until a few seconds ago."""
    # Where the server notes nothing, or has lost what it noted, nothing is known.
    noting = (
        "SELECT CASE current_setting('track_counts') WHEN 'on' THEN stats_reset ELSE clock_timestamp() END"
    )
    found: dict[str, dict[str, Trace]] = {}
    for database in await _databases(admin_url):
        connection = await asyncpg.connect(admin_url, database=database)
        try:
            since = await connection.fetchval(
                f"{noting} FROM pg_stat_database WHERE datname = current_database()"
            )
            tables = await connection.fetch(
                "SELECT coalesce(pg_partition_root(oid), oid)::regclass::text AS whole,"
                " array_agg(ARRAY[oid::bigint, pg_relation_filenode(oid)::bigint, relnatts] ORDER BY oid) AS ground,"
                " array_agg(ARRAY[pg_stat_get_tuples_inserted(oid), pg_stat_get_tuples_updated(oid)] ORDER BY oid)"
                " AS marks, sum(pg_stat_get_tuples_deleted(oid))::bigint AS deleted"
                " FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace GROUP BY 1"
            )
        finally:
            await connection.close()
        found[database] = {
            row["whole"]: Trace((since, row["ground"]), (row["marks"],), row["deleted"]) for row in tables
        }
    return found


async def _databases(admin_url: str) -> list[str]:
    admin = await asyncpg.connect(admin_url, database="postgres")
    try:
        names = await admin.fetch(
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1"
        )
    finally:
        await admin.close()
    return [name for (name,) in names]


async def _counted(admin_url: str, breath: float = 0) -> tuple[dict[str, dict[str, Content]], int]:
    """What every table of every database holds, each database at one moment, and the end of the audit.

    Where others work meanwhile it takes breath: see `BREATH`.
    """
    counted: dict[str, dict[str, Content]] = {}
    head = 0
    for database in await _databases(admin_url):
        # The same settings on both servers, since they decide how a value is written.
        settings = {"timezone": "UTC", "datestyle": "ISO", "extra_float_digits": "1", "bytea_output": "hex"}
        alone = {"max_parallel_workers_per_gather": "0"}
        connection = await asyncpg.connect(admin_url, database=database, server_settings=settings | alone)
        _behind(connection, admin_url)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                # Partitions count with their table, which has no rows itself.
                tables = await connection.fetch(
                    "SELECT relname, coalesce(pg_partition_root(oid), oid)::regclass::text, pg_relation_size(oid)"
                    " FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"
                )
                found: dict[str, Content] = {}
                for table, whole, size in tables:
                    if whole not in UNCOUNTED:
                        rows, digest = found.get(whole, (0, "0"))
                        more, hashes = await _content(connection, table, size // PAGE, breath)
                        found[whole] = rows + more, str(int(digest) + hashes)
                counted[database] = found
                if "audit_heads" in found:
                    head = int(await connection.fetchval("SELECT coalesce(max(seq), 0) FROM audit_heads"))
        finally:
            await connection.close()
    return counted, head


def _behind(connection: Any, admin_url: str) -> None:
    """Lets a backend of this machine's own server work when nobody else has to."""
    if urlsplit(admin_url).hostname == servers.HOST:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, connection.get_server_pid(), NICE)


async def _content(connection: Any, table: str, pages: int, breath: float) -> tuple[int, int]:
    """How many rows, and the sum of their hashes, in whatever order they lie.

    What is written behind the pages of this moment is not of it either.
    """
    if not breath:
        return await _summed(connection, f'"{table}"')
    rows, hashes = 0, 0
    for page in range(0, pages, PAGES):
        began = time.monotonic()
        piece = f'(SELECT * FROM "{table}" WHERE ctid >= $1 AND ctid < $2)'
        more, digest = await _summed(connection, piece, (page, 0), (page + PAGES, 0))
        rows, hashes = rows + more, hashes + digest
        await asyncio.sleep(breath * (time.monotonic() - began))
    return rows, hashes


async def _summed(connection: Any, rows: str, *limits: tuple[int, int]) -> tuple[int, int]:
    """Hashed by their values, which takes a third of what their text takes; by the text where a kind has no hash."""
    for digest in ("hash_record_extended(one, 0)", "hashtextextended(one::text, 0)"):
        with contextlib.suppress(asyncpg.UndefinedFunctionError):
            async with connection.transaction():
                asked = f"SELECT count(*), coalesce(sum({digest}), 0) FROM {rows} AS one"
                count, hashes = await connection.fetchrow(asked, *limits)
                return int(count), int(hashes)
    raise BackupRefused(f"BACKUP_FAILED: {rows} cannot be counted")


@asynccontextmanager
async def _log_kept(admin_url: str) -> AsyncIterator[None]:
    """Within, the server throws nothing of its log away: a backup ends with all that was written since it began."""
    connection = await asyncpg.connect(
        admin_url, database="postgres", server_settings={"idle_session_timeout": "0"}
    )
    try:
        # It ends with this connection.
        slot = "SELECT pg_create_physical_replication_slot($1, true, true)"
        await connection.execute(slot, f"backup_{os.getpid()}")
        yield
    finally:
        await connection.close()


def _base_backup(admin_url: str, target: Path, recipient: Any) -> None:
    """Streams a base backup, with the WAL that makes it consistent, into an encrypted file."""
    command = [
        servers.postgres_binaries() / "pg_basebackup", "--dbname", f"{admin_url}/postgres", "--pgdata", "-",
        "--format", "tar", "--wal-method", "fetch", "--checkpoint", "fast", "--no-manifest", "--max-rate", RATE,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as source:
        assert source.stdout is not None and source.stderr is not None
        with target.open("wb") as sealed:
            age.encrypt_io(source.stdout, Settling(sealed), [recipient])
            sealed.flush()
            os.fsync(sealed.fileno())
        error = source.stderr.read().decode(errors="replace")
    if source.returncode:
        raise BackupRefused(f"BACKUP_FAILED: {error[-500:]}")


class Settling:
    """A file that is brought to disk while it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._waiting = file, 0

    def write(self, data: bytes) -> int:
        """Writes, and waits for the disk now and then."""
        self._waiting += len(data)
        if self._waiting >= SETTLED:
            self.flush()
            os.fdatasync(self._file.fileno())
            self._waiting = 0
        return self._file.write(data)

    def flush(self) -> None:
        """Gives what is buffered to the system."""
        self._file.flush()


def _keep(files: list[Path], root: Path, target: Path, recipient: Any) -> dict[str, str]:
    """Packs files and returns their hashes by path. Files are only ever added, so none changes meanwhile."""
    listed: dict[str, str] = {}
    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path in sorted(files):
                name = path.relative_to(root).as_posix()
                listed[name] = part_hash(path)
                tar.add(path, arcname=name)
        packed.seek(0)
        with target.open("wb") as sealed:
            age.encrypt_io(packed, sealed, [recipient])
    return listed


def _open_tar(sealed: Path, identity: Any, target: Path) -> None:
    with tempfile.TemporaryFile(dir=target.parent) as clear:
        try:
            with sealed.open("rb") as source:
                age.decrypt_io(source, clear, [identity])
            clear.seek(0)
            with tarfile.open(fileobj=clear) as tar:
                if any(Path(name).is_absolute() or ".." in Path(name).parts for name in tar.getnames()):
                    raise BackupRefused(f"BACKUP_CORRUPT: {sealed.name} leads out of its folder")
                tar.extractall(target)
        except (age.DecryptError, OSError, tarfile.TarError) as error:
            raise BackupRefused(f"BACKUP_CORRUPT: {sealed.name}: {error}") from None


def _next_folder(folder: Path, now: datetime) -> Path:
    day = f"BK{now:%Y%m%d}"
    taken = [int(path.name[len(day) : len(day) + 3]) for path in folder.glob(f"{day}*")]
    return folder / f"{day}{max(taken, default=0) + 1:03}"


def part_hash(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["wal"]:
        return archive(Vault(Path(sys.argv[2])), Path(sys.argv[3]), sys.argv[4])
    if sys.argv[1:2] == ["fetch"]:
        return sys.exit(
            0 if fetch(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], Path(sys.argv[5])) else 1
        )
    parser = argparse.ArgumentParser(prog="python -m local_platform.backup")
    parser.add_argument("command", choices=["key", "create", "verify", "restore", "drill"])
    parser.add_argument(
        "backup", nargs="?", help="number of a backup; the newest, or the next, where none is given"
    )
    parser.add_argument("--key", type=Path, default=Path("backup.key"), help="file of the private key")
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument(
        "--until", type=datetime.fromisoformat, help="restore to this moment, not to the last archived minute"
    )
    parser.add_argument("--asked", default="", help="the asking that wants it")
    parser.add_argument("--confirmed-by", nargs="*", default=[], help="who wants the restore: two people")
    given = parser.parse_args()
    try:
        _run(given, Vault(given.state / "backups"))
    except BackupRefused as refused:
        sys.exit(str(refused))


def _run(given: argparse.Namespace, vault: Vault) -> None:
    began = time.monotonic()
    if given.command in ("create", "drill"):
        os.nice(NICE)
    match given.command:
        case "key":
            vault.make_key(given.key)
            print(
                f"{given.key} opens the backups: keep it elsewhere. WAL is archived from the next start on."
            )
            return
        case "create":
            url = os.environ.get("DATABASE_URL") or local_server(given.state)
            folder = asyncio.run(create(url, given.state, vault, given.asked, given.backup or ""))
            vault.purge(datetime.now(UTC))
            size = json.loads((folder / "manifest.json").read_text())["size"]
            print(f"{folder.name}: {size / 2**20:.1f} MiB in {time.monotonic() - began:.1f} s")
            return
    folder = vault.folder / given.backup if given.backup else vault.latest()
    match given.command:
        case "verify":
            print(f"{verify(folder)['number']} is what it was")
        case "restore":
            aside = restore(folder, given.key, vault, given.state, given.confirmed_by, given.until)
            print(
                f"{folder.name} is in place after {time.monotonic() - began:.1f} s; what was there is in {aside}"
            )
        case _:
            from local_platform import drill

            with contextlib.suppress(KeyboardInterrupt):
                sys.exit(asyncio.run(drill.drill(folder, given.key, vault)))


def local_server(state: Path) -> str:
    """The administrator's URL of the server that `make run` keeps."""
    lines = (state / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
    password = (state / "postgres" / "password").read_text()
    return f"postgresql://postgres:{password}@{servers.HOST}:{lines[3]}"


if __name__ == "__main__":
    # By its own name: what a drill refuses is refused by the module of that name, not by this one.
    from local_platform import backup

    backup.main()
