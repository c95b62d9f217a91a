"""`make chaos`: faults on the running platform while people write and read.

Whatever the fault: every write that was answered is there, every service that hears of it has had its effect once,
nobody gets another refusal than 409, 429, 503 or 504, no request outlives its deadline, and all is well again within
the bound. `ARGS="--only F-4 F-6"` chooses, `--list` tells what there is.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from local_platform.launcher import Running

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.load import LONGEST, Load, judge
from tests.chaos.world import Skip, World


def suffer(world: World, fault: Fault, seconds: float) -> str:
    """What came of the fault, in a line that begins with ok, FAIL or skip."""
    seen, broken, why = "", list[str](), ""
    with Load(world, world.token()) as load:
        time.sleep(seconds / 2)
        before = len(load.made)
        try:
            seen = fault.inflict(world, load)
        except Skip as skip:
            why = str(skip)
        except Exception as error:
            broken.append(f"{type(error).__name__}: {error}")
            traceback.print_exc()
        healed = time.monotonic()
        time.sleep(seconds / 2)
        load.stop.set()
    if why:
        return f"skip {fault.id} {fault.name}: {why}"
    first = next((moment - healed for moment in load.moments if moment > healed), None)
    verdict = judge(world, load.made)
    if len(load.made) <= before:
        broken.append("nothing was written any more")
    if first is None or first > fault.within:
        broken.append(f"first write after {first}, owed within {fault.within:.0f} s")
    if load.bad:
        broken.append(f"refused with {load.bad}")
    if fault.unnoticed and (load.refusals or sum(load.reads_refused.values()) or load.silences):
        broken.append("people noticed")
    if load.slowest > LONGEST and not fault.patient:
        broken.append(f"a request took {load.slowest:.1f} s")
    if not verdict.good:
        broken.append(f"lost {verdict.lost}, missing {verdict.late}, twice {verdict.twice}")
    refused = dict(+load.refusals) | {f"read {status}": n for status, n in (+load.reads_refused).items()}
    told = (
        f"{len(load.made)} written, {load.read} read, refused {refused or 'none'}, slowest {load.slowest:.1f} s, "
        f"first write after {first if first is None else round(first, 1)} s, all effects after {verdict.settled:.1f} s"
    )
    return f"{'FAIL' if broken else 'ok  '} {fault.id} {fault.name}: {told}" + "".join(
        f"; {part}" for part in (seen, *(f"BROKEN: {one}" for one in broken)) if part
    )


def run(world: World, chosen: list[Fault], seconds: float) -> int:
    """Suffers one fault after the other; 1 where one broke a promise."""
    lines: list[str] = []
    for fault in chosen:
        lines.append(suffer(world, fault, seconds))
        print(lines[-1], flush=True)
    failed = sum(line.startswith("FAIL") for line in lines)
    print(f"{len(lines)} faults, {failed} broken promises", flush=True)
    return 1 if failed else 0


async def main(chosen: list[Fault], seconds: float, keep: bool) -> int:
    """Starts the platform and lets it suffer."""
    os.environ.setdefault("PORT_OFFSET", "8000")
    state = Path(tempfile.mkdtemp(prefix="chaos"))
    world = World(state)
    try:
        async with world.running() as found:
            world.at = Running(found.url, found.issuer)
            return await asyncio.to_thread(run, world, chosen, seconds)
    finally:
        world.disk.unmount()
        if keep:
            print(f"the state and the logs are in {state}")
        else:
            shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make chaos ARGS=…")
    parser.add_argument("--seconds", type=float, default=8, help="of load around each fault")
    parser.add_argument(
        "--only", nargs="*", default=[], help="words that the chosen faults' names have in them"
    )
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leave the logs")
    given = parser.parse_args()
    picked = [
        fault
        for fault in FAULTS
        if not given.only or any(word in f"{fault.id} {fault.name}" for word in given.only)
    ]
    if given.list:
        print("\n".join(f"{fault.id} {fault.name}" for fault in picked))
        sys.exit(0)
    threading.stack_size(2**20)
    sys.exit(asyncio.run(main(picked, given.seconds, given.keep)))
