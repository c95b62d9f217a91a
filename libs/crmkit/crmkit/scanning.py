"""Files looked through for what does harm, while they come in: `async with scanner.scan() as scan`.

    incoming bytes → scan.feed(chunk) … → scan.verdict() → name of what was found, "" for nothing

A built-in signature, the EICAR test file, is found everywhere, so that the way of an infected file can be tried. What
else there is finds ClamAV, where `CLAMAV_URL` names its daemon (tcp://host:3310 or unix:///path); it is asked by
INSTREAM. A daemon that does not answer is an error and never a clean file.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

# In two halves, so that no scanner takes this module for the file.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + rb"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
EICAR_NAME = "Eicar-Test-Signature"
# How long the daemon may take for a step, and for its answer.
STEP_SECONDS = 30.0
_LONGEST_ANSWER = 4096
_CHUNK = 1 << 18


class ScannerAway(Exception):
    """The daemon does not answer, or does not say whether the file is clean."""


class ScanTooLarge(Exception):
    """The file is larger than the daemon looks through."""


class Scan:
    """One file on its way in."""

    def __init__(self, writer: asyncio.StreamWriter | None, answer: asyncio.Task[bytes] | None) -> None:
        self._writer, self._answer = writer, answer
        self._tail = b""
        self._found = ""
        self._cut = False

    async def feed(self, chunk: bytes) -> None:
        """Takes the next bytes; a signature may lie across two chunks."""
        seen = self._tail + chunk
        if EICAR in seen:
            self._found = EICAR_NAME
        self._tail = seen[-(len(EICAR) - 1) :]
        if self._writer is not None and chunk and not self._cut:
            try:
                async with asyncio.timeout(STEP_SECONDS):
                    self._writer.write(struct.pack(">I", len(chunk)) + chunk)
                    await self._writer.drain()
            except (OSError, TimeoutError):
                # It has closed its ear; what it says of that comes as its answer.
                self._cut = True

    async def verdict(self) -> str:
        """What was found; empty for a clean file. ScannerAway and ScanTooLarge where nobody can tell."""
        if self._found or self._writer is None or self._answer is None:
            return self._found
        try:
            async with asyncio.timeout(STEP_SECONDS):
                with suppress(OSError):
                    self._writer.write(struct.pack(">I", 0))
                    await self._writer.drain()
                answer = (await self._answer).strip(b"\0\n ").decode(errors="replace")
        except (OSError, TimeoutError) as error:
            raise ScannerAway from error
        said = answer.removeprefix("stream: ")
        if said == "OK":
            return ""
        if said.endswith(" FOUND"):
            return said.removesuffix(" FOUND")[:200]
        if "size limit exceeded" in said:
            raise ScanTooLarge
        raise ScannerAway(said[:200])


class Scanner:
    """Opens scans; with a daemon where its address is set."""

    def __init__(self, url: str = "") -> None:
        self._url = urlsplit(url)

    async def look(self, content: bytes) -> str:
        """What is found in bytes that are here already; empty for clean ones. ScannerAway and ScanTooLarge."""
        async with self.scan() as scan:
            for start in range(0, len(content), _CHUNK):
                await scan.feed(content[start : start + _CHUNK])
            return await scan.verdict()

    @asynccontextmanager
    async def scan(self) -> AsyncGenerator[Scan]:
        """A scan of one file. ScannerAway where the daemon cannot be reached."""
        if not self._url.scheme:
            yield Scan(None, None)
            return
        try:
            async with asyncio.timeout(STEP_SECONDS):
                if self._url.scheme == "unix":
                    reader, writer = await asyncio.open_unix_connection(self._url.path)
                else:
                    reader, writer = await asyncio.open_connection(
                        self._url.hostname or "", self._url.port or 3310
                    )
                writer.write(b"zINSTREAM\0")
                await writer.drain()
        except (OSError, TimeoutError) as error:
            raise ScannerAway from error
        # Read at once: a daemon that has heard enough says so and hangs up in the middle of the file.
        answer = asyncio.create_task(reader.read(_LONGEST_ANSWER))
        try:
            yield Scan(writer, answer)
        finally:
            answer.cancel()
            with suppress(OSError, asyncio.CancelledError):
                await answer
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
