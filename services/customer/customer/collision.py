"""Does this customer exist already, and what may the finder know of it? (COL-1 … COL-4)

The check runs inside the transaction that writes, under advisory locks on the blocking keys in sorted order, so
that two equal creates cannot both pass. What was typed is never thrown away: a refused create leaves a case.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_bytes
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import AlreadyExists, FailedPrecondition, PermissionDenied, ResourceExhausted
from crmkit.scope import predicate
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import func, inspect, or_, select
from uuid_utils.compat import uuid7

from customer.matching import COMMON_HOLDERS, Identity, KeyKind, Level, Match, MatchKey, level, level_as_kept
from customer.model.account import Account
from customer.model.duplicate_case import (
    CaseParty,
    CollisionCheck,
    DuplicateCase,
    SeparatePair,
)
from customer.model.pool import Pool
from customer.normalising import public_domains

CANDIDATES = 50
PER_DAY = 100
PER_MINUTE = 20
TOKEN_LIFE = timedelta(hours=24)
SHOWN = 5
ZONE = "Asia/Shanghai"
REFUSING = (Level.CERTAIN, Level.STRONG)
# unnest keeps the order of the array, so that two creates cannot wait for each other.
# The slower one waits to hear that the customer exists, rather than that it collides with another change.
_LOCKS = (
    "SELECT pg_advisory_xact_lock(hashtextextended(key, 0))"
    " FROM (SELECT set_config('lock_timeout', '5s', true)) AS patience, unnest($1::text[]) AS key"
)
# A statement of its own: it sees what was committed while the locks were waited for.
# Of each key no more holders than say that it is common: one that thousands hold leaves room for the others.
_HELD = (
    "SELECT held.account, wanted.kind, wanted.value FROM unnest($1::text[], $2::text[]) AS wanted(kind, value)"
    " CROSS JOIN LATERAL (SELECT k.account FROM match_keys k WHERE k.kind = wanted.kind AND k.value = wanted.value"
    f" AND k.account <> $3 LIMIT {COMMON_HOLDERS + 1}) AS held"
)
HOLDERS = (
    "SELECT DISTINCT h.lead, h.company_name, h.owner, h.department, h.time FROM"
    " unnest($1::text[], $2::text[]) AS w(kind, value) JOIN lead_keys k ON k.kind = w.kind AND k.value = w.value"
    " JOIN lead_holders h ON h.lead = k.lead WHERE h.live AND h.owner <> '' AND h.account = ''"
    " AND (h.until IS NULL OR h.until >= $3) ORDER BY h.lead LIMIT 20"
)
_CHECK = "INSERT INTO collision_checks (actor, hits) VALUES ($1, $2)"
_STRENGTH = [Level.CERTAIN, Level.STRONG, Level.POSSIBLE, Level.BRANCH_OF]


@dataclass(frozen=True)
class Hit:
    """An account like the one asked about, whoever may see it."""

    account: Account
    match: Match


async def refuse_collision(account: Account, call: Call) -> None:
    """Raises ACCOUNT_COLLISION where the customer exists; else the account's keys are written with it.

    A doubtful one is made, and a case says so. What a refused create typed is kept in a case.
    """
    identity = account.identity(public_domains(call.config))
    await _lock(identity, call)
    hits, foreign = await _by_segment(account, await find_hits(account, identity, call), call)
    refusing = [hit for hit in hits if hit.match.level in REFUSING]
    if refusing and not (account.despite and refusing[0].match.level is not Level.CERTAIN):
        if refusing[0].match.level is Level.CERTAIN or not _distinguished(account, call):
            raise await _refusal(account, refusing, call)
        await _keep_distinction(account, refusing, call)
    for hit in foreign:
        if (
            hit.match.level in REFUSING
            and (case := await open_pair(account, hit, "CREATE", call)) is not None
        ):
            # Two segments have it: nobody's but head office's to know.
            case.owner, case.claimant, case.department = "", "", _head_office(call)
    if not refusing and call.caller.employee and not account.despite:
        doubtful = [hit for hit in hits if hit.match.level is Level.POSSIBLE]
        # The same company with and without a branch is no duplicate: a relation is proposed (NAM-5).
        branches = [hit for hit in hits if hit.match.level is Level.BRANCH_OF]
        for hit in [*doubtful[:1], *branches[:SHOWN]]:
            await open_pair(account, hit, "CREATE", call)
    if inspect(account).persistent:
        call.after_flush(lambda: account.write_keys(identity, call))
    else:
        account.hold_keys(identity, call)


async def check(account: Account, call: Call) -> list[pb.CollisionHit]:
    """What the caller may know: her own hits in full, and one masked hit for all the others together."""
    if call.caller.account or not call.caller.employee:
        # Partners and keys learn it on submit alone.
        raise PermissionDenied("PERMISSION_DENIED", permission="customer.accounts.checkCollision")
    await _count_check(call)
    identity = account.identity(public_domains(call.config))
    if not account.department:
        account.department = call.caller.department
    hits, foreign = await _by_segment(account, await find_hits(account, identity, call), call)
    visible = await _visible([*hits, *foreign], call)
    hidden = [hit for hit in hits if hit.account.id not in visible]
    answer = [_plain(hit) for hit in (*hits, *foreign) if hit.account.id in visible][:SHOWN]
    if hidden:
        answer.append(_masked(hidden, call))
    elsewhere = [hit for hit in foreign if hit.account.id not in visible]
    if elsewhere and _hears_of_the_group(account, call):
        answer.append(pb.CollisionHit(level=elsewhere[0].match.level.value, situation="GROUP"))
    answer += await _wanted_by_others(identity, call)
    secret = [*hidden, *elsewhere]
    await _tell_owners([(hit.account.id, hit.match.level.value) for hit in secret], call)
    await (await driver(call.db)).execute(_CHECK, call.caller.actor, len(secret))
    return answer


async def _by_segment(account: Account, hits: list[Hit], call: Call) -> tuple[list[Hit], list[Hit]]:
    """The hits of the account's own segment, and those of others: each segment has its own customers."""
    if not hits:
        return [], []
    mine = await _segment(account, call)
    segments = [await _segment(hit.account, call) for hit in hits]
    own = [hit for hit, one in zip(hits, segments, strict=True) if one is None or mine is None or one == mine]
    return own, [hit for hit in hits if hit not in own]


async def _segment(account: Account, call: Call) -> str | None:
    """The segment whose customer it is; None for one that waits in a pool of the whole company."""
    if account.department or not account.pool:
        return call.running.directory.organisation.segment(account.department)
    pool = await call.named(Pool, account.pool)
    return (pool.segment if pool else "") or None


def _head_office(call: Call) -> str:
    parents = call.running.directory.organisation.parents
    return next((name for name, above in sorted(parents.items()) if not above), "")


def _hears_of_the_group(account: Account, call: Call) -> bool:
    """Whether the company lets the segment know that another one has the customer."""
    entry: dict[str, Any] = call.config("dictionary.collisionAcrossSegments") or {}
    own = {"*", call.running.directory.organisation.segment(account.department).rpartition("/")[2]}
    return any(one.get("key") in own and not one.get("retired") for one in entry.get("entries", ()))


def _distinguished(account: Account, call: Call) -> bool:
    """Whether somebody who may says now why it is another one."""
    said = account.distinction and inspect(account).attrs.distinction.history.has_changes()
    return bool(said) and call.caller.may("customer.accounts.create_despite")


async def _keep_distinction(account: Account, hits: list[Hit], call: Call) -> None:
    """Those who have the others hear of it, and a case keeps why it was done."""
    visible = await _visible(hits, call)
    hidden = [(hit.account.id, hit.match.level.value) for hit in hits if hit.account.id not in visible]
    await _tell_owners(hidden, call)
    if (case := await open_pair(account, hits[0], "CREATE", call)) is not None:
        case.statement = account.distinction


async def _wanted_by_others(identity: Identity, call: Call) -> list[pb.CollisionHit]:
    """One masked hit for the leads of others, and one for a partner's protected deal."""
    answer: list[pb.CollisionHit] = []
    for collection, situation in (("leads", "LEAD"), ("dealRegistrations", "PARTNER_PROTECTED")):
        found = [
            (row, match)
            for row in await holders(identity, call)
            if row["lead"].startswith(f"{collection}/") and row["owner"] != call.caller.employee
            and (match := level(identity, Identity.of([row["company_name"]]))).level is not Level.NONE
        ]  # fmt: skip
        if not found:
            continue
        row, match = min(found, key=lambda one: _STRENGTH.index(one[1].level))
        department = call.entry(row["department"])
        since = row["time"].astimezone(ZoneInfo(ZONE)).strftime("%Y-%m")
        answer.append(
            pb.CollisionHit(
                level=match.level.value, matched_by=sorted(match.kinds), situation=situation, since_month=since,
                department=row["department"], department_name=department.get("displayName", ""),
            )
        )  # fmt: skip
    return answer


async def holders(identity: Identity, call: Call) -> list[Any]:
    """Leads and protected registrations that share a key and belong to somebody."""
    keys = sorted(identity.asked)
    kinds, values = [key.kind.value for key in keys], [key.value for key in keys]
    today = call.now.astimezone(ZoneInfo(ZONE)).date()
    return await (await driver(call.db)).fetch(HOLDERS, kinds, values, today)


async def find_hits(account: Account, identity: Identity, call: Call) -> list[Hit]:
    """Accounts that share a key, strongest first, without those found to be different."""
    if not identity.keys:
        return []
    keys = sorted(identity.asked)
    kinds, values = [key.kind.value for key in keys], [key.value for key in keys]
    found = await (await driver(call.db)).fetch(_HELD, kinds, values, account.id)
    if not found:
        return []
    holders = Counter((row["kind"], row["value"]) for row in found)
    common = {key for key in identity.asked if holders[(key.kind.value, key.value)] > COMMON_HOLDERS}
    kept: dict[UUID, set[MatchKey]] = defaultdict(set)
    for row in found:
        kept[row["account"]].add(MatchKey(KeyKind(row["kind"]), row["value"]))
    shared = Counter({key: len(held - common) for key, held in kept.items() if held - common})
    ids = [key for key, _ in shared.most_common(CANDIDATES)]
    async with call.everybody():
        statement = select(Account).where(Account.id.in_(ids), Account.state.not_in(["MERGED", "ARCHIVED"]))
        accounts = (await call.db.scalars(statement)).all()
    public = public_domains(call.config)
    who = {other.id: other.identity(public) for other in accounts}
    hits = [Hit(one, level_as_kept(identity, who[one.id], kept[one.id], common)) for one in accounts]
    hits = [hit for hit in hits if hit.match.level is not Level.NONE]
    if hits:
        apart = await _separate(account.id, call)
        hits = [
            hit for hit in hits if apart.get(hit.account.id) != keys_digest(identity, who[hit.account.id])
        ]
    return sorted(hits, key=lambda hit: _STRENGTH.index(hit.match.level))


def keys_digest(one: Identity, other: Identity) -> str:
    """What two customers were compared by, whichever comes first."""
    return "|".join(
        sorted("+".join(f"{key.kind.value}:{key.value}" for key in sorted(i.keys)) for i in (one, other))
    )


async def separate(one: Account, other: Account, call: Call) -> None:
    """Writes the pair into the list of those that are not the same, until a key changes."""
    low, high = sorted([one, other], key=lambda account: account.id)
    public = public_domains(call.config)
    digest = keys_digest(low.identity(public), high.identity(public))
    await call.db.merge(SeparatePair(one=low.id, other=high.id, digest=digest))


async def open_pair(account: Account, hit: Hit, kind: str, call: Call) -> DuplicateCase | None:
    """A case about two accounts that are there; None where there was one before."""
    low, high = sorted([str(account.id), str(hit.account.id)])
    pair = f"{low}/{high}"
    # Another record of the same batch may have opened it, which the database has not been told yet.
    opened = any(isinstance(row, DuplicateCase) and row.pair == pair for row in call.db.new)
    if opened or await call.find(DuplicateCase, DuplicateCase.of_pair(pair)) is not None:
        return None
    case = new_case(account, [hit], kind, call)
    case.pair, case.account = pair, account.name
    await call.add(case)
    name_parties(case, [hit.account.name, account.name], call)
    return case


def read_token(token: str, call: Call) -> dict[str, Any]:
    """What a masked hit proves to this caller; COLLISION_TOKEN_EXPIRED for another's, an old or a bent one."""
    try:
        sealed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        body = json.loads(
            AESGCM(call.running.settings.secret).decrypt(sealed[:12], sealed[12:], b"collision")
        )
    except (InvalidTag, ValueError):
        raise FailedPrecondition("COLLISION_TOKEN_EXPIRED") from None
    if body["actor"] != call.caller.actor or body["until"] < call.now.timestamp():
        raise FailedPrecondition("COLLISION_TOKEN_EXPIRED")
    return body


async def _refusal(account: Account, hits: list[Hit], call: Call) -> AlreadyExists:
    """The refusal with what the caller may know, and what is done beside it: the case is kept, the owners are told."""
    strongest = hits[0].match.level.value
    claimant = call.caller.employee or account.owner
    visible = await _visible(hits, call)
    hidden = [hit for hit in hits if hit.account.id not in visible]
    told, shown_to = call.caller, [(hit.account.id, hit.match.level.value) for hit in hidden]
    if call.caller.account or not (call.caller.employee or call.caller.is_system):
        # Partners and keys learn that it exists and no more; whose it is hears that they tried.
        problem = AlreadyExists("ACCOUNT_COLLISION", level=strongest)
        problem.afterwards = lambda again: _note_check(told.actor, shown_to, again)
        return problem
    if hidden:
        await _count_check(call)
    known = await _known_case(hits, claimant, call)
    case = known or f"duplicateCases/{uuid7()}"
    shown = _plain(hits[0]) if hits[0].account.id in visible else _masked(hidden, call, case)
    problem = AlreadyExists(
        "ACCOUNT_COLLISION", level=strongest, case=case, account=shown.account, display_name=shown.display_name,
        department=shown.department, department_name=shown.department_name, since=shown.since_month,
        situation=shown.situation, token=shown.token, actions=",".join(shown.actions),
    )  # fmt: skip
    # Rows of the refused transaction are gone when this is written: only values go along.
    typed = call.message_of(account)
    template = new_case(account, hits, "LEAD" if told.is_system else "CREATE", call)
    names = [hit.account.name for hit in hits]

    async def keep(again: Call) -> None:
        if known is None:
            template.id, template.candidate, template.claimant = (
                UUID(case.rpartition("/")[2]),
                typed,
                claimant,
            )
            template.owner = claimant
            await again.add(template)
            name_parties(template, names, again)
        else:
            found = await again.named(DuplicateCase, known, lock=True)
            if found is not None:
                found.candidate = typed
        await _note_check(told.actor, shown_to, again)

    problem.afterwards = keep
    return problem


async def _known_case(hits: list[Hit], claimant: str, call: Call) -> str | None:
    """The caller's open case about the same customer, so that pressing twice makes one."""
    same = select(CaseParty.case).where(CaseParty.party == hits[0].account.name)
    found = await call.find(
        DuplicateCase,
        DuplicateCase.claimant == claimant,
        DuplicateCase.state == "OPEN",
        DuplicateCase.kind.in_(["CREATE", "LEAD"]),
        DuplicateCase.pair == "",
        DuplicateCase.id.in_(same),
    )
    return found.name if found else None


def new_case(account: Account, hits: list[Hit], kind: str, call: Call) -> DuplicateCase:
    """A case of whoever has, or wants, the account."""
    strongest = hits[0]
    return DuplicateCase(
        display_name=account.display_name, kind=kind, level=strongest.match.level.value,
        keys=sorted(strongest.match.kinds), claimant=account.owner or call.caller.employee, state="OPEN",
        other_department=strongest.account.department, situation=_situation(strongest.account),
        since_month=_month(strongest.account), owner=account.owner, department=account.department,
    )  # fmt: skip


def name_parties(case: DuplicateCase, names: list[str], call: Call) -> None:
    """Keeps who is behind the case, where its claimant does not see it."""

    async def write() -> None:
        rows = [(case.id, name) for name in dict.fromkeys(names)]
        await (await driver(call.db)).executemany(
            "INSERT INTO case_parties VALUES ($1, $2) ON CONFLICT DO NOTHING", rows
        )

    call.after_flush(write)


def _plain(hit: Hit) -> pb.CollisionHit:
    """The full record, for those who may see it."""
    account = hit.account
    return pb.CollisionHit(
        level=hit.match.level.value, matched_by=sorted(hit.match.kinds), account=account.name,
        display_name=account.display_name, department=account.department, situation=_situation(account),
        since_month=_month(account), actions=["OPEN"],
    )  # fmt: skip


def _masked(hits: list[Hit], call: Call, case: str = "") -> pb.CollisionHit:
    """One shape for one hit or many: no name, id, person, phone, amount or exact date."""
    strongest = hits[0]
    account = strongest.account
    department = call.entry(account.department)
    pooled = account.state == "POOLED"
    actions = ["CLAIM"] if pooled else ["REQUEST_COLLABORATION", "DISPUTE"]
    return pb.CollisionHit(
        level=strongest.match.level.value, matched_by=sorted(strongest.match.kinds), department=account.department,
        department_name=department.get("displayName", ""), since_month=_month(account),
        situation=_situation(account), actions=actions, token=_token(account, case, call),
    )  # fmt: skip


def _token(account: Account, case: str, call: Call) -> str:
    until = (call.now + TOKEN_LIFE).timestamp()
    body = json.dumps({"actor": call.caller.actor, "account": account.name, "case": case, "until": until})
    nonce = token_bytes(12)
    sealed = AESGCM(call.running.settings.secret).encrypt(nonce, body.encode(), b"collision")
    return urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()


def _situation(account: Account) -> str:
    return "IN_POOL" if account.state == "POOLED" else "OWNED"


def _month(account: Account) -> str:
    return (account.owner_time or account.create_time).astimezone(ZoneInfo(ZONE)).strftime("%Y-%m")


async def _visible(hits: list[Hit], call: Call) -> set[UUID]:
    ids = [hit.account.id for hit in hits]
    statement = select(Account.id).where(Account.id.in_(ids), predicate(Account, call.caller))
    return set(await call.db.scalars(statement))


async def _tell_owners(hits: list[tuple[UUID, str]], call: Call) -> None:
    """Whoever looks for a customer of somebody else is seen by its owner and the administrator."""
    for key, how_sure in hits[:SHOWN]:
        account = await call.find(Account, Account.id == key)
        if account is not None:
            call.emit(
                events.CollisionChecked,
                account=account,
                checker=call.caller.actor,
                level=how_sure,
                time=call.now,
            )


async def _note_check(actor: str, hidden: list[tuple[UUID, str]], call: Call) -> None:
    """What a refusal has told of others' customers counts as asked, and their owners hear of it."""
    if hidden:
        await (await driver(call.db)).execute(_CHECK, actor, len(hidden))
        await _tell_owners(hidden, call)


async def _count_check(call: Call) -> None:
    """COLLISION_QUOTA where the caller asks too often: a hundred a day, twenty a minute."""
    local = call.now.astimezone(ZoneInfo(ZONE))
    today = local.replace(hour=0, minute=0, second=0, microsecond=0)
    mine = CollisionCheck.actor == call.caller.actor
    counts = select(
        func.count().filter(CollisionCheck.time >= today),
        func.count().filter(CollisionCheck.time > call.now - timedelta(minutes=1)),
    ).where(mine, or_(CollisionCheck.time >= today, CollisionCheck.time > call.now - timedelta(minutes=1)))
    day, minute = (await call.db.execute(counts)).one()
    if day >= PER_DAY or minute >= PER_MINUTE:
        raise ResourceExhausted("COLLISION_QUOTA")


async def _separate(account: UUID, call: Call) -> dict[UUID, str]:
    statement = select(SeparatePair).where(or_(SeparatePair.one == account, SeparatePair.other == account))
    pairs = await call.db.scalars(statement)
    return {pair.other if pair.one == account else pair.one: pair.digest for pair in pairs}


async def _lock(identity: Identity, call: Call) -> None:
    keys = sorted(f"{key.kind.value}:{key.value}" for key in identity.asked)
    if keys:
        await (await driver(call.db)).execute(_LOCKS, keys)
