"""What the other services do with a customer, as far as the clocks of the sea look at it.

Every change of a deal, contract, order, ticket or balance is heard with its whole record: the latest version of each
is kept, and the account's figures are counted anew from all of them. So facts may come twice and in any order.
"""

from collections.abc import Sequence
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import NotFound
from crmkit.events import Fact, listens
from crmkit.mapping import told_date
from crmkit.resource import parse_name

from customer.model.sea import SeaRecord
from customer.sea.states import instant, observe

PAUSE = timedelta(days=30)
_DEALS = ("OPEN", "SUSPENDED")
_RUNNING = ("ACTIVE", "SUSPENDED", "CLOSING")
_SUBMITTED = ("IN_APPROVAL", "AWAITING_SIGNATURE", "SIGNED")
_OVER = ("CLOSED", "TERMINATED")
_UNPLACED = ("", "DRAFT", "CANCELLED", "REJECTED", "FAILED")
_TICKETS_OVER = ("CLOSED", "REJECTED", "CANCELLED")
HEARD = {
    "opportunities": "sales",
    "contracts": "orders",
    "orders": "orders",
    "tickets": "servicedesk",
    "accountBalances": "billing",
}
_KEEP = (
    "ON CONFLICT (name) DO UPDATE SET account = excluded.account,"
    " version = excluded.version, live = excluded.live, pending = excluded.pending,"
    # A contract is in approval since it first was; an order placed, a deal won once stays so.
    " time = CASE WHEN excluded.pending AND known.pending THEN known.time ELSE coalesce(excluded.time, known.time) END,"
    " day = excluded.day, amount = excluded.amount WHERE known.version < excluded.version"
)
_COUNT = (
    "SELECT a.id, count(*) FILTER (WHERE r.collection = 'opportunities' AND r.live)::int AS open_opportunities,"
    " count(*) FILTER (WHERE r.collection = 'contracts' AND r.live)::int AS running_contracts,"
    " count(*) FILTER (WHERE r.collection = 'tickets' AND r.live)::int AS open_tickets,"
    " max(r.day) FILTER (WHERE r.collection = 'contracts' AND NOT r.live) AS contract_end,"
    " max(r.time) FILTER (WHERE r.collection = 'contracts' AND r.pending) AS submitted,"
    " max(r.time) FILTER (WHERE r.collection = 'opportunities' AND NOT r.live) AS won,"
    " max(r.time) FILTER (WHERE r.collection = 'orders') AS order_time,"
    " coalesce(sum(r.amount) FILTER (WHERE r.collection = 'accountBalances'), 0) AS balance"
    " FROM accounts a LEFT JOIN sea_records r ON r.account = a.id WHERE a.id = ANY ($1) GROUP BY a.id"
)


@listens(*(f"crm.{area}.v1.ResourceChanged.{collection}" for collection, area in HEARD.items()))
async def on_business_changed(events: list[Fact], call: Call) -> None:
    """Starts, stops and pauses the clocks of the accounts that the records are about."""
    rows = sorted(filter(None, map(_row, events)), key=lambda row: row["name"])
    if rows:
        # A record that moves to another account counts there, and no more where it was.
        left = await (await driver(call.db)).fetch(
            "SELECT DISTINCT account FROM sea_records WHERE name = ANY ($1)", [row["name"] for row in rows]
        )
        await insert_rows(call, SeaRecord.__table__, rows, _KEEP)
        await count(sorted({row["account"] for row in (*rows, *left)}), call)


async def count(accounts: Sequence[Any], call: Call) -> None:
    """Counts the figures of the accounts anew."""
    # One after another for each account, whoever hears what: the last one counts everything.
    connection = await driver(call.db)
    await connection.execute(
        "SELECT id FROM accounts WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE", accounts
    )
    changes: dict[Any, dict[str, Any]] = {}
    for row in await connection.fetch(_COUNT, accounts):
        submitted = row["submitted"]
        changes[row["id"]] = {
            "open_opportunities": row["open_opportunities"], "running_contracts": row["running_contracts"],
            "open_tickets": row["open_tickets"], "contract_end": row["contract_end"],
            "paused_until": submitted + PAUSE if submitted else None, "deal_time": row["won"],
            "order_time": row["order_time"], "balance": row["balance"],
        }  # fmt: skip
    await observe(call, changes)


def _row(event: Fact) -> dict[str, Any] | None:
    name, resource = event.aggregate, event.payload.get("resource") or {}
    try:
        account = parse_name(resource.get("account", ""), "accounts")
    except NotFound:
        return None
    collection, state = name.partition("/")[0], resource.get("state", "")
    live, pending, time, day, amount = False, False, None, None, None
    told = event.time.astimezone(UTC)
    match collection:
        case "opportunities":
            live = state in _DEALS
            time = (instant(resource.get("closeTime")) or told) if state == "WON" else None
        case "contracts":
            live, pending = state in _RUNNING, state in _SUBMITTED
            time = told if pending else None
            day = told_date(resource.get("endDate")) or told.date() if state in _OVER else None
        case "orders":
            time = (instant(resource.get("placeTime")) or told) if state not in _UNPLACED else None
        case "tickets":
            live = bool(state) and state not in _TICKETS_OVER
        case _:
            amount = Decimal((resource.get("balance") or {}).get("amount", "0"))
    if event.payload.get("action") == "DELETED":
        live, pending, amount = False, False, None
    return {
        "name": name, "account": account, "collection": collection, "version": event.version or 0, "live": live,
        "pending": pending, "time": time, "day": day, "amount": amount,
    }  # fmt: skip
