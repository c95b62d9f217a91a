"""Processes that are forked from one that has imported everything: what they share, and what they must not."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from local_platform.child import StartFailed
from local_platform.forks import Forks

SAYS = """
import json, os, random, secrets, sys, uuid
from pathlib import Path
from uuid_utils.compat import uuid7
print(json.dumps({
    "arguments": sys.argv[1:], "word": os.environ.get("WORD"), "home": os.environ.get("HOME"), "cwd": os.getcwd(),
    "session": os.getsid(0) == os.getpid(), "stdin": sys.stdin.read(), "files": len(os.listdir("/proc/self/fd")),
    "chance": [random.random(), secrets.token_hex(8), str(uuid.uuid4()), str(uuid7())[14:]],
    "kit": "crmkit.app" in sys.modules,
}))
sys.exit(int(os.environ["CODE"]))
"""

WAITS = "import time\ntime.sleep(600)\n"
# It draws from every source of chance before the forks do.
SHARED = "import random, uuid\nimport crmkit.app\nfrom uuid_utils.compat import uuid7\n[random.random(), uuid.uuid4(), uuid7()]\n"
THREADED = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("says", SAYS), ("waits", WAITS)):
        (tmp_path / f"{name}.py").write_text(text)
    for name, text in (("shared", SHARED), ("threaded", THREADED)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "app.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


async def test_a_fork_is_a_process_like_any_and_shares_no_chance(modules: Path) -> None:
    forks = _forks(modules, "shared")
    async with forks.running():
        said: list[dict[str, object]] = []
        for number in (3, 4):
            log, word = modules / f"{number}.log", {"WORD": f"word {number}", "CODE": str(number)}
            process = await forks.fork("says", ["a", str(number)], word, log, modules)
            assert await process.wait() == number
            said.append(json.loads(log.read_text()))
    first, second = said
    assert first["arguments"] == ["a", "3"] and second["arguments"] == ["a", "4"]
    assert (first["word"], second["word"], first["home"]) == ("word 3", "word 4", None)
    assert first["cwd"] == str(modules) and first["session"] and first["stdin"] == "" and first["kit"]
    # Standard streams and the directory that is being listed: nothing of the server is open.
    assert first["files"] == 4
    ones, others = first["chance"], second["chance"]
    assert isinstance(ones, list) and isinstance(others, list)
    assert all(one != other for one, other in zip(ones, others, strict=True))  # type: ignore[reportUnknownArgumentType]


async def test_nothing_is_forked_from_a_process_with_threads(modules: Path) -> None:
    forks = _forks(modules, "threaded")
    async with forks.running():
        with pytest.raises(StartFailed, match="2 threads"):
            await _wait(forks, modules)


async def test_the_apps_of_this_platform_start_no_thread_when_imported(modules: Path) -> None:
    from crmkit.map import APPS

    forks = _forks(modules, *(app.name for app in APPS))
    async with forks.running():
        process = await _wait(forks, modules)
        assert psutil.Process(process.pid).num_threads() == 1
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM


async def test_who_was_forked_outlives_the_server_and_is_watched_on(modules: Path) -> None:
    forks = _forks(modules)
    async with forks.running():
        process = await _wait(forks, modules)
        server = int((modules / "forks.pid").read_text().split()[0])
        os.kill(server, signal.SIGKILL)
        async with asyncio.timeout(60):
            # The next server forks as the first did.
            while True:
                try:
                    another = await _wait(forks, modules)
                    break
                except StartFailed:
                    await asyncio.sleep(0.1)
        assert process.returncode is None and psutil.pid_exists(process.pid)
        for each in (process, another):
            each.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                await each.wait()


def _forks(directory: Path, *apps: str) -> Forks:
    return Forks(apps, log=directory / "forks.log", pid_file=directory / "forks.pid", cwd=directory)


async def _wait(forks: Forks, directory: Path, env: Mapping[str, str] | None = None):
    return await forks.fork("waits", [], env or {}, directory / "waits.log", directory)
