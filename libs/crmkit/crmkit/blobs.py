"""Where the bytes of files lie in the store at `FILES_URL`, and how services read and write them."""

import hashlib
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import BinaryIO

import obstore
import obstore.store
from obstore.exceptions import AlreadyExistsError

CHUNK = 1 << 20
IN_MEMORY = 8 << 20
# Where bytes lie that nobody gets.
QUARANTINE = "quarantine"


class Changed(Exception):
    """The bytes are not those of the hash."""


def storage_key(sha256: str) -> str:
    """The key of a content, by its hash in hex: the gateway writes there, services read there."""
    return f"sha256/{sha256[:2]}/{sha256}"


def open_store(url: str) -> obstore.store.ObjectStore:
    """The store at a URL; a local folder is made where it is missing."""
    if url.startswith("file://"):
        return obstore.store.LocalStore.from_url(url, mkdir=True)
    return obstore.store.from_url(url)


@asynccontextmanager
async def fetched(store: obstore.store.ObjectStore, sha256: str) -> AsyncGenerator[BinaryIO]:
    """A content as a local file at its beginning; FileNotFoundError where it is absent, Changed where it is another."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        hashed = hashlib.sha256()
        found = await obstore.get_async(store, storage_key(sha256))
        async for chunk in found.stream(min_chunk_size=CHUNK):
            hashed.update(chunk)
            file.write(chunk)
        if hashed.hexdigest() != sha256:
            raise Changed(sha256)
        file.seek(0)
        yield file  # type: ignore[misc]


async def quarantine(store: obstore.store.ObjectStore, content: bytes) -> str:
    """Puts infected bytes where nobody gets them, under their hash; the hash."""
    sha256 = hashlib.sha256(content).hexdigest()
    await obstore.put_async(store, f"{QUARANTINE}/{sha256}", content)
    return sha256


async def keep(store: obstore.store.ObjectStore, file: BinaryIO) -> tuple[str, int]:
    """Stores the file's content from its beginning; its hash and size."""
    hashed, size = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK):
        hashed.update(chunk)
        size += len(chunk)
    file.seek(0)
    with suppress(AlreadyExistsError):
        await obstore.put_async(store, storage_key(hashed.hexdigest()), file, mode="create")
    return hashed.hexdigest(), size
