"""`python -m local_platform.forks <app>…`: imports once what the apps have in common, and forks each app from there.

Nine processes that import the same have 60 MB of the same, and take 40 s of CPU to come by it. A fork shares those
pages for as long as nobody writes to them. In every other way an app is a process like any: pid, session, environment,
log, exit code, killed and started again by itself. Kubernetes and compose start `python -m <app>`.

The server opens nothing and has one thread, which it checks before each fork: gRPC, event loops and connections do not
survive one. It reads requests from its standard input, a socket, and tells there what has become of each process.
`multiprocessing`'s forkserver is one for the whole launcher, whose main module it would import into every app (pytest,
or the bench), goes on where what it should import is broken, and is waited for at exit by whoever has started it.
"""

import asyncio
import contextlib
import gc
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import psutil
from setproctitle import setproctitle

from local_platform.child import Child, StartFailed

# What most apps import only when they come to need it, and what the gateway's main module imports beside its app: a
# main module itself is run, not imported.
_LATER = (
    "anyio._backends._asyncio",
    "crmkit.phrases",
    "crmkit.telemetry",
    "httpcore",
    "phonenumbers.data.region_CN",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)


# What a bytes object has beside its bytes.
_BYTES = sys.getsizeof(b"")


@dataclass
class Forked:
    """A process that the server has forked; to the launcher what `asyncio.subprocess.Process` is."""

    pid: int
    returncode: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> int:
        """Waits until the process has ended and returns its code."""
        await self.ended.wait()
        return self.returncode or 0

    def send_signal(self, number: int) -> None:
        """As of `os.kill`; nothing where it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def end(self, code: int) -> None:
        self.returncode = code
        self.ended.set()


class Forks:
    """The launcher's side. `async with forks.running()`; then `fork`."""

    def __init__(self, apps: Sequence[str], log: Path, pid_file: Path, cwd: Path) -> None:
        command = [sys.executable, "-m", "local_platform.forks", *apps]
        self._server = _Server("forks", command, log=log, pid_file=pid_file, cwd=cwd)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps the server running inside the context."""
        await self._server.start()
        async with self._server.kept():
            yield

    async def fork(
        self, module: str, arguments: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path
    ) -> Forked:
        """`python -m <module> <arguments>`, forked; `StartFailed` where the server does not come up."""
        request = {
            "module": module, "arguments": list(arguments), "env": dict(env), "log": str(log), "cwd": str(cwd),
        }  # fmt: skip
        async with self._turn:
            return await self._server.ask(json.dumps(request).encode() + b"\n")


class _Server(Child):
    """The server as a child of the launcher: a new one has a new socket."""

    async def _launch(self, log: IO[bytes]) -> Any:
        ours, its = socket.socketpair()
        with its:
            process = await asyncio.create_subprocess_exec(
                *map(str, self._command),
                stdin=its.fileno(),
                stdout=log,
                stderr=log,
                # Each thread would fill an arena of its own, and the apps have more threads than cores.
                env={**os.environ, "MALLOC_ARENA_MAX": "1"},
                cwd=self._cwd,
                start_new_session=True,
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._answers: asyncio.Queue[Forked | None] = asyncio.Queue()
        self._listening = asyncio.create_task(self._listen(reader, self._answers))
        return process

    async def ask(self, request: bytes) -> Forked:
        answers = self._answers
        with contextlib.suppress(ConnectionError):
            self._writer.write(request)
            await self._writer.drain()
        if (forked := await answers.get()) is None:
            # So it is for whoever asks next, until there is another server.
            answers.put_nowait(None)
            raise StartFailed(f"The process that forks the apps has ended.\n{self.tail()}")
        return forked

    async def _listen(self, reader: asyncio.StreamReader, answers: asyncio.Queue[Forked | None]) -> None:
        living: dict[int, Forked] = {}
        with contextlib.suppress(ConnectionError):
            async for line in reader:
                told = json.loads(line)
                if "code" in told:
                    living.pop(told["pid"]).end(told["code"])
                else:
                    living[told["pid"]] = Forked(told["pid"])
                    answers.put_nowait(living[told["pid"]])
        answers.put_nowait(None)
        self._writer.close()
        # The server has gone, its processes have not: from now on they are watched from here.
        await asyncio.gather(*(_watched(forked) for forked in living.values()))

    async def stop(self, grace: float = 20) -> None:
        await super().stop(grace)
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)


class ForkedChild(Child):
    """A child that is forked instead of started; everything else is the same."""

    def __init__(self, forks: Forks, name: str, module: str, arguments: Sequence[str], **other: Any) -> None:
        super().__init__(name, [module, *arguments], **other)
        self._forks, self._module, self._arguments = forks, module, arguments

    async def _launch(self, log: IO[bytes]) -> Any:
        assert self._env is not None and self._cwd is not None
        return await self._forks.fork(self._module, self._arguments, self._env, self.log, self._cwd)


async def _watched(forked: Forked) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(forked.pid)
        # Whom somebody else has started can only be looked at.
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    # Nobody else can tell how it ended.
    forked.end(-signal.SIGKILL)


def main() -> None:
    """Serves until the launcher closes the socket; in a fork, is the app."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setproctitle("guanxi forks")
    prepare(sys.argv[1:])
    request = serve()
    if request is not None:
        sys.argv = [request["module"], *request["arguments"]]
        setproctitle(" ".join(sys.argv))
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def prepare(apps: Sequence[str]) -> None:
    """Imports the apps and whatever they reckon once from their own description, and sets it aside."""
    gc.disable()
    for app in apps:
        if importlib.util.find_spec(app) and importlib.util.find_spec(f"{app}.app"):
            module = importlib.import_module(f"{app}.app")
            if hasattr(module, "app"):
                _rehearse(module.app())
    for name in _LATER:
        importlib.import_module(name)
    _spell()
    # What OpenSSL sets up with its first use is 5 MB.
    ssl.create_default_context()
    gc.collect()
    # Collections of the forks do not write to what they share.
    gc.freeze()
    _fill()


# What stands in the gaps between what is shared, so that no fork writes its own into those pages.
_FILLED: list[object] = []


def _fill() -> None:
    """Takes every block that is free in Python's pools, for ever: 10 MB less of each fork are its own."""
    for size, free in _free_blocks():
        make = {16: object, 32: partial(float, "1.5")}.get(size) or partial(bytes, size - _BYTES)
        _FILLED.extend(make() for _ in range(free))


def _free_blocks() -> Iterator[tuple[int, int]]:
    """Size and number of the blocks that are free, as the allocator tells on the standard error."""
    with tempfile.TemporaryFile("w+") as told:
        kept = os.dup(2)
        os.dup2(told.fileno(), 2)
        sys._debugmallocstats()
        os.dup2(kept, 2)
        os.close(kept)
        told.seek(0)
        pools = [line.split() for line in told]
    for line in pools:
        if len(line) == 5 and all(word.isdigit() for word in line):
            yield int(line[1]), int(line[4])


def _rehearse(app: Any) -> None:
    from crmkit.app import Running
    from crmkit.catalog import permissions
    from crmkit.settings import Settings
    from sqlalchemy import select
    from sqlalchemy.dialects.postgresql.asyncpg import dialect

    permissions()
    Running(app, Settings())
    for model in app.models:
        select(model).where(model.id == model.id).compile(dialect=dialect())


def _spell() -> None:
    """Reads the dictionaries of spelling, 15 MB, which are read with the first name."""
    from crmkit.text import pinyin_keys

    pinyin_keys("关系")


def serve() -> dict[str, Any] | None:
    """Forks what is asked for. In the fork it returns the request; in the server nothing, at the end."""
    waking, woken = socket.socketpair()
    for end in (waking, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    launcher = socket.socket(fileno=os.dup(0))
    requests = launcher.makefile("rb")
    while True:
        ready, _, _ = select.select([launcher, waking], [], [])
        if waking in ready:
            waking.recv(4096)
            for pid, code in _ended():
                launcher.sendall(json.dumps({"pid": pid, "code": code}).encode() + b"\n")
        if launcher not in ready:
            continue
        line = requests.readline()
        if not line:
            return None
        if (threads := _threads()) != 1:
            sys.exit(
                f"{threads} threads: something that was imported has started them, so forking is not safe"
            )
        if pid := os.fork():
            launcher.sendall(json.dumps({"pid": pid}).encode() + b"\n")
            continue
        signal.set_wakeup_fd(-1)
        for end in (requests, launcher, waking, woken):
            end.close()
        request = json.loads(line)
        _become(request)
        return request


def _become(request: dict[str, Any]) -> None:
    """Takes on what a process gets from whoever starts it."""
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    with Path(os.devnull).open("rb") as nothing, Path(request["log"]).open("ab") as log:
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source.fileno(), target)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.enable()


def _ended() -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    with contextlib.suppress(ChildProcessError):
        while (one := os.waitpid(-1, os.WNOHANG))[0]:
            found.append((one[0], os.waitstatus_to_exitcode(one[1])))
    return found


def _threads() -> int:
    tasks = Path("/proc/self/task")
    # Elsewhere only those of Python are seen.
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()


if __name__ == "__main__":
    main()
