"""Whether all that services have sent stands in the audit: each says every minute which facts it has sent.

A number of these messages that does not come, or a fact in one that is not in the chain, is a gap; it is told once it
has been open for a minute, and closes by itself when what was late comes.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.events import Fact
from sqlalchemy import DateTime, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base

OPEN_FOR = timedelta(seconds=60)
KEPT = timedelta(days=1)
NAMED = 20
AT_ONCE = 500


class AuditTally(Base):
    """What one message says was sent, and what of it has not come; those that are settled stay for a day."""

    __tablename__ = "audit_tallies"
    __table_args__ = (
        Index("audit_tallies_open_index", "told_time", postgresql_where=text("missing <> '{}'")),
    )

    area: Mapped[str] = mapped_column(Text, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    told_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    missing: Mapped[list[str]] = mapped_column(ARRAY(Text))
    raised: Mapped[bool] = mapped_column(server_default=text("false"))


async def keep(facts: Sequence[Fact], call: Call) -> None:
    """Keeps what services say they have sent; what is in the chain already is not missing."""
    connection = await driver(call.db)
    for fact in facts:
        area, ids = fact.subject.split(".")[1], fact.payload.get("ids", [])
        number = int(fact.payload.get("number", 0))
        await connection.execute(_KEEP, area, number, fact.time, ids)


async def look(call: Call) -> list[tuple[str, int, list[str]]]:
    """Looks again at what was missing; the gaps found now, by area: how many, and some of their ids.

    Each is told once, and again only when others are found.
    """
    connection = await driver(call.db)
    await connection.execute(_SETTLE, AT_ONCE)
    await connection.execute(_FORGET, call.now - KEPT)
    since = call.now - OPEN_FOR
    found: dict[str, list[str]] = {}
    for row in await connection.fetch(_RAISE, since):
        found.setdefault(row["area"], []).extend(row["missing"])
    for row in await connection.fetch(_HOLES, since):
        found.setdefault(row["area"], []).append(f"FactsTold {row['hole']}")
        # An empty place holds the number, so that the hole is told once; the message fills it when it comes.
        await connection.execute(_HOLD, row["area"], row["hole"], call.now)
    return [(area, len(ids), ids[:NAMED]) for area, ids in sorted(found.items())]


async def missing(call: Call) -> int:
    """How many facts, or messages that say what was sent, have not come for a minute and more."""
    return int(await (await driver(call.db)).fetchval(_COUNT, call.now - OPEN_FOR) or 0)


def gap(area: str, count: int, ids: list[str], now: datetime) -> dict[str, Any]:
    """The fields of the fact about a gap."""
    return {"area": area, "missing": count, "ids": ids, "time": now}


GAP = events.AuditGapFound
# A held number has itself as what is missing.
_KEEP = """
INSERT INTO audit_tallies (area, number, told_time, missing)
SELECT $1, $2, $3, coalesce(array_agg(one), '{}') FROM unnest($4::text[]) AS one
WHERE NOT EXISTS (SELECT FROM audit_entries WHERE id = one::uuid)
ON CONFLICT (area, number) DO UPDATE SET missing = excluded.missing, raised = false, told_time = excluded.told_time
"""
_SETTLE = """
UPDATE audit_tallies AS tally SET missing = coalesce(left_over.ids, '{}') FROM (
    SELECT open.area, open.number, (
        SELECT array_agg(one) FROM unnest(open.missing) AS one
        WHERE one LIKE 'FactsTold %' OR NOT EXISTS (SELECT FROM audit_entries WHERE id = one::uuid)
    ) AS ids
    FROM (SELECT * FROM audit_tallies WHERE missing <> '{}' ORDER BY told_time LIMIT $1) AS open
) AS left_over WHERE tally.area = left_over.area AND tally.number = left_over.number
"""
_RAISE = """
UPDATE audit_tallies SET raised = true WHERE missing <> '{}' AND NOT raised AND told_time < $1
RETURNING area, missing
"""
_HOLES = """
SELECT area, number + gap AS hole FROM (
    SELECT area, number, least(lead(number) OVER (PARTITION BY area ORDER BY number) - number - 1, 100) AS gaps,
        lead(told_time) OVER (PARTITION BY area ORDER BY number) AS next_time
    FROM audit_tallies
) AS told, generate_series(1, gaps) AS gap WHERE gaps > 0 AND next_time < $1
"""
_HOLD = """
INSERT INTO audit_tallies (area, number, told_time, missing, raised)
VALUES ($1, $2::int, $3, ARRAY['FactsTold ' || ($2::int)::text], true) ON CONFLICT DO NOTHING
"""
# The last number of an area stays, so that the next one is held against it.
_FORGET = """
DELETE FROM audit_tallies AS old WHERE missing = '{}' AND told_time < $1
AND EXISTS (SELECT FROM audit_tallies AS later WHERE later.area = old.area AND later.number = old.number + 1)
"""
_COUNT = "SELECT sum(cardinality(missing)) FROM audit_tallies WHERE missing <> '{}' AND told_time < $1"
