"""`python -m local_platform.migrations`: `python -m <app> migrate` for every app, in one process.

Importing what the apps have in common takes longer than a database that is up to date; so it is done once, and not at
all for databases that the same code has migrated. `MIGRATIONS` in the environment is a JSON object: app → what its
environment has beyond the common one.
"""

import hashlib
import json
import os
import runpy
import sys
from collections.abc import Iterable

import asyncpg

from local_platform.layout import ROOT

# Where migrations, models and row-level security come from.
_SOURCES = ("libs/**/*.py", "libs/**/*.binpb", "services/**/*.py", "uv.lock")


def digest() -> str:
    """Stands for the code that migrates."""
    found = hashlib.sha256()
    for path in sorted({path for pattern in _SOURCES for path in ROOT.glob(pattern)}):
        found.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


async def behind(admin_url: str, apps: Iterable[str], code: str) -> list[str]:
    """Those of the apps whose database this code has not migrated. The note is on a table, so it goes where that goes."""
    return [app for app in apps if await _run(admin_url, app, _NOTED) != code]


async def note(admin_url: str, apps: Iterable[str], code: str) -> None:
    """Says in the databases that this code has migrated them."""
    for app in apps:
        if await _run(admin_url, app, "SELECT to_regclass('public.kit_version')::text"):
            await _run(admin_url, app, f"COMMENT ON TABLE kit_version IS '{code}'")


_NOTED = "SELECT obj_description(to_regclass('public.kit_version'), 'pg_class')"


async def _run(admin_url: str, app: str, statement: str) -> str | None:
    connection = await asyncpg.connect(admin_url, database=app)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def main() -> None:
    environments: dict[str, dict[str, str]] = json.loads(os.environ.pop("MIGRATIONS"))
    for app, environment in environments.items():
        os.environ.update(environment)
        sys.argv = [app, "migrate"]
        try:
            runpy.run_module(app, run_name="__main__", alter_sys=True)
        except BaseException:
            print(f"{app} could not migrate", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
