"""Which customers of a chunk exist already, asked for all of them at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from crmkit.call import Call
from crmkit.errors import NotFound
from crmkit.resource import parse_name
from crmkit.scope import predicate
from sqlalchemy import or_, select, text, tuple_

from customer.company_names import CompanyName
from customer.matching import COMMON_HOLDERS, Identity, KeyKind, Level, MatchKey, level_as_kept
from customer.model.account import Account, MatchKeyRow
from customer.normalising import public_domains

REFUSING = (Level.CERTAIN, Level.STRONG)
_HOLDERS = text(
    "SELECT k.kind, k.value, held.account FROM unnest(CAST(:kinds AS text[]), CAST(:values AS text[])) AS k(kind, value)"
    " CROSS JOIN LATERAL (SELECT account FROM match_keys m WHERE m.kind = k.kind AND m.value = k.value LIMIT :limit) held"
)
_LOCK = text(
    "SELECT count(pg_advisory_xact_lock(hashtextextended(key, 0))) FROM unnest(CAST(:keys AS text[])) AS key"
)


@dataclass(frozen=True)
class Twin:
    """The same customer: an account, or an earlier line."""

    level: Level
    account: UUID | None = None
    line: int = 0


async def lock(identities: Iterable[Identity], call: Call) -> None:
    """Keeps equal creates out until the end of the transaction, by the locks that a single create takes."""
    # A refused create took the same locks in the same order, so that nobody waits in a circle.
    keys = sorted({f"{key.kind.value}:{key.value}" for identity in identities for key in identity.deciding})
    if keys:
        await call.db.execute(_LOCK, {"keys": keys})


async def existing(identities: Sequence[Identity], call: Call) -> list[Twin | None]:
    """For each, the account that it is, whoever may see it."""
    keys = sorted({key for identity in identities for key in identity.deciding})
    if not keys:
        return [None] * len(identities)
    found = await call.db.execute(
        _HOLDERS,
        {
            "kinds": [k.kind.value for k in keys],
            "values": [k.value for k in keys],
            "limit": COMMON_HOLDERS + 1,
        },
    )
    holders: dict[MatchKey, list[UUID]] = defaultdict(list)
    for kind, value, account in found:
        holders[MatchKey(KeyKind(kind), value)].append(account)
    common = {key for key, accounts in holders.items() if len(accounts) > COMMON_HOLDERS}
    others = await _identities({one for key in holders for one in holders[key]}, call)
    return [_twin(identity, holders, common, others) for identity in identities]


def _twin(
    identity: Identity, holders: Any, common: set[MatchKey], others: dict[UUID, Identity]
) -> Twin | None:
    best: Twin | None = None
    for one in dict.fromkeys(account for key in identity.deciding for account in holders.get(key, ())):
        kept = [key for key in identity.deciding if one in holders.get(key, ())]
        if one in others and (found := same(identity, others[one], common, kept)):
            if found is Level.CERTAIN:
                return Twin(found, one)
            best = best or Twin(found, one)
    return best


def same(
    new: Identity, old: Identity, common: Iterable[MatchKey] = (), kept: Collection[MatchKey] = ()
) -> Level | None:
    """How surely the new one is the old one; a new one that says nothing beyond the old one is the same too.

    `kept` are the keys under which the old one was found.
    """
    found = level_as_kept(new, old, kept, set(common)).level
    if found in REFUSING:
        return found
    return Level.POSSIBLE if new.person and new.keys <= old.keys else None


async def _identities(keys: set[UUID], call: Call) -> dict[UUID, Identity]:
    if not keys:
        return {}
    async with call.everybody():
        statement = select(Account).where(Account.id.in_(keys), Account.state.not_in(["MERGED", "ARCHIVED"]))
        found = list(await call.db.scalars(statement))
    # Each segment has its own customers.
    segment_of = call.running.directory.organisation.segment
    mine = segment_of(call.caller.department)
    public = public_domains(call.config)
    return {a.id: a.identity(public) for a in found if not a.department or segment_of(a.department) == mine}


async def named(texts: Iterable[str], call: Call) -> dict[str, list[UUID]]:
    """The accounts of the caller's that each text names: by resource name, number or exact name."""
    wanted = {text: text.strip() for text in texts}
    found: dict[str, set[UUID]] = {text: set() for text in wanted}
    keys = {text: _key(bare) for text, bare in wanted.items()}
    by_name = {text: CompanyName.parse(bare).full for text, bare in wanted.items()}
    ids = {key for key in keys.values() if key}
    statement = select(Account.id, Account.number, Account.display_name, Account.legal_name).where(
        predicate(Account, call.caller),
        Account.state != "MERGED",
        or_(
            Account.id.in_(ids),
            Account.number.in_([bare for bare in wanted.values() if bare]),
            Account.id.in_(
                select(MatchKeyRow.account).where(
                    tuple_(MatchKeyRow.kind, MatchKeyRow.value).in_(
                        [(KeyKind.NAME_FULL.value, name) for name in set(by_name.values())]
                    )
                )
            ),
        ),
    )
    rows = (await call.db.execute(statement)).all() if wanted else []
    meant: dict[Any, set[UUID]] = defaultdict(set)
    for row in rows:
        for sign in (row.id, row.number, row.display_name, row.legal_name):
            if sign:
                meant[sign].add(row.id)
    for text_, bare in wanted.items():
        found[text_] = meant.get(keys[text_], set()) or meant.get(bare, set())
    return {text: sorted(accounts) for text, accounts in found.items()}


def _key(text: str) -> UUID | None:
    try:
        return parse_name(text, "accounts") if text.startswith("accounts/") else None
    except NotFound:
        return None
