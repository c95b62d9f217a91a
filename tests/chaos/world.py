"""The platform that suffers: links that can be broken, disks that can be filled or lost, clocks that can be moved."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import psutil
from crmkit.map import APPS, moved
from local_platform.app import healthy
from local_platform.child import Child
from local_platform.launcher import Platform, Running
from local_platform.layout import ROOT
from local_platform.secret import Secrets
from local_platform.signin import sign_in

from tests.chaos.proxy import Links

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
# The app whose clock can be moved; the load writes elsewhere.
SHIFTED = "sales"
# JetStream sets room for every stream aside; the image has holes until it is written to.
DISK_MEGABYTES = 12_000
EXT4_IOC_SHUTDOWN, WITHOUT_LOG_FLUSH = 0x8004587D, 2


class Skip(Exception):
    """This machine cannot make the fault; the text says why."""


class Disk:
    """A file system of its own for the servers' data; absent where this machine mounts none."""

    def __init__(self, image: Path, folder: Path) -> None:
        self._image, self.folder = image, folder
        self.why = "the data do not lie on a disk of their own: that takes root and loop devices"
        self.there = False

    def mount(self) -> None:
        """Makes and mounts it, where that is allowed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
            return
        with self._image.open("wb") as image:
            image.truncate(DISK_MEGABYTES * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self._image], check=True)
        found = subprocess.run(["mount", "-o", "loop", self._image, self.folder], capture_output=True)
        self.there = found.returncode == 0
        if self.there:
            self.folder.chmod(0o755)

    def unmount(self) -> None:
        """Takes it away, whoever still looks."""
        if self.there:
            subprocess.run(["umount", "-l", self.folder], check=False)

    def remount(self, clear: Callable[[], None]) -> None:
        """As after a power cut: what had not reached the disk is gone. `clear` ends who still uses it."""
        for _ in range(50):
            clear()
            if subprocess.run(["umount", self.folder], capture_output=True).returncode == 0:
                break
            time.sleep(0.2)
        else:
            raise RuntimeError("the disk stays in use")
        subprocess.run(["mount", "-o", "loop", self._image, self.folder], check=True)

    def shut_down(self) -> None:
        """Cuts the power: from now on nothing is written, not even the journal."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, WITHOUT_LOG_FLUSH.to_bytes(4, sys.byteorder))
        finally:
            os.close(handle)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a block is left, until the context ends."""
        if not self.there:
            raise Skip(self.why)
        ballast = self.folder / "ballast"
        with ballast.open("wb") as file:
            taken, size = 0, 1024 * 2**20
            while size >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), taken, size)
                    taken += size
                except OSError:
                    size //= 2
        try:
            yield
        finally:
            ballast.unlink()


class World(Platform):
    """A platform whose parts reach each other over links."""

    def __init__(self, state: Path) -> None:
        # PostgreSQL walks down to its data as nobody.
        state.chmod(0o755)
        self.links = Links()
        self.disk = Disk(state / "disk.img", state / "disk")
        self.disk.mount()
        super().__init__(state=state)
        for name in ("postgres", "nats"):
            (self.disk.folder / name).mkdir(exist_ok=True)
            (state / name).symlink_to(self.disk.folder / name)
        self.clock = state / "clock"
        self.clock.write_text("+0\n")
        self.environments: dict[str, dict[str, str]] = {}
        self.admin = ""
        self.at = Running("", "")

    async def _environments(
        self, admin_url: str, nats_url: str, issuer_url: str
    ) -> dict[str, dict[str, str]]:
        found = await super()._environments(admin_url, nats_url, issuer_url)
        self.admin = admin_url
        for app, environment in found.items():
            for variable, part in (("DATABASE_URL", "postgres"), ("NATS_URL", "nats")):
                if place := environment.get(variable):
                    environment[variable] = self._over(f"{app}-{part}", place)
            if app == SHIFTED and FAKETIME:
                environment |= {
                    "LD_PRELOAD": str(FAKETIME),
                    "FAKETIME_TIMESTAMP_FILE": str(self.clock),
                    "FAKETIME_CACHE_DURATION": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                }
        pairs = (pair.partition("=") for pair in found["gateway"]["SERVICES"].split(","))
        found["gateway"]["SERVICES"] = ",".join(
            f"{app}=127.0.0.1:{self.links.open(f'gateway-{app}', *_place(f'tcp://{target}'))}"
            for app, _, target in pairs
        )
        self.environments = found
        return found

    def _python(self, module: str, command: str | None, environment: dict[str, str]) -> Child:
        child = super()._python(module, command, environment)
        if "LD_PRELOAD" not in environment:
            return child
        # What is loaded before a program is loaded when it is started, and a fork is not.
        started = [sys.executable, "-m", module, *([command] if command else [])]
        return Child(child.name, started, log=child.log, pid_file=child.pid_file, env=environment, cwd=ROOT)

    def _over(self, name: str, url: str) -> str:
        host, port = _place(url)
        return url.replace(f"{host}:{port}", f"{host}:{self.links.open(name, host, port)}")

    def token(self, who: str = "sales1") -> str:
        """A fresh token, in case the last one has grown old."""
        callback = f"{self.at.url}/session/callback"
        keys = Secrets(self.state / "secrets.json")
        return asyncio.run(sign_in(self.at.issuer, who, callback, keys)).access_token

    def process(self, app: str) -> psutil.Process:
        """The process of an app."""
        return psutil.Process(int((self.state / "run" / f"{app}.pid").read_text().split()[0]))

    def server(self, name: str) -> psutil.Process:
        """The process of PostgreSQL or NATS."""
        return psutil.Process(int((self.state / name / f"{name}.pid").read_text().split()[0]))

    def query(self, database: str, statement: str, *values: Any) -> list[Any]:
        """Asks PostgreSQL itself, as its administrator and past the links."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self.admin, database=database, timeout=10)
            try:
                return await connection.fetch(statement, *values)
            finally:
                await connection.close()

        return asyncio.run(ask())

    def command(self, app: str, *arguments: str) -> str:
        """Runs `python -m <app> …` as an operator would; its output."""
        done = subprocess.run(
            [sys.executable, "-m", app, *arguments],
            env=self.environments[app] | {"METRICS_PORT": "0"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(f"{app} {arguments}: {done.stderr[-2000:]}")
        return done.stdout

    def healthy(self, app: str) -> bool:
        """What the app's own health says."""
        return asyncio.run(healthy(next(entry for entry in APPS if entry.name == app)))

    def metric(self, app: str, name: str) -> float:
        """The sum of a metric of an app over its labels."""
        port = moved(next(entry for entry in APPS if entry.name == app).metrics_port)
        with suppress(httpx.HTTPError):
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
            lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith(name))
            return sum(float(value) for key, _, value in lines if key.partition("{")[0] == name)
        return 0.0

    def wait(self, what: str, done: Any, seconds: float) -> float:
        """Waits until it is so; how long that took."""
        began = time.monotonic()
        while True:
            with suppress(OSError, httpx.HTTPError, asyncpg.PostgresError, psutil.Error, TimeoutError):
                if done():
                    return time.monotonic() - began
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"{what}: not within {seconds:.0f} s")
            time.sleep(0.1)

    def second(self, app: str, port: int) -> subprocess.Popen[bytes]:
        """Another replica of an app."""
        environment = self.environments[app] | {"GRPC_PORT": str(port), "METRICS_PORT": "0"}
        log = (self.state / "logs" / f"{app}-second.log").open("ab")
        return subprocess.Popen(
            [sys.executable, "-m", app, "serve"], env=environment, cwd=ROOT, stdout=log, stderr=log
        )


def stop_all(process: psutil.Process, number: signal.Signals) -> None:
    """Sends a signal to a process and all of its children."""
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            one.send_signal(number)


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


__all__ = ["FAKETIME", "SHIFTED", "Disk", "Skip", "World", "stop_all"]
