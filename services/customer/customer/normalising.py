"""Customers have the keys of the rules in force: another normaliser or public mail domain re-keys all (NAM-1, NAM-7).

Keys are made anew in the background, each customer's at once. Until the end those who ask look for the keys of the
normaliser before, too (`Identity.asked`), so that a customer is found whichever keys it has.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from crmkit import runs
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import Problem
from crmkit.runs import Kind, Run
from crmkit.schedule import every
from crmkit.tables import BulkRun
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from customer.company_names import NORMALISERS
from customer.matching import PUBLIC_MAIL_DOMAINS
from customer.model.account import Account, identity_of
from customer.model.duplicate_case import ScanMark

AT_ONCE = 200
# What tells who a customer is, and no more of it: a whole one takes the loop as long as its keys do.
_TELLING = (
    Account.id, Account.kind, Account.display_name, Account.legal_name, Account.aliases, Account.tax_id, Account.phones,
    Account.emails, Account.website,
)  # fmt: skip
_REKEY = "RekeyAccounts"
_MARK = "normaliser"
_KEPT = "SELECT account, kind, value FROM match_keys WHERE account = ANY ($1::uuid[])"
_DROP = (
    "DELETE FROM match_keys k USING unnest($1::uuid[], $2::text[], $3::text[]) AS old(account, kind, value)"
    " WHERE k.account = old.account AND k.kind = old.kind AND k.value = old.value"
)
_WRITE = (
    "INSERT INTO match_keys (account, kind, value) SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])"
    " ON CONFLICT DO NOTHING"
)


def public_domains(config: Callable[[str], Any]) -> frozenset[str]:
    """Mail domains that say nothing of a company: the usual ones, and those that the dictionary `publicMailDomains` adds.

    What is retired there is public no more.
    """
    entries: list[dict[str, Any]] = (config("dictionary.publicMailDomains") or {}).get("entries", [])
    if not entries:
        return PUBLIC_MAIL_DOMAINS
    retired = {str(entry["key"]).lower() for entry in entries if entry.get("retired")}
    added = {str(entry["key"]).lower() for entry in entries if not entry.get("retired")}
    return (PUBLIC_MAIL_DOMAINS - retired) | added


@every("5m", collapse=True)
async def follow_rules(as_of: datetime, call: Call) -> None:
    """Makes all keys anew where they were made by other rules than those in force."""
    rules = rules_in_force(call.config)
    mark = await call.db.get(ScanMark, _MARK)
    if mark is not None and mark.value == rules:
        return
    under_way = select(BulkRun.id).where(BulkRun.kind == _REKEY, BulkRun.state.in_(["QUEUED", "RUNNING"]))
    if await call.db.scalar(under_way.limit(1)) is None:
        await runs.start(call, _REKEY, "accounts/-", {"rules": rules}, f"system/{call.running.app.name}")


def rules_in_force(config: Callable[[str], Any]) -> str:
    """By what keys are made today."""
    listed = ",".join(sorted(public_domains(config)))
    return f"{max(NORMALISERS)}:{sha256(listed.encode()).hexdigest()[:16]}"


async def _rekey(run: Run) -> None:
    """Goes through the customers in the order of their ids; one that is written meanwhile has the new keys anyway."""
    while run.phase != "ENDED":
        async with run.chunk() as call:
            last = UUID(run.tally.get("last", str(UUID(int=0))))
            statement = (
                select(*_TELLING).where(Account.id > last, Account.state != "MERGED").order_by(Account.id)
            )
            locked = statement.limit(AT_ONCE).with_for_update(key_share=True)
            rows = (await call.db.execute(locked)).all()
            if rows:
                await _write(rows, run, call)
                run.tally["last"] = str(rows[-1].id)
                run.position += len(rows)
                continue
            await settle(run.spec["rules"], call)
            run.next_phase("ENDED")


async def settle(rules: str, call: Call) -> None:
    """All keys are those of these rules."""
    fresh = {"time": call.now, "value": rules}
    done = insert(ScanMark).values(name=_MARK, **fresh)
    await call.db.execute(done.on_conflict_do_update(index_elements=["name"], set_=fresh))


async def _write(rows: Sequence[Any], run: Run, call: Call) -> None:
    """Only what differs is written, so that the nightly scan compares what is new."""
    connection, public = await driver(call.db), public_domains(call.config)
    kept = {tuple(row) for row in await connection.fetch(_KEPT, [row.id for row in rows])}
    due = set[tuple[UUID, str, str]]()
    for row in rows:
        due.update((row.id, key.kind.value, key.value) for key in identity_of(row, public).keys)
        # Those who are served meanwhile wait for one customer at most.
        await asyncio.sleep(0)
    for statement, changes in ((_DROP, kept - due), (_WRITE, due - kept)):
        if changes:
            columns = [list(column) for column in zip(*sorted(changes), strict=True)]
            await connection.execute(statement, *columns)
            run.count(changed=len(changes))


async def _stopped(run: Run, problem: Problem, call: Call) -> None:
    """The next time the job runs it begins anew."""


RUNS = {_REKEY: Kind(_rekey, _stopped)}
