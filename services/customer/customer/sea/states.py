"""Keeps `sea_states` true: every change that a clock may look at ends one row and begins the next."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.resource import parse_name
from sqlalchemy.orm.attributes import set_committed_value

from customer.model.account import Account
from customer.model.sea import SeaState
from customer.sea.clauses import active_rules, bound, compiled, names

ZONE = "Asia/Shanghai"
# Columns that are the account's own; the rest is carried from row to row unless a fact changes it.
_OWN = (
    "state", "owner", "department", "departments", "roles", "zone", "level", "type", "tags", "product_lines", "divisions",
    "source", "stage", "owned_time", "owned_how", "owned_from", "protected_until",
)  # fmt: skip
_CARRIED = (
    "stage_time", "key_account", "follow_up", "follow_ups", "deal_time", "order_time", "contract_end", "paused_until",
    "frozen_from", "frozen_until", "running_contracts", "open_opportunities", "open_tickets", "balance",
)  # fmt: skip
_COLUMNS = (*_OWN, *_CARRIED)
_EMPTY: dict[str, Any] = {
    "key_account": False, "follow_ups": {}, "running_contracts": 0, "open_opportunities": 0, "open_tickets": 0,
    "balance": 0, "frozen_from": [], "frozen_until": [],
}  # fmt: skip
_PRESENT = (
    f"SELECT a.id, s.from_time, {', '.join(f's.{c}' for c in _COLUMNS)}, a.state AS a_state, a.owner AS a_owner,"
    " a.department AS a_department, a.level AS a_level, a.type AS a_type, a.tags AS a_tags,"
    " a.product_lines AS a_product_lines, a.source AS a_source,"
    " a.lifecycle_stage AS a_stage, coalesce(a.owner_time, a.create_time) AS a_owned_time, a.owner_how AS a_owned_how,"
    " a.owner_from AS a_owned_from, a.protected_until_time AS a_protected_until,"
    " ARRAY(SELECT x ->> 'divisionCode' FROM jsonb_array_elements(a.addresses) x WHERE x ? 'divisionCode')"
    " AS a_divisions"
    " FROM accounts a LEFT JOIN sea_states s ON s.account = a.id AND s.to_time = 'infinity' WHERE a.id = ANY ($1)"
)
_END = (
    "UPDATE sea_states SET to_time = ended.at FROM unnest($1::uuid[], $2::timestamptz[]) AS ended(account, at)"
    " WHERE sea_states.account = ended.account AND to_time = 'infinity' AND from_time < ended.at"
)
_OVER = "ON CONFLICT (account, from_time) DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in _COLUMNS)
_BEGIN = (
    f"INSERT INTO sea_states (account, from_time, {', '.join(_COLUMNS)})"
    f" VALUES ($1, $2, {', '.join(f'${n + 3}' for n in range(len(_COLUMNS)))}) {_OVER}"
)


_RULED = "SELECT EXISTS (SELECT 1 FROM pool_rules WHERE state = 'ACTIVE' AND pool <> '')"


async def observe(call: Call, changes: Mapping[UUID, Mapping[str, Any]]) -> None:
    """Writes the present state of these accounts, with what facts say has changed, and when each is due now."""
    if not changes:
        return
    async with call.everybody():
        await _observe(call, changes)


async def _observe(call: Call, changes: Mapping[UUID, Mapping[str, Any]]) -> None:
    connection = await driver(call.db)
    ended: list[tuple[Any, ...]] = []
    moved: list[dict[str, Any]] = []
    for row in await connection.fetch(_PRESENT, list(changes)):
        fresh = _fresh(row, changes[row["id"]], call)
        # A row that begins at this very moment is written over: one moment has one state.
        if row["from_time"] is None or any(row[c] != fresh[c] for c in _COLUMNS):
            begin = max(call.now, row["from_time"] or call.now)
            moved.append({"account": row["id"], "from_time": begin, **{c: fresh[c] for c in _COLUMNS}})
            if row["from_time"] is not None:
                ended.append((row["id"], begin))
    if ended:
        await connection.execute(_END, *map(list, zip(*ended, strict=True)))
    await insert_rows(call, SeaState.__table__, moved, _OVER)
    await reckon(call, list(changes))


async def begin_state(account: Account, call: Call) -> None:
    """The first state of a new account: written along with it where no rule asks when it is due."""
    if await (await driver(call.db)).fetchval(_RULED):
        watch(account, call)
        return

    def compose() -> None:
        call.along(_BEGIN, account.id, call.now, *_values(_first(account, call)))

    call.before_flush(compose)


def first_states(accounts: Iterable[Account], call: Call) -> list[dict[str, Any]]:
    """The rows that many new accounts begin with."""
    ordered = sorted(accounts, key=lambda account: account.id)
    return [{"account": one.id, "from_time": call.now, **_first(one, call)} for one in ordered]


async def observe_new(call: Call, states: Sequence[Mapping[str, Any]]) -> None:
    """Writes the first states of many new accounts at once, and when each is due."""
    async with call.everybody():
        await insert_rows(call, SeaState.__table__, states, _OVER)
        if states and await (await driver(call.db)).fetchval(_RULED):
            await reckon(call, [row["account"] for row in states])


def _first(account: Account, call: Call) -> dict[str, Any]:
    """The state that a new account begins with."""
    row = {
        **dict.fromkeys(("from_time", *_CARRIED, "stage")), "a_state": account.state, "a_owner": account.owner,
        "a_department": account.department, "a_level": account.level, "a_type": account.type, "a_tags": account.tags,
        "a_product_lines": account.product_lines or [], "a_source": account.source, "a_stage": account.lifecycle_stage,
        "a_owned_time": account.owner_time or account.create_time, "a_owned_how": account.owner_how,
        "a_owned_from": account.owner_from, "a_protected_until": account.protected_until_time,
        "a_divisions": [address.division_code for address in account.addresses or ()],
    }  # fmt: skip
    return _fresh(row, {}, call)


def _values(state: Mapping[str, Any]) -> list[Any]:
    return [json.dumps(state[c]) if c == "follow_ups" else state[c] for c in _COLUMNS]


def watch(account: Account, call: Call, **changes: Any) -> None:
    """Observes the account once its row is written, so that the reply and the facts show when it is due."""

    async def write() -> None:
        await observe(call, {account.id: changes})

    call.after_flush(write)


async def follow_up(account: Account, time: datetime, channel: str, call: Call) -> None:
    """A follow-up that counts starts the clocks anew; a late entry of an earlier one does not set them back."""
    present = await (await driver(call.db)).fetchrow(
        "SELECT follow_up, follow_ups FROM sea_states WHERE account = $1 AND to_time = 'infinity'", account.id
    )
    latest = present["follow_up"] if present else None
    by_channel: dict[str, str] = dict(present["follow_ups"]) if present else {}
    known = by_channel.get(channel)
    by_channel[channel] = max(known, time.isoformat()) if known else time.isoformat()
    watch(account, call, follow_up=max(latest, time) if latest else time, follow_ups=by_channel)


def follow_anew(account: Account, call: Call) -> None:
    """One of the follow-ups reads otherwise, or is gone: the clocks run since the latest that counts."""

    async def write() -> None:
        async with call.everybody():
            rows = await (await driver(call.db)).fetch(
                "SELECT channel, max(start_time) AS time FROM interactions WHERE account = $1 AND counts_for_sea"
                " GROUP BY channel",
                account.name,
            )
        times = {row["channel"]: row["time"].astimezone(UTC) for row in rows}
        by_channel = {channel: time.isoformat() for channel, time in times.items()}
        await observe(
            call, {account.id: {"follow_up": max(times.values(), default=None), "follow_ups": by_channel}}
        )

    call.after_flush(write)


async def reckon(call: Call, accounts: Sequence[UUID]) -> None:
    """Writes for the accounts when each is due, by which clause, and what holds it. No one's etag is touched."""
    rules = compiled(await active_rules(call), call)
    statement, texts = bound(
        f"WITH fresh AS (SELECT s.account, d.due, n.key, {rules.shown} AS held FROM sea_states s{rules.joins}"
        f" LEFT JOIN {names(rules)} ON n.number = c.clause"
        " WHERE s.account = ANY ($1) AND s.to_time = 'infinity' AND s.owner <> '' AND s.state IN ('ACTIVE', 'FROZEN'))"
        " UPDATE accounts a SET sea_due_time = f.due, sea_clause = CASE WHEN f.due IS NULL AND f.held IS NULL THEN ''"
        " ELSE coalesce(f.key, '') END, sea_exemption = coalesce(f.held, '')"
        " FROM (SELECT i AS id, fresh.due, fresh.key, fresh.held FROM unnest($1::uuid[]) AS i"
        " LEFT JOIN fresh ON fresh.account = i) f"
        " WHERE a.id = f.id AND (a.sea_due_time IS DISTINCT FROM f.due OR a.sea_exemption <> coalesce(f.held, '')"
        " OR a.sea_clause <> CASE WHEN f.due IS NULL AND f.held IS NULL THEN '' ELSE coalesce(f.key, '') END)"
        " RETURNING a.id, a.sea_due_time, a.sea_clause, a.sea_exemption",
        after=1,
    )
    rows = await (await driver(call.db)).fetch(statement, list(accounts), *texts)
    present = {row.id: row for row in call.db.sync_session.identity_map.values() if isinstance(row, Account)}
    for row in rows:
        if (account := present.get(row["id"])) is not None:
            for column in ("sea_due_time", "sea_clause", "sea_exemption"):
                set_committed_value(account, column, row[column])


def _fresh(row: Any, changes: Mapping[str, Any], call: Call) -> dict[str, Any]:
    department = row["a_department"]
    person = call.entry(row["a_owner"])
    place = call.entry(department)
    own = {
        "state": row["a_state"], "owner": row["a_owner"], "department": department, "departments": [],
        "roles": sorted(f"{role}" for role in person.get("roles", ())), "zone": place.get("timeZone") or ZONE,
        "level": row["a_level"], "type": row["a_type"], "tags": row["a_tags"], "product_lines": row["a_product_lines"],
        "divisions": [code for code in row["a_divisions"] if code], "source": row["a_source"],
        "stage": row["a_stage"], "owned_time": row["a_owned_time"], "owned_how": row["a_owned_how"],
        "owned_from": row["a_owned_from"], "protected_until": row["a_protected_until"],
    }  # fmt: skip
    carried = {c: row[c] if row[c] is not None else _EMPTY.get(c) for c in _CARRIED}
    known = row["from_time"] is not None
    if not known or row["stage"] != own["stage"]:
        carried["stage_time"] = call.now
    since: list[datetime] = [*(row["frozen_from"] or ())]
    until: list[datetime] = [*(row["frozen_until"] or ())]
    if known and row["owned_time"] != own["owned_time"]:
        # No clock of an owner runs since before him.
        since, until = [], []
    if own["state"] == "FROZEN" and len(since) == len(until):
        since.append(call.now)
    elif own["state"] != "FROZEN" and len(since) > len(until):
        until.append(call.now)
    carried["frozen_from"], carried["frozen_until"] = since, until
    return {**own, **carried, **changes}


async def open_deals(account: Account, call: Call) -> int:
    """How many deals are open, as sales last told."""
    return await (await driver(call.db)).fetchval(
        "SELECT count(*) FROM sea_records WHERE account = $1 AND collection = 'opportunities' AND live",
        account.id,
    )


def account_id(name: str) -> UUID:
    """The id in the name of an account."""
    return parse_name(name, "accounts")


def instant(value: str | None) -> datetime | None:
    """An instant of JSON."""
    return datetime.fromisoformat(value).astimezone(UTC) if value else None
