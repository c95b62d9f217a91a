"""`make test`: every test, a part to a process, three processes at a time.

A part is a folder, or a file of it that is as long as a folder. It has servers of its own: the facts of one service's
tests are no backlog for the next one's, and what it started ends with it. Slow tests (a real Keycloak, large imports)
run too. At the end stands what all of it took of the processors: that says more than the clock on a machine that does
other things as well.
"""

import asyncio
import os
import re
import resource
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[4]
# Most tests wait, for a disk or a fact: two leave half of two processors idle.
AT_ONCE = 3
# Twice what the longest takes on a machine that others slow down.
LIMIT_SECONDS = 2100
# The longest first, so that all end together.
PARTS = (
    "services/workspace", "services/customer", "tests/e2e", "services/sales", "deploy/local",
    "services/customer/tests/test_sea.py", "services/customer/tests/test_conformance.py",
    "services/workspace/tests/test_conformance.py", "services/billing",
    "libs", "services/orders", "gateway", "services/marketing", "services/servicedesk", "services/insight",
)  # fmt: skip
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")


async def run(part: str, slots: asyncio.Semaphore, counts: Counter[str]) -> bool:
    """Runs one part and prints what it said; True where all is well."""
    async with slots:
        begun = time.monotonic()
        # Two lanes must not meet on a port of the local platform, nor a drill on one of the system's, and no browser
        # goes to port 10080.
        offset = str(2005 + PARTS.index(part) * 300)
        others = [f"--ignore={other}" for other in PARTS if other.startswith(f"{part}/")]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pytest", "-q", part, *others),
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
            output = f"{part} took longer than {LIMIT_SECONDS} s\n1 failed"
        good = process.returncode in (0, 5)
        last = output.strip().splitlines()[-1] if output.strip() else ""
        for number, word in _COUNT.findall(last):
            counts["failed" if word == "error" else word] += int(number)
        if not good and not _COUNT.search(last):
            counts["failed"] += 1
        print(output if not good else "", end="")
        print(
            f"{'ok  ' if good else 'FAIL'} {part}: {last.strip('= ')} ({time.monotonic() - begun:.0f} s)",
            flush=True,
        )
        return good


async def main() -> int:
    """1 where a part failed; the last line counts every test."""
    begun = time.monotonic()
    slots, counts = asyncio.Semaphore(AT_ONCE), Counter[str]()
    there = [part for part in PARTS if (ROOT / part).exists()]
    results = await asyncio.gather(*(run(part, slots, counts) for part in there))
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{time.monotonic() - begun:.0f} s, and {used.ru_utime + used.ru_stime:.0f} s of the processors for what has ended"
    )
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
