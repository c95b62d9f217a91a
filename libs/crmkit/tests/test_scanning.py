"""The scanner of files: a signature of its own, and ClamAV where it is installed."""

import asyncio
import getpass
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from crmkit.scanning import EICAR, EICAR_NAME, Scanner, ScannerAway, ScanTooLarge

MARK = b"guanxi-signature-of-this-test"


async def verdict(scanner: Scanner, *chunks: bytes) -> str:
    async with scanner.scan() as scan:
        for chunk in chunks:
            await scan.feed(chunk)
        return await scan.verdict()


async def test_the_test_file_is_found_wherever_it_is_cut() -> None:
    scanner = Scanner()
    assert await verdict(scanner, b"clean", b"", b"file") == ""
    assert await verdict(scanner) == ""
    for cut in (1, 30, len(EICAR) - 1):
        assert await verdict(scanner, b"before" + EICAR[:cut], EICAR[cut:] + b"behind") == EICAR_NAME
    assert await verdict(scanner, *(EICAR[n : n + 1] for n in range(len(EICAR)))) == EICAR_NAME


@pytest.fixture
async def clamd(tmp_path: Path) -> AsyncIterator[str]:
    """ClamAV's daemon with a single signature; its address."""
    if shutil.which("clamd") is None:
        pytest.skip("clamd is not installed")  # reason: the built-in check is proved without it
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "own.ndb").write_text(f"Guanxi.Mark:0:*:{MARK.hex()}\n")
    socket = tmp_path / "clamd.ctl"
    (tmp_path / "clamd.conf").write_text(
        f"LocalSocket {socket}\nDatabaseDirectory {tmp_path}/db\nForeground yes\nStreamMaxLength 1M\n"
        f"User {getpass.getuser()}\n"
    )
    process = await asyncio.create_subprocess_exec(
        *("clamd", "-c", str(tmp_path / "clamd.conf")), stdout=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(120):
        while not socket.exists():
            assert process.returncode is None, "clamd has ended"
            await asyncio.sleep(0.05)
    yield f"unix://{socket}"
    if process.returncode is None:
        process.terminate()
    await process.wait()


async def test_clamav_is_asked_and_its_answer_counts(clamd: str) -> None:
    scanner = Scanner(clamd)
    assert await verdict(scanner, b"a clean file" * 1000) == ""
    assert await verdict(scanner, b"x" * 5000 + MARK[:10], MARK[10:] + b"y") == "Guanxi.Mark.UNOFFICIAL"
    assert await verdict(scanner, EICAR) == EICAR_NAME
    with pytest.raises(ScanTooLarge):
        await verdict(scanner, *[b"z" * 262144] * 12)


async def test_a_daemon_that_does_not_answer_lets_nothing_pass(tmp_path: Path) -> None:
    with pytest.raises(ScannerAway):
        await verdict(Scanner(f"unix://{tmp_path}/nobody.ctl"), b"clean")

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    server = await asyncio.start_unix_server(hang_up, tmp_path / "deaf.ctl")
    async with server:
        with pytest.raises(ScannerAway):
            await verdict(Scanner(f"unix://{tmp_path}/deaf.ctl"), b"clean")
