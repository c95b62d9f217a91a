"""Processes beside a service's own, for work that only reckons: the service's process is one core, whatever it reckons.

    Crew().start()                    at the start: forks the one that forks, while the process has one thread
    async with crew.worker(function)  forks a worker, which ends with the context
    await worker(argument)            function(argument), there

gRPC, event loops and connections do not survive a fork, so the one that forks is set aside before anything is opened.
Function, arguments and results go as pickles. Where no crew was started (tests, commands), a thread does the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import pickle
import signal
import socket
import struct
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

A = TypeVar("A")
R = TypeVar("R")

# A worker ends itself where one piece of work takes longer; who waits for it gives up a little later.
LONGEST_SECONDS = 60
_LENGTH = struct.Struct(">Q")

log = logging.getLogger(__name__)


class Crew:
    """Forks workers on demand."""

    def __init__(self) -> None:
        self._foreman: socket.socket | None = None

    def start(self) -> None:
        """Sets the process aside that forks; called while this one has one thread and nothing open."""
        ours, its = socket.socketpair()
        gc.collect()
        # Collections do not write to what both have.
        gc.freeze()
        if os.fork() == 0:
            ours.close()
            _lead(its)
        its.close()
        self._foreman = ours

    @asynccontextmanager
    async def worker(self, function: Callable[[A], R]) -> AsyncGenerator[Callable[[A], Awaitable[R]]]:
        """Gives what does a piece of work: one at a time, in the order of the calls."""
        ours = self._forked()
        if ours is None:
            yield lambda argument: asyncio.to_thread(function, argument)
            return
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        turn = asyncio.Lock()

        async def work(argument: A) -> R:
            async with turn, asyncio.timeout(LONGEST_SECONDS + 5):
                try:
                    _write(writer, argument)
                    await writer.drain()
                    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                    done, answer = pickle.loads(await reader.readexactly(length))
                except (EOFError, ConnectionError):
                    raise RuntimeError("a worker has ended") from None
            if not done:
                raise RuntimeError(f"a worker could not go on:\n{answer}")
            return answer

        try:
            _write(writer, function)
            yield work
        finally:
            writer.close()

    def _forked(self) -> socket.socket | None:
        """The socket of a new worker."""
        if self._foreman is None:
            return None
        ours, its = socket.socketpair()
        with its:
            try:
                socket.send_fds(self._foreman, [b"w"], [its.fileno()])
            except OSError as error:
                log.error("no workers until the next start, threads do their work: %r", error)
                self._foreman = None
                return None
        return ours


def _write(stream: Any, value: Any) -> None:
    said = pickle.dumps(value)
    stream.write(_LENGTH.pack(len(said)))
    stream.write(said)


def _lead(requests: socket.socket) -> None:
    """Forks a worker for each socket that comes, until the service's process has ended."""
    try:
        # Whoever stops the service does not have to know of this process.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, _reap)
        while True:
            _, sockets, _, _ = socket.recv_fds(requests, 1, 1)
            if not sockets:
                return
            if os.fork() == 0:
                requests.close()
                _work(socket.socket(fileno=sockets[0]))
                return
            os.close(sockets[0])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _reap(*_: object) -> None:
    """Lets ended workers go; what they have spent counts as spent by the children of this process."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _work(asked: socket.socket) -> None:
    """Does what comes until nobody asks any more."""
    for number in (signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    # What it makes is thrown away piece by piece, and has no cycles worth a look at everything.
    gc.disable()
    with asked.makefile("rwb") as stream:
        function = _read(stream)
        while True:
            argument = _read(stream)
            signal.alarm(LONGEST_SECONDS)
            try:
                answer = True, function(argument)
            except Exception:
                answer = False, traceback.format_exc()
            signal.alarm(0)
            _write(stream, answer)
            stream.flush()
            gc.collect()


def _read(stream: Any) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        # Nobody asks any more.
        os._exit(0)
    return pickle.loads(stream.read(_LENGTH.unpack(head)[0]))
