"""`python -m tests.load`: the table of figures, on a platform of its own.

Services run as separate processes with all walls up; rows whose services are not there are left out and said so.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import os
import shutil
import time
from pathlib import Path

ROWS = "get,create,search,list,deal,order,delivery,import"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description="Figures under load")
    parser.add_argument(
        "--quick", action="store_true", help="three minutes: 16 connections, one run of 4 s each"
    )
    parser.add_argument("--rows", default=ROWS, help=f"which rows (default {ROWS}; more: backup)")
    parser.add_argument("--connections", default="", help="how many at once (default 1,16,64)")
    parser.add_argument("--runs", type=int, default=0, help="interleaved runs of each (default 5)")
    parser.add_argument("--seconds", type=float, default=0, help="length of a run (default 10)")
    parser.add_argument(
        "--rate", type=float, default=0, help="operations a second, open loop; 0: closed loop"
    )
    parser.add_argument("--accounts", type=int, default=50_000)
    parser.add_argument("--opportunities", type=int, default=20_000)
    parser.add_argument("--lines", type=int, default=0, help="lines of the imported file (default 20,000)")
    parser.add_argument(
        "--files", default="utf-8", help="kinds of the imported files: utf-8, gb18030, xlsx (default utf-8)"
    )
    parser.add_argument("--apps", default="", help="which apps run (default all)")
    parser.add_argument(
        "--state", type=Path, default=Path(".local/bench"), help="where the platform's data lies"
    )
    parser.add_argument("--fresh", action="store_true", help="begin with empty databases")
    parser.add_argument(
        "--hold", action="store_true", help="keep the platform running after the figures, for profiling"
    )
    found = parser.parse_args()
    found.connections = found.connections or ("16" if found.quick else "1,16,64")
    found.runs = found.runs or (1 if found.quick else 5)
    found.lines = found.lines or (3000 if found.quick else 20_000)
    found.seconds = found.seconds or (4 if found.quick else 10)
    return found


async def main() -> None:
    """Starts the platform, loads it, drives it, prints."""
    asked = arguments()
    # Beside a platform that runs already; and nobody is held back by the quota of one caller.
    os.environ.setdefault("PORT_OFFSET", "9000")
    os.environ["RATE_LIMIT"] = "1000000"
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    from crmkit.map import APPS
    from local_platform.launcher import Platform, cancel_on_signals

    # Whoever ends the bench ends its platform with it.
    cancel_on_signals()
    from tests.load import saving
    from tests.load.bench import Bench

    if asked.fresh:
        shutil.rmtree(asked.state, ignore_errors=True)
    wanted = asked.apps.split(",") if asked.apps else [app.name for app in APPS]
    apps = [app for app in APPS if app.name in wanted and _installed(app.name)]
    missing = ", ".join(sorted({app.name for app in APPS} - {app.name for app in apps}))
    if missing:
        print(f"left out, not there yet: {missing}")
    if "backup" in asked.rows.split(","):
        saving.prepare(asked.state)
    platform = Platform("dev", apps, state=asked.state.resolve())
    began = time.monotonic()
    async with platform.running() as running:
        started = time.monotonic() - began
        bench = Bench(asked, {app.name for app in apps}, running.url, running.issuer)
        await bench.load()
        print(
            f"start of the platform: {started:.1f} s (goal 8 s, first 20 s; with migrations that find nothing to do)"
        )
        for connections in map(int, asked.connections.split(",") if bench.rows else ()):
            await bench.table(connections)
        if "import" in asked.rows.split(","):
            await bench.bring_in()
        if "backup" in asked.rows.split(","):
            await bench.save()
        if bench.rows:
            await bench.memory()
        if asked.hold:
            print(f"held at {running.url}; Ctrl-C ends it")
            await asyncio.Event().wait()


def _installed(app: str) -> bool:
    return all(importlib.util.find_spec(module) for module in (app, f"{app}.__main__", f"{app}.app"))


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())
