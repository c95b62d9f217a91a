"""A TCP proxy that is told to do harm: what lies between two parts of the platform."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Sequence

RESET = struct.pack("ii", 1, 0)
CHUNK = 65536


class Link:
    """One way between two parts. `harm` is '' or how it is broken now:

    refuse (nobody listens), silence (nothing gets through), stalls (a fifth waits 0.4 s, as lost packets do),
    latency (0.25 s each way), narrow (64 kbit/s each way).
    """

    def __init__(self, name: str, targets: Sequence[tuple[str, int]]) -> None:
        self.name, self.targets = name, list(targets)
        self.port = 0
        self.harm = ""
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()

    async def open(self) -> None:
        """Listens on a port of its own."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Resets every connection there is."""
        for pair in list(self._pairs):
            for writer in pair:
                _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.harm == "refuse":
            _reset(writer)
            return
        await self._heard()
        for host, port in self.targets:
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection(host, port)
                break
        else:
            _reset(writer)
            return
        pair = (writer, back)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except (OSError, asyncio.IncompleteReadError):
            self.cut_one(pair)
        finally:
            self._pairs.discard(pair)
            for end in pair:
                end.close()

    async def _heard(self) -> None:
        while self.harm == "silence":  # noqa: ASYNC110 (another thread says when it is over)
            await asyncio.sleep(0.1)

    def cut_one(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        """One end has gone badly: the other hears of it."""
        for writer in pair:
            _reset(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self.harm == "latency":
                await asyncio.sleep(0.25)
            elif self.harm == "stalls" and random.random() < 0.2:
                await asyncio.sleep(0.4)
            elif self.harm == "narrow":
                await asyncio.sleep(len(data) / 8000)
            await self._heard()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    link = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


class Links:
    """All links, on a loop of their own so that nothing else slows them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.known: dict[str, Link] = {}

    def open(self, name: str, host: str, port: int) -> int:
        """A link to that place; returns the port on which it listens."""
        link = self.known[name] = Link(name, [(host, port)])
        asyncio.run_coroutine_threadsafe(link.open(), self._loop).result(10)
        return link.port

    def cut(self, name: str) -> None:
        """Resets the connections of a link."""
        self._loop.call_soon_threadsafe(self.known[name].cut)

    def named(self, end: str) -> list[Link]:
        """The links whose name ends so."""
        return [link for name, link in self.known.items() if name.endswith(end)]
