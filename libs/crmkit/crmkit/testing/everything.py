"""`make test`: every test, a folder to a process, two processes at a time.

A folder has servers of its own: the facts of one service's tests are no backlog for the next one's, and what it
started ends with it. Slow tests (a real Keycloak, large imports) run too.
"""

import asyncio
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[4]
AT_ONCE = 2
LIMIT_SECONDS = 1500
# The longest first, so that the two end together.
FOLDERS = (
    "services/customer", "tests/e2e", "services/workspace", "services/sales", "deploy/local", "services/billing",
    "services/orders", "libs", "gateway", "services/marketing", "services/servicedesk", "services/insight",
)  # fmt: skip
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")


async def run(folder: str, slots: asyncio.Semaphore, counts: Counter[str]) -> bool:
    """Runs one folder and prints what it said; True where all is well."""
    async with slots:
        begun = time.monotonic()
        # The first slot and the second must not meet on a port of the local platform, nor a drill on one of the system's.
        offset = str(2000 + FOLDERS.index(folder) * 300)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pytest", "-q", folder),
            cwd=ROOT,
            env={**os.environ, "PORT_OFFSET": offset},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                output = (await process.communicate())[0].decode(errors="replace")
        except TimeoutError:
            process.kill()
            output = f"{folder} took longer than {LIMIT_SECONDS} s\n1 failed"
        good = process.returncode in (0, 5)
        last = output.strip().splitlines()[-1] if output.strip() else ""
        for number, word in _COUNT.findall(last):
            counts["failed" if word == "error" else word] += int(number)
        if not good and not _COUNT.search(last):
            counts["failed"] += 1
        print(output if not good else "", end="")
        print(
            f"{'ok  ' if good else 'FAIL'} {folder}: {last.strip('= ')} ({time.monotonic() - begun:.0f} s)",
            flush=True,
        )
        return good


async def main() -> int:
    """1 where a folder failed; the last line counts every test."""
    slots, counts = asyncio.Semaphore(AT_ONCE), Counter[str]()
    there = [folder for folder in FOLDERS if (ROOT / folder).exists()]
    results = await asyncio.gather(*(run(folder, slots, counts) for folder in there))
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
