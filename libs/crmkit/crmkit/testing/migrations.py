"""`python -m crmkit.testing.migrations`: the migrations of every service give the tables of its models.

All in one process and on one server, since starting these is most of the work. That a service implements its proto is
found on the way.
"""

import asyncio
import importlib
import sys
import tempfile
from pathlib import Path

from alembic.util import CommandError

from crmkit import migrate
from crmkit.app import Running, migrated
from crmkit.testing import Parts

SERVICES = Path(__file__).parents[4] / "services"


async def main() -> int:
    """1 where a service's models and migrations differ."""
    differ = 0
    with tempfile.TemporaryDirectory() as directory:
        async with Parts(Path(directory)) as parts:
            for name in sorted(path.parent.name for path in SERVICES.glob("*/*/app.py")):
                app = importlib.import_module(f"{name}.app").app()
                settings = await parts.settings(name)
                await migrated(app, settings)
                try:
                    await migrate.check(settings.database(name, owner=True), app.migrations)
                except CommandError as error:
                    print(f"{name}: {str(error)[:1000]}")
                    differ = 1
                Running(app, settings)
    return differ


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
