"""Merging accounts over all services, and taking it back (MRG-1 … MRG-6).

Customer decides and changes the accounts themselves; every service, this one too, brings its references over by
`crmkit.merging` and answers. What accounts were before and right after stands in `merge_snapshots`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from crm.common.v1 import common_pb2
from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit import merging
from crmkit.call import Call
from crmkit.company import employed, today
from crmkit.describe import COMMON
from crmkit.driver import driver
from crmkit.errors import FailedPrecondition, NotFound, PermissionDenied
from crmkit.events import Fact, listens
from crmkit.map import APPS
from crmkit.mapping import mapper, to_timestamp
from crmkit.resource import Resource
from crmkit.schedule import every
from crmkit.tables import Repoint
from google.protobuf import json_format
from sqlalchemy import delete, exists, insert, or_, select

from customer import key_accounts, ownership
from customer.model.account import Account
from customer.model.consent import Consent
from customer.model.contact import Contact
from customer.model.credit import CreditProfile, follow_accounts
from customer.model.merge import Merge, MergeSnapshot
from customer.model.pool import Pool, PoolItem
from customer.model.timeline import TimelineEntry
from customer.model.transfer import Transfer
from customer.normalising import public_domains
from customer.sea import records
from customer.sea.states import watch
from customer.timeline import rebuild

SERVICES = frozenset(entry.name for entry in APPS if entry.database)
PREVIEW_LIVES = timedelta(hours=24)
UNDO_DAYS = 30
SHARED_DAYS = 30
PATIENCE = timedelta(minutes=15)
# Lists that are united, and what makes two entries of them the same.
_LISTS: Mapping[str, str] = {
    "phones": "number", "emails": "address", "addresses": "line", "aliases": "text", "tags": "", "roles": "",
}  # fmt: skip
_UNTOUCHED = frozenset(["name", "pool", "kind", "state", "merged_into", "collaborations", "display_name"])
_MERGE_MADE = "MERGE"
_NOT_ISSUED = frozenset(["DRAFT", "VOID"])


async def preview(merge: Merge, call: Call) -> None:
    """Asks every service; the answers come as facts."""
    merge.check_state("DRAFT", "PREVIEWED")
    accounts = await _accounts(merge, call)
    for account in accounts:
        account.check_settled()
    contacts = await _contacts(merge, accounts, call)
    merge.state, merge.preview, merge.acknowledgements = "DRAFT", [], []
    merge.preview_time, merge.digest = call.now, _digest(accounts)
    merge.display_name = " ← ".join(account.display_name for account in accounts)[:400]
    merge.proposed_pairs = await _proposals(merge, accounts, call)
    merge.blockers = await _blockers(merge, accounts, call)
    names = [row.name for row in (*accounts, *contacts)]
    call.emit(events.MergePreviewRequested, merge=merge, names=names, digest=merge.digest)


@listens("crm.*.v1.MergePreviewed")
async def on_merge_previewed(event: Fact, call: Call) -> None:
    """Takes a service's counts; when all have answered the merge may run."""
    answer = json_format.ParseDict(event.payload, common_pb2.MergePreviewed(), ignore_unknown_fields=True)
    merge = await _merge(answer.merge, call)
    if merge is None or merge.state != "DRAFT" or merge.digest != answer.digest:
        return
    if answer.service in merge.answered("PREVIEW"):
        return
    merge.preview = [*merge.preview, *_counts(answer.service, answer.counts)]
    invoiced = {
        one.name for one in answer.counts if one.collection == "invoices" and one.state not in _NOT_ISSUED
    }
    if not merge.lifted and len(await _tax_ids(invoiced, call)) > 1:
        blocker = pb.Merge.Blocker(reason="TAX_IDS_DIFFER", name=merge.survivor)
        merge.blockers = [*merge.blockers, blocker]
    _acknowledge(merge, answer.service, "PREVIEW", call)
    if merge.answered("PREVIEW") >= SERVICES:
        merge.state = "PREVIEWED"


async def run(merge: Merge, call: Call) -> None:
    """Makes one of the accounts here, and tells every service."""
    merge.check_runnable()
    accounts = await _accounts(merge, call, lock=True)
    for account in accounts:
        account.check_settled()
        if not await call.reaches(account, "update"):
            raise PermissionDenied("PERMISSION_DENIED", permission="customer.accounts.update")
    old = merge.preview_time is None or call.now - merge.preview_time > PREVIEW_LIVES
    if old or merge.digest != _digest(accounts):
        raise FailedPrecondition("PREVIEW_STALE")
    if busy := await _busy(merge, accounts, call):
        raise FailedPrecondition("MERGE_BLOCKED", reason=busy[0].reason)
    survivor, losers = accounts[0], accounts[1:]
    pairs = await _pairs(merge, accounts, call)
    people = [row for pair in pairs for row in pair]
    before = {row.name: _picture(row, call) for row in (*accounts, *people)}
    clocks = await _follow_ups(accounts, call)
    before[survivor.name] |= {"_clock": clocks.get(survivor.name, {}), "_owner_from": survivor.owner_from}
    for account in accounts:
        before[account.name]["_pooled"] = await _pooled(account, call)
    await _withdraw(merge, [(survivor, losers), *((one, [other]) for one, other in pairs)], call)
    for stays, goes in pairs:
        _unite(stays, [goes], {})
        goes.state, goes.merged_into = "MERGED", stays.name
        call.emit(events.ContactMerged, merge=merge.name, survivor=stays, loser=goes.name)
    _unite(survivor, losers, {choice.field: choice.source for choice in merge.choices})
    for loser in losers:
        await _leave_pool(loser, call)
        loser.state, loser.merged_into, loser.merging = "MERGED", survivor.name, merge.name
    await _share_out(merge, survivor, losers, call)
    survivor.merging = merge.name
    survivor.last_interaction_time = _latest(account.last_interaction_time for account in accounts)
    survivor.normalise()
    public = public_domains(call.config)
    call.after_flush(lambda: survivor.write_keys(survivor.identity(public), call))
    await _review_credit(survivor, losers, call)
    merge.state, merge.run_time, merge.undo_until_time = (
        "RUNNING",
        call.now,
        call.now + timedelta(days=UNDO_DAYS),
    )
    merge.moved, merge.left, merge.arrived = [], [], []
    latest = max(clocks.values(), key=lambda one: one.get("follow_up") or "", default={})
    changes = {"follow_up": datetime.fromisoformat(latest["follow_up"])} if latest.get("follow_up") else {}
    watch(survivor, call, **changes)
    for loser in losers:
        watch(loser, call)
    await call.flush()
    pictures = [
        {"merge": merge.name, "name": row.name, "before": before[row.name], "after": _picture(row, call)}
        for row in (*accounts, *people)
    ]
    await call.db.execute(insert(MergeSnapshot).values(pictures))
    await _tell(merge, call)


async def undo(merge: Merge, call: Call) -> None:
    """Gives the accounts back what is theirs, as far as nobody touched it, and tells every service."""
    merge.check_state("DONE")
    if merge.undo_until_time is None or call.now > merge.undo_until_time:
        raise FailedPrecondition("UNDO_EXPIRED")
    later = await call.find(
        Merge, Merge.state.in_(["RUNNING", "DONE", "UNDOING"]), Merge.run_time > merge.run_time,
        or_(Merge.survivor == merge.survivor, Merge.losers.contains([merge.survivor])),
    )  # fmt: skip
    if later is not None:
        raise FailedPrecondition("MERGE_HAS_LATER_MERGE", merge=later.number)
    accounts = await _accounts(merge, call, lock=True, merged=True)
    survivor, losers = accounts[0], accounts[1:]
    pictures = {
        one.name: one
        for one in await call.db.scalars(select(MergeSnapshot).where(MergeSnapshot.merge == merge.name))
    }
    people = await ownership.contacts_of(survivor, call)
    versions: dict[Resource, int] = {row: row.version for row in (*accounts, *people)}
    left = await _restore_owner(survivor, pictures[survivor.name], call)
    _restore(survivor, pictures[survivor.name], call)
    survivor.merging = merge.name
    for loser in losers:
        _restore(loser, pictures[loser.name], call)
        loser.state, loser.merged_into, loser.merging = pictures[loser.name].before["state"], "", merge.name
        await _back_to_pool(loser, pictures[loser.name].before["_pooled"], call)
        watch(loser, call)
    pairs = [
        (await _contact(pair.survivor, call), await _contact(pair.loser, call))
        for pair in merge.contact_pairs
    ]
    for row in (one for pair in pairs for one in pair):
        versions.setdefault(row, row.version)
    for stays, goes in pairs:
        _restore(stays, pictures[stays.name], call)
        _restore(goes, pictures[goes.name], call)
        goes.state, goes.merged_into = pictures[goes.name].before["state"], ""
        call.emit(events.ContactUnmerged, merge=merge.name, survivor=stays.name, restored=goes)
    await call.db.execute(
        delete(Consent).where(Consent.source == _MERGE_MADE, Consent.evidence == merge.name)
    )
    clock = pictures[survivor.name].before.get("_clock") or {}
    watch(
        survivor,
        call,
        follow_up=datetime.fromisoformat(clock["follow_up"]) if clock.get("follow_up") else None,
    )
    public = public_domains(call.config)
    for account in accounts:
        if account.state != "MERGED":
            account.normalise()
            call.after_flush(lambda account=account: account.write_keys(account.identity(public), call))
    merge.state, merge.moved, merge.left = "UNDOING", [], left
    merge.acknowledgements = [one for one in merge.acknowledgements if one.step != "UNDO"]
    await call.flush()
    await merging.own_changes(call, merge.name, versions)
    await _tell(merge, call)


async def resume(merge: Merge, call: Call) -> None:
    """Tells of the merge again; services that have done it answer again."""
    merge.check_state("RUNNING", "UNDOING")
    await _tell(merge, call)


@listens("crm.*.v1.MergeRepointed")
async def on_merge_repointed(event: Fact, call: Call) -> None:
    """Takes a service's answer; when all have answered the merge, or its undoing, is done."""
    answer = json_format.ParseDict(event.payload, common_pb2.MergeRepointed(), ignore_unknown_fields=True)
    merge = await _merge(answer.merge, call)
    under_way = {"RUNNING": "RUN", "UNDOING": "UNDO"}
    if merge is None or under_way.get(merge.state) != answer.direction:
        return
    if answer.service in merge.answered(answer.direction):
        return
    merge.moved = [*merge.moved, *_counts(answer.service, answer.counts)]
    merge.arrived = [
        *merge.arrived,
        *(pb.Merge.Arrival(service=answer.service, name=name) for name in answer.arrived),
    ]
    merge.left = [
        *merge.left,
        *(
            pb.Merge.Left(service=answer.service, name=one.name, field=one.field, reason=one.reason)
            for one in answer.left
        ),
    ]
    _acknowledge(merge, answer.service, answer.direction, call)
    if merge.answered(answer.direction) >= SERVICES:
        merge.state = "DONE" if answer.direction == "RUN" else "UNDONE"
        for account in await _accounts(merge, call, lock=True, merged=True):
            account.merging = ""


@listens("crm.customer.v1.AccountMerged", "crm.customer.v1.AccountUnmerged")
async def on_merge_decided(event: Fact, call: Call) -> None:
    """Lets every process know what was merged into what, chains flattened; repeated until the configuration has it."""
    wanted: dict[str, str] = {}
    async with call.everybody():
        for model in (Account, Contact):
            rows = await call.db.execute(
                select(model.id, model.merged_into).where(model.state == "MERGED", model.merged_into != "")
            )
            wanted |= {f"{model.described.collection}/{key}": into for key, into in rows}
    config = call.running.config
    known = config.prefix(merging.PREFIX)
    for name in wanted:
        end = wanted[name]
        while end in wanted:
            end = wanted[end]
        key = name.partition("/")[2]
        if (known.pop(key, None) or {}).get("to") != end:
            await config.put(merging.PREFIX + key, {"from": name, "to": end})
    for key in known:
        await config.delete(merging.PREFIX + key)


@every("5m", collapse=True)
async def watch_merges(as_of: datetime, call: Call) -> None:
    """Tells of a merge again where some service has kept silent for a quarter of an hour."""
    silent = select(Merge).where(
        Merge.state.in_(["RUNNING", "UNDOING"]), Merge.update_time < call.now - PATIENCE
    )
    for merge in await call.db.scalars(silent.with_for_update(skip_locked=True)):
        await _tell(merge, call)


async def after_merge(call: Call, merge: str, redirects: Mapping[str, str], undone: bool) -> None:
    """What references alone do not say: people of the survivor are its owner's, the time line and the clocks are one."""
    accounts = [name for name in (*redirects, *redirects.values()) if name.startswith("accounts/")]
    rows = {a.name: a for name in dict.fromkeys(accounts) if (a := await _account(name, call)) is not None}
    if not undone:
        for survivor in {redirects[name] for name in redirects if name in rows}:
            await _adopt(merge, rows[survivor], call)
    await call.flush()
    for account in rows.values():
        if account.state == "MERGED":
            await call.db.execute(delete(TimelineEntry).where(TimelineEntry.account == account.name))
        else:
            await rebuild(account.name, call)
    await records.count(sorted(account.id for account in rows.values()), call)
    for account in rows.values():
        if account.state != "MERGED":
            await key_accounts.keep(account, call)
    await follow_accounts([name for name, account in rows.items() if account.state != "MERGED"], call)


async def _adopt(merge: str, survivor: Account, call: Call) -> None:
    """Contacts that came over belong to whom the survivor belongs; the log knows whose they were."""
    mine = select(Repoint.row).where(
        Repoint.merge == merge,
        Repoint.table == "contacts",
        Repoint.column == "account",
        Repoint.state == "MOVED",
    )
    came = set(await call.db.scalars(mine))
    changes: list[tuple[Resource, str, Any]] = []
    for contact in await ownership.contacts_of(survivor, call):
        if str(contact.id) not in came:
            continue
        people = list(dict.fromkeys([*contact.collaborators, *survivor.collaborators]))
        for column, value in (
            ("owner", survivor.owner),
            ("department", survivor.department),
            ("collaborators", people),
        ):
            if (old := getattr(contact, column)) != value:
                setattr(contact, column, value)
                changes.append((contact, column, old))
    await call.flush()
    await merging.log_changes(call, merge, changes)


async def _tell(merge: Merge, call: Call) -> None:
    redirects = [events.Redirect(**{"from": name, "to": merge.survivor}) for name in merge.losers]
    redirects += [events.Redirect(**{"from": p.loser, "to": p.survivor}) for p in merge.contact_pairs]
    fact = events.AccountUnmerged if merge.state == "UNDOING" else events.AccountMerged
    call.emit(
        fact,
        merge=merge,
        survivor=merge.survivor,
        losers=list(merge.losers),
        redirects=redirects,
        time=call.now,
    )


def _unite(survivor: Any, losers: Sequence[Any], choices: Mapping[str, str]) -> None:
    """Lists are united; single values are chosen, the survivor's own, or the first that there is."""
    for name, field in survivor.described.fields.items():
        if (field.output_only and name not in _LISTS) or name in _UNTOUCHED or name in COMMON:
            continue
        if name in _LISTS:
            setattr(
                survivor, name, _united([getattr(row, name) for row in (survivor, *losers)], _LISTS[name])
            )
        elif name in choices:
            setattr(
                survivor,
                name,
                next(getattr(row, name) for row in (survivor, *losers) if row.name == choices[name]),
            )
        elif (
            name != "merging" and not getattr(survivor, name) and field.kind not in ("references", "messages")
        ):
            found = next((value for row in losers if (value := getattr(row, name))), None)
            if found is not None:
                setattr(survivor, name, found)
    for row in losers:
        survivor.custom = {**row.custom, **survivor.custom}
    if isinstance(survivor, Account):
        if "display_name" in choices:
            chosen = next(row for row in (survivor, *losers) if row.name == choices["display_name"])
            names = {row.display_name for row in (survivor, *losers)}
            survivor.display_name = chosen.display_name
        else:
            names = {row.display_name for row in losers}
        aliases = [
            pb.Account.Alias(text=text, kind="FORMER") for text in sorted(names - {survivor.display_name})
        ]
        survivor.aliases = _united([survivor.aliases, aliases], "text")


def _united(lists: Iterable[Iterable[Any]], key: str) -> list[Any]:
    found: dict[str, Any] = {}
    for entries in lists:
        for entry in entries:
            mark = getattr(entry, key) if key else entry
            if mark not in found:
                if found and getattr(entry, "primary", False):
                    copy = type(entry)()
                    copy.CopyFrom(entry)
                    copy.primary = not any(one.primary for one in found.values())
                    entry = copy
                found[mark] = entry
    return list(found.values())


async def _share_out(merge: Merge, survivor: Account, losers: Sequence[Account], call: Call) -> None:
    """The chosen owner has the customer, or the pool of the chosen one; the others work on it for thirty days more."""
    accounts = (survivor, *losers)
    chosen = next((c.source for c in merge.choices if c.field == "owner"), "")
    source = next((account for account in accounts if account.name == chosen), None)
    if source is None:
        # A customer that waits in a pool has no owner of its own to keep.
        source = next((account for account in accounts if account.owner), survivor)
    others = {account.owner for account in accounts} - {source.owner, ""}
    change = ownership.Change("MERGE", cause=merge.name, reason=merge.reason)
    if source.owner and source.owner != survivor.owner:
        await ownership.give(survivor, source.owner, change, call)
    elif source.pool and source.pool != survivor.pool:
        pool = await call.named(Pool, source.pool)
        if pool is None:
            raise FailedPrecondition("POOL_NOT_ALLOWED")
        await ownership.put_into_pool(survivor, pool, change, call)
    until = today(call) + timedelta(days=SHARED_DAYS)
    for other in sorted(others):
        if other != survivor.owner and other not in survivor.collaborators:
            await ownership.share(survivor, other, "WORK", until, merge.name, call)


async def _restore_owner(survivor: Account, picture: MergeSnapshot, call: Call) -> list[Any]:
    """Gives the survivor back to whose it was, or to its pool; tells of it where that cannot be."""
    before, after = picture.before.get("owner", ""), picture.after.get("owner", "")
    pool_before, pool_after = picture.before.get("pool", ""), picture.after.get("pool", "")
    for one in [c.employee for c in survivor.collaborations if c.cause == picture.merge]:
        await ownership.unshare(survivor, one, call)
    if (before, pool_before) == (after, pool_after) or (survivor.owner, survivor.pool) != (after, pool_after):
        return []
    change = ownership.Change("MERGE", cause=picture.merge)
    if before:
        if not employed(before, call):
            return [pb.Merge.Left(service="customer", name=survivor.name, field="owner", reason="CHANGED")]
        await ownership.give(survivor, before, change, call)
    else:
        pool = await call.named(Pool, pool_before)
        if pool is None or pool.state != "OPEN":
            return [pb.Merge.Left(service="customer", name=survivor.name, field="pool", reason="CHANGED")]
        keep = bool(picture.before.get("collaborators"))
        await ownership.put_into_pool(survivor, pool, change, call, keep_read=keep)
        await _leave_pool(survivor, call)
        await call.flush()
        await _back_to_pool(survivor, picture.before["_pooled"], call)
    since = picture.before.get("ownerTime")
    survivor.owner_time = datetime.fromisoformat(since) if since else None
    survivor.owner_how = picture.before.get("ownerHow", "")
    survivor.owner_from = picture.before["_owner_from"]
    return []


async def _review_credit(survivor: Account, losers: Sequence[Account], call: Call) -> None:
    """Two customers' credit is not one customer's: it is looked at anew."""
    profiles = [
        found
        for account in (survivor, *losers)
        if (found := await call.find(CreditProfile, CreditProfile.account == account.name, lock=True))
    ]
    if len(profiles) > 1 and profiles[0].account == survivor.name and profiles[0].state != "ON_HOLD":
        held = any(profile.state == "ON_HOLD" for profile in profiles)
        profiles[0].review(held, call)


async def _withdraw(
    merge: Merge, groups: Sequence[tuple[Account | Contact, Sequence[Account | Contact]]], call: Call
) -> None:
    """The strictest consent counts: who has withdrawn as one of them has withdrawn."""
    for survivor, losers in groups:
        subjects = [survivor.name, *(row.name for row in losers)]
        rows = await call.db.scalars(
            select(Consent).where(Consent.subject.in_(subjects)).order_by(Consent.time, Consent.id)
        )
        latest: dict[tuple[str, str, str], Consent] = {(r.subject, r.channel, r.purpose): r for r in rows}
        strict = {key[1:] for key, row in latest.items() if row.decision == "WITHDRAWN"}
        for channel, purpose in sorted(strict):
            mine = [row for key, row in latest.items() if key[1:] == (channel, purpose)]
            if any(row.decision != "WITHDRAWN" for row in mine):
                made = Consent(
                    subject=survivor.name, channel=channel, purpose=purpose, decision="WITHDRAWN", source=_MERGE_MADE,
                    evidence=merge.name, time=call.now,
                )  # fmt: skip
                await call.add(made)


async def _leave_pool(loser: Account, call: Call) -> None:
    if loser.pool:
        await call.flush()
        for item in await call.db.scalars(select(PoolItem).where(PoolItem.account == loser.name)):
            await call.db.delete(item)


async def _pooled(account: Account, call: Call) -> dict[str, Any] | None:
    """What is kept of the account's stay in a pool: another one goes on where it ended."""
    item = await call.find(PoolItem, PoolItem.account == account.name)
    return None if item is None else _picture(item, call)


async def _back_to_pool(account: Account, pooled: dict[str, Any] | None, call: Call) -> None:
    pool = await call.named(Pool, account.pool) if pooled else None
    if pooled is None or pool is None:
        return
    item = PoolItem(
        account=account.name, pool=pool.name, how=pooled["how"], pooled_time=datetime.fromisoformat(pooled["pooledTime"])
    )  # fmt: skip
    item.show(account, pool)
    await call.add(item)


async def _proposals(merge: Merge, accounts: Sequence[Account], call: Call) -> list[Any]:
    """Contacts with a telephone number or address in common that nobody has paired yet."""
    paired = {pair.loser for pair in merge.contact_pairs}
    found: list[Any] = []
    seen: dict[str, Contact] = {}
    for account in accounts:
        async with call.everybody():
            people = await call.db.scalars(
                select(Contact)
                .where(Contact.account == account.name, Contact.state == "ACTIVE")
                .order_by(Contact.id)
            )
        for contact in people:
            marks = {p.number for p in contact.phones if p.valid} | {
                e.address.lower() for e in contact.emails
            }
            known = next((seen[mark] for mark in sorted(marks) if mark in seen), None)
            if known is not None and known.account != contact.account and contact.name not in paired:
                found.append(pb.Merge.Pair(survivor=known.name, loser=contact.name))
            for mark in marks:
                seen.setdefault(mark, contact)
    return found


async def _blockers(merge: Merge, accounts: Sequence[Account], call: Call) -> list[Any]:
    found = await _busy(merge, accounts, call)
    organisation = call.running.directory.organisation
    segments = {organisation.segment(account.department) for account in accounts}
    if len(segments) > 1 and not call.caller.may("customer.accounts.across"):
        found.append(pb.Merge.Blocker(reason="SEGMENTS_DIFFER", name=merge.survivor))
    return found


async def _busy(merge: Merge, accounts: Sequence[Account], call: Call) -> list[Any]:
    """Another merge or a handover that has not done with these customers."""
    names = [account.name for account in accounts]
    found: list[Any] = []
    other = await call.find(
        Merge, Merge.state.in_(["RUNNING", "UNDOING"]), Merge.id != merge.id,
        or_(Merge.survivor.in_(names), Merge.losers.op("&&")(names)),
    )  # fmt: skip
    if other is not None:
        found.append(pb.Merge.Blocker(reason="MERGE_RUNNING", name=other.name))
    moved = exists().where(
        Repoint.merge == Transfer.sql_name(), Repoint.table == "accounts",
        Repoint.row.in_([str(account.id) for account in accounts]),
    )  # fmt: skip
    leavers = getattr(Transfer, "from").in_([account.owner for account in accounts if account.owner])
    handover = await call.find(Transfer, Transfer.state.in_(["RUNNING", "UNDOING"]), or_(leavers, moved))
    if handover is not None:
        found.append(pb.Merge.Blocker(reason="TRANSFER_RUNNING", name=handover.name))
    return found


async def _tax_ids(names: set[str], call: Call) -> set[str]:
    rows = [await _account(name, call) for name in sorted(names) if name.startswith("accounts/")]
    return {row.tax_id for row in rows if row is not None and row.tax_id_status in ("VALID", "UNVERIFIED")}


async def _follow_ups(accounts: Sequence[Account], call: Call) -> dict[str, dict[str, Any]]:
    rows = await (await driver(call.db)).fetch(
        "SELECT account, follow_up FROM sea_states WHERE account = ANY ($1) AND to_time = 'infinity'",
        [account.id for account in accounts],
    )
    return {
        f"accounts/{row['account']}": {"follow_up": row["follow_up"].isoformat() if row["follow_up"] else ""}
        for row in rows
    }


def _picture(row: Resource, call: Call) -> dict[str, Any]:
    return call.running.json_of(call.message_of(row))


def _restore(row: Any, picture: MergeSnapshot, call: Call) -> None:
    """Gives back every field that still is as the merge left it."""
    now = _picture(row, call)
    before = json_format.ParseDict(
        {k: v for k, v in picture.before.items() if not k.startswith("_")},
        type(row).__message__(),
        ignore_unknown_fields=True,
    )
    names: list[str] = []
    for name, field in row.described.fields.items():
        key = field.json_name
        if name in COMMON or picture.before.get(key) == picture.after.get(key):
            continue
        if now.get(key) == picture.after.get(key):
            names.append(name)
    mapper(type(row)).assign(
        row, before, [n for n in names if not row.described.fields[n].output_only], new=True, prefix=""
    )
    if "last_interaction_time" in names:
        time = before.last_interaction_time  # type: ignore[attr-defined]
        row.last_interaction_time = (
            time.ToDatetime(call.now.tzinfo) if before.HasField("last_interaction_time") else None
        )
    if now.get("custom") == picture.after.get("custom"):
        row.custom = picture.before.get("custom") or {}


async def _accounts(merge: Merge, call: Call, *, lock: bool = False, merged: bool = False) -> list[Account]:
    """Survivor and losers, in this order, locked in one order."""
    names = [merge.survivor, *merge.losers]
    found: dict[str, Account] = {}
    for name in sorted(names):
        account = await call.named(Account, name, lock=lock)
        if account is None:
            raise NotFound()
        if not merged:
            account.check_state("ACTIVE", "POOLED", "FROZEN")
        found[name] = account
    return [found[name] for name in names]


async def _contacts(merge: Merge, accounts: Sequence[Account], call: Call) -> list[Contact]:
    return [row for pair in await _pairs(merge, accounts, call) for row in pair]


async def _pairs(merge: Merge, accounts: Sequence[Account], call: Call) -> list[tuple[Contact, Contact]]:
    names = {account.name for account in accounts}
    found: list[tuple[Contact, Contact]] = []
    for pair in merge.contact_pairs:
        one, other = await _contact(pair.survivor, call), await _contact(pair.loser, call)
        for contact in (one, other):
            contact.check_state("ACTIVE", "LEFT")
            if contact.account not in names:
                raise FailedPrecondition("CONTACT_NOT_OF_ACCOUNT")
        found.append((one, other))
    return found


async def _contact(name: str, call: Call) -> Contact:
    row = await call.named(Contact, name, lock=True)
    if row is None:
        raise NotFound()
    return row


async def _account(name: str, call: Call) -> Account | None:
    return await call.named(Account, name, lock=True)


async def _merge(name: str, call: Call) -> Merge | None:
    return await call.named(Merge, name, lock=True)


def _digest(accounts: Sequence[Account]) -> str:
    return sha256(json.dumps([[a.name, a.etag] for a in accounts]).encode()).hexdigest()


def _latest(times: Iterable[datetime | None]) -> datetime | None:
    return max((time for time in times if time is not None), default=None)


def _counts(service: str, counts: Iterable[common_pb2.MergeCount]) -> list[Any]:
    """Counts of a service, states taken together."""
    found: dict[tuple[str, str, str], int] = {}
    for one in counts:
        key = (one.collection, one.field, one.name)
        found[key] = found.get(key, 0) + one.count
    return [
        pb.Merge.Count(service=service, collection=collection, field=field, name=name, count=count)
        for (collection, field, name), count in found.items()
    ]


def _acknowledge(merge: Merge, service: str, step: str, call: Call) -> None:
    one = pb.Merge.Acknowledgement(service=service, step=step, time=to_timestamp(call.now))
    merge.acknowledgements = [*merge.acknowledgements, one]
