"""Does this customer exist already? (COL-1, COL-2)

The check runs inside the transaction that writes, under advisory locks on the blocking keys in sorted order, so
that two equal creates cannot both pass.
"""

from collections import Counter
from dataclasses import dataclass

from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import AlreadyExists
from sqlalchemy import select

from customer.matching import COMMON_HOLDERS, Identity, Level, Match, MatchKey, level
from customer.model.account import Account

CANDIDATES = 50
REFUSING = (Level.CERTAIN, Level.STRONG)
# unnest keeps the order of the array, so that two creates cannot wait for each other.
_LOCKS = "SELECT pg_advisory_xact_lock(hashtextextended(key, 0)) FROM unnest($1::text[]) AS key"
# A statement of its own: it sees what was committed while the locks were waited for.
_HELD = (
    "SELECT held.account, held.kind, held.value FROM unnest($1::text[], $2::text[]) AS wanted(kind, value)"
    " JOIN match_keys held ON held.kind = wanted.kind AND held.value = wanted.value"
    f" WHERE held.account <> $3 LIMIT {CANDIDATES * 10}"
)
_STRENGTH = [Level.CERTAIN, Level.STRONG, Level.POSSIBLE, Level.BRANCH_OF]


@dataclass(frozen=True)
class Hit:
    """An account like the one asked about, whoever may see it."""

    account: Account
    match: Match


async def refuse_collision(account: Account, call: Call) -> None:
    """Raises ACCOUNT_COLLISION where the customer exists; else the account's keys are written with it."""
    identity = account.identity()
    await _lock(identity, call)
    hits = [hit for hit in await find_hits(account, identity, call) if hit.match.level in REFUSING]
    if hits:
        strongest = hits[0]
        despite = (
            call.caller.may("customer.accounts.create_despite") and strongest.match.level is Level.STRONG
        )
        if not despite:
            raise AlreadyExists("ACCOUNT_COLLISION", level=strongest.match.level.value)
    call.after_flush(lambda: account.write_keys(identity, call))


async def find_hits(account: Account, identity: Identity, call: Call) -> list[Hit]:
    """Accounts that share a key, strongest first."""
    if not identity.keys:
        return []
    keys = sorted(identity.keys)
    kinds, values = [key.kind.value for key in keys], [key.value for key in keys]
    found = await (await driver(call.db)).fetch(_HELD, kinds, values, account.id)
    if not found:
        return []
    holders = Counter((row["kind"], row["value"]) for row in found)
    common = {key for key in identity.keys if holders[(key.kind.value, key.value)] > COMMON_HOLDERS}
    shared = Counter(row["account"] for row in found if MatchKey(row["kind"], row["value"]) not in common)
    ids = [key for key, _ in shared.most_common(CANDIDATES)]
    async with call.everybody():
        statement = select(Account).where(Account.id.in_(ids), Account.state.not_in(["MERGED", "ARCHIVED"]))
        accounts = (await call.db.scalars(statement)).all()
    hits = [Hit(other, level(identity, other.identity(), common)) for other in accounts]
    hits = [hit for hit in hits if hit.match.level is not Level.NONE]
    return sorted(hits, key=lambda hit: _STRENGTH.index(hit.match.level))


async def _lock(identity: Identity, call: Call) -> None:
    keys = sorted(f"{key.kind.value}:{key.value}" for key in identity.keys)
    if keys:
        await (await driver(call.db)).execute(_LOCKS, keys)
