"""Every minute a service says which facts it has sent, so that whoever must have all of them finds what is missing.

outbox rows that JetStream has acknowledged since the last time → FactsTold{number, ids} → workspace's audit
"""

from __future__ import annotations

from datetime import datetime, timedelta

from crm.common.v1 import common_pb2

from crmkit import packs
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.schedule import every

# Longer than a flight takes from its acknowledgement to its commit: what is older is all there.
SETTLED = timedelta(seconds=30)
AT_ONCE = 2000
# Where the counter and the time of the last message are kept, among the counters of numbers.
COUNTER = "crmkit.tally"

_STATE = "SELECT period, last FROM number_counters WHERE rule = $1 FOR UPDATE"
_KEEP = (
    "INSERT INTO number_counters (rule, period, last) VALUES ($1, 'number', $2), ($1, 'until', $3)"
    " ON CONFLICT (rule, period) DO UPDATE SET last = excluded.last"
)
_SENT = (
    "SELECT event_id, facts FROM outbox WHERE published_at > $1 AND published_at <= $2"
    " AND (type LIKE '%.ResourceChanged' OR type LIKE '%.AccessExplained') ORDER BY published_at, id"
)


@every("1m", collapse=True)
async def tell_facts(as_of: datetime, call: Call) -> None:
    """Says which facts were sent since it was last said; nothing where there were none."""
    connection = await driver(call.db)
    state: dict[str, int] = {row[0]: row[1] for row in await connection.fetch(_STATE, COUNTER)}
    number, until = state.get("number", 0), call.now - SETTLED
    # In microseconds; a service that has never told begins here, for its older facts may be past their keeping.
    since = datetime.fromtimestamp(state["until"] / 1e6, call.now.tzinfo) if state else until
    sent = await connection.fetch(_SENT, since, until)
    ids = [str(id) for row in sent for id in packs.numbers(row[0], row[1])]
    area = call.running.app.name
    for start in range(0, len(ids), AT_ONCE):
        number += 1
        told = common_pb2.FactsTold(number=number, ids=ids[start : start + AT_ONCE])
        call.tell(f"crm.{area}.v1.FactsTold", told, None)
    await connection.execute(_KEEP, COUNTER, number, round(until.timestamp() * 1_000_000))
