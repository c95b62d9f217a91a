"""Whether an app can serve, asked again every second and told by its health service.

Ready means: the database answers and has the tables of this code, the clocks agree, the issuer's keys and the roles
are known. Liveness is another question: it asks the event loop alone.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from crmkit.auth import Verifier
from crmkit.background import forever
from crmkit.bus import Bus
from crmkit.config import Config

EVERY = 1.0
ANSWER_WITHIN = 3.0
# One silence is a hiccup; an app that is taken out of service for it helps nobody.
PATIENCE = 2
LARGEST_SKEW = 5.0
KIT_MIGRATIONS = Path(__file__).with_name("migrations")

log = logging.getLogger(__name__)

Told = Callable[[bool], Awaitable[None]]
Question = Callable[[], Awaitable[str]]

_STATE = text(
    "SELECT extract(epoch FROM clock_timestamp()) AS clock,"
    " (SELECT version_num FROM kit_version) AS kit, (SELECT version_num FROM alembic_version) AS own"
)
_SETTINGS = text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")
# What would lose writes that were answered, by the setting that does.
_UNSAFE = {"fsync": {"off"}, "full_page_writes": {"off"}, "synchronous_commit": {"off"}}


class UnsafeSettings(RuntimeError):
    """The app does not start, because it would promise what it cannot hold."""


async def refuse_unsafe(engine: AsyncEngine) -> None:
    """UnsafeSettings where the database may lose what it has committed."""
    async with engine.connect() as connection:
        rows = await connection.execute(_SETTINGS, {"names": list(_UNSAFE)})
        unsafe = [f"{row.name} = {row.setting}" for row in rows if row.setting in _UNSAFE[row.name]]
    if unsafe:
        raise UnsafeSettings(f"PostgreSQL may lose what it has committed: {', '.join(sorted(unsafe))}")


class Revisions:
    """The migrations of a folder: which is the newest, and which are known here."""

    def __init__(self, folder: Path) -> None:
        before: set[str] = set()
        self.known: set[str] = set()
        for file in (folder / "versions").glob("*.py"):
            found = dict(_REVISION.findall(file.read_text()))
            self.known.add(found["revision"])
            before.add(found.get("down_revision", ""))
        (self.newest,) = self.known - before

    def serves(self, found: str | None) -> bool:
        """True for the newest, and for those of a later release, which only add."""
        return found is not None and (found == self.newest or found not in self.known)


_REVISION = re.compile(r"^((?:down_)?revision)\b[^=\n]*=\s*[\"'](\w+)[\"']", re.MULTILINE)


class Readiness:
    """Asks and tells. `why` is empty where the app can serve, else names what is missing."""

    def __init__(
        self,
        engine: AsyncEngine,
        verifier: Verifier,
        config: Config,
        bus: Bus,
        migrations: Path,
        further: Sequence[Question] = (),
    ) -> None:
        self._engine, self._verifier, self._config, self._bus = engine, verifier, config, bus
        self._revisions = {"kit": Revisions(KIT_MIGRATIONS), "own": Revisions(migrations)}
        # Asked until the app has been ready once.
        self._further = further
        self._told: bool | None = None
        self._silences = 0
        self.why: list[str] = ["it has not been asked yet"]

    @property
    def ready(self) -> bool:
        """True while the app can serve."""
        return self._told is True

    async def run(self, tell: Told) -> None:
        """Asks for ever and tells what has changed."""
        await forever(lambda: self.ask(tell), EVERY)

    async def ask(self, tell: Told) -> None:
        """Asks once."""
        why = await self.missing()
        self._silences = self._silences + 1 if why else 0
        if why != self.why and (why or self._told is False):
            log.info("not ready" if why else "ready", extra={"why": why})
        self.why = why
        ready = not why or (self._told is True and self._silences < PATIENCE)
        if ready != self._told:
            self._told = ready
            await tell(ready)

    async def missing(self) -> list[str]:
        """What keeps the app from serving, now."""
        missing = await self._database()
        if not self._verifier.knows_keys:
            self._verifier.warm()
            missing.append("the issuer's keys are not known")
        if not self._config.prefix("role."):
            missing.append("no role is known")
        if self._bus.unsafe:
            missing.append(self._bus.unsafe)
        if not missing and not self._told:
            missing = [why for question in self._further if (why := await question())]
        return missing

    async def _database(self) -> list[str]:
        asked = time.time()
        try:
            async with asyncio.timeout(ANSWER_WITHIN), self._engine.connect() as connection:
                asked = time.time()
                row = (await connection.execute(_STATE)).one()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == "42P01":
                return ["the database has no tables yet"]
            return ["the database does not answer"]
        except (SQLAlchemyError, OSError, TimeoutError):
            return ["the database does not answer"]
        answered = time.time()
        clock = float(row.clock)
        missing = [
            "the database has older tables"
            for which, found in (("kit", row.kit), ("own", row.own))
            if not self._revisions[which].serves(found)
        ]
        if not asked - LARGEST_SKEW <= clock <= answered + LARGEST_SKEW:
            missing.append(f"the clock is {answered - clock:.0f} s off the database's")
        return missing
