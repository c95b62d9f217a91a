"""`python -m crmkit.testing.revise <app> "<what changes>"`: writes the migration that changed models need.

It compares the models with a fresh database that has all migrations so far. Read what it wrote before committing.
"""

import asyncio
import importlib
import sys
import tempfile
from pathlib import Path

from crmkit import migrate
from crmkit.testing import Parts


async def main(name: str, what: str) -> None:
    """Writes one migration into the app's folder."""
    app = importlib.import_module(f"{name}.app").app()
    with tempfile.TemporaryDirectory() as directory:
        async with Parts(Path(directory)) as parts:
            url = (await parts.settings(app.name)).database(app.name, owner=True)
            await migrate.upgrade(url, app.name, app.migrations)
            await migrate.revise(url, app.migrations, what)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
