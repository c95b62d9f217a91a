"""A child process with a log file, a pid file and a graceful end."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Protocol

import psutil

RESTART_AFTER = (0.5, 1.0, 2.0, 5.0, 10.0)


class StartFailed(Exception):
    """A server did not become ready; the text ends with the last lines of its log."""


class Process(Protocol):
    """What is asked of a process, however it was started."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int: ...
    def send_signal(self, signal: int, /) -> None: ...


class Child:
    """One process in a session of its own, so that a Ctrl-C on the terminal reaches only the launcher."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        pid_file: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name, self.log, self.pid_file = name, log, pid_file
        self._command, self._env, self._cwd, self._stop_signal = command, env, cwd, stop_signal
        self._process: Process | None = None

    async def start(self) -> None:
        """Start the process after ending what a killed launcher left of it."""
        await asyncio.to_thread(end_leftover, self.pid_file, self._stop_signal)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await self._launch(log)
        # A pid alone is not enough to know a process again: pids are reused.
        with contextlib.suppress(psutil.NoSuchProcess):
            self.pid_file.write_text(f"{self.pid} {psutil.Process(self.pid).create_time()}")

    async def _launch(self, log: IO[bytes]) -> Process:
        return await asyncio.create_subprocess_exec(
            *map(str, self._command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(self._env) if self._env is not None else None,
            cwd=self._cwd,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def wait(self) -> int:
        """Wait until the process has ended and return its code."""
        assert self._process is not None
        return await self._process.wait()

    async def ready(self, check: Callable[[], bool], within: float) -> None:
        """Wait until `check` holds; `StartFailed` if the process ends before or takes longer."""
        deadline = asyncio.get_running_loop().time() + within
        while not await asyncio.to_thread(check):
            if not self.running:
                raise StartFailed(f"{self.name} ended while starting.\n{self.tail()}")
            if asyncio.get_running_loop().time() > deadline:
                raise StartFailed(f"{self.name} was not ready after {within:.0f} s.\n{self.tail()}")
            await asyncio.sleep(0.05)

    async def stop(self, grace: float = 20) -> None:
        """Ask the process to end, and kill its whole session when it has not after `grace` seconds."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self._stop_signal)
            try:
                await asyncio.wait_for(self._process.wait(), grace)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()
        self.pid_file.unlink(missing_ok=True)

    @asynccontextmanager
    async def kept(self, clear: Callable[[], None] | None = None) -> AsyncIterator[None]:
        """Start the running process again whenever it ends, after `clear`; stop it on the way out."""
        keeper = asyncio.create_task(self._keep(clear))
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self.stop()

    async def _keep(self, clear: Callable[[], None] | None) -> None:
        crashes = 0
        while True:
            started = time.monotonic()
            why = f"ended with code {await self.wait()}"
            while True:
                crashes = 0 if time.monotonic() - started > 60 else crashes + 1
                pause = RESTART_AFTER[min(crashes, len(RESTART_AFTER) - 1)]
                stamp = time.strftime("%H:%M:%S")
                print(f"{stamp}  {self.name} {why}, starts again in {pause} s", flush=True)
                await asyncio.sleep(pause)
                try:
                    if clear:
                        await asyncio.to_thread(clear)
                    await self.start()
                    break
                except (OSError, StartFailed) as error:
                    # Such as a disk that is away: it may come back.
                    why = f"cannot start ({error})"

    def tail(self, lines: int = 15) -> str:
        """Return the end of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def end_leftover(pid_file: Path, stop_signal: signal.Signals = signal.SIGTERM, grace: float = 20) -> None:
    """End the process that the pid file names, if it still runs and is the same one."""
    with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        pid, created = pid_file.read_text().split()
        process = psutil.Process(int(pid))
        if abs(process.create_time() - float(created)) < 0.1:
            process.send_signal(stop_signal)
            try:
                process.wait(grace)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(grace)
    pid_file.unlink(missing_ok=True)
