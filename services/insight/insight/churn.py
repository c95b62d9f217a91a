"""Scores the risk of churn again where something has happened, and of everybody each night; tells what has changed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from crm.insight.v1 import events_pb2 as events
from crm.options.v1 import options_pb2
from crmkit import events as kit
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.listing import ZONE
from crmkit.schedule import cron, every
from sqlalchemy import select, update

from insight.model.churn import KINDS, MODEL, ChurnScore, Told, band_of, reasons
from insight.model.fact import Fact

AT_ONCE = 5_000
LOOKS_BACK = timedelta(days=3 * 365)
_DUE = (
    "INSERT INTO churn_scores (id, due) SELECT unnest($1::uuid[]), true"
    " ON CONFLICT (id) DO UPDATE SET due = true WHERE NOT churn_scores.due"
)


_OF_FACTS = (
    "INSERT INTO churn_scores (id, due) SELECT DISTINCT substr(account, 10)::uuid, true FROM facts"
    " WHERE account = ANY ($1) AND kind = ANY ($2) ON CONFLICT (id) DO UPDATE SET due = true"
)


async def await_scores(told: Sequence[kit.Fact], accounts: Sequence[str], call: Call) -> None:
    """Notes of whom something was told that counts; in the order of their ids, as others lock them."""
    due = {
        UUID(account.partition("/")[2])
        for fact, account in zip(told, accounts, strict=True)
        if fact.subject in KINDS and account.startswith("accounts/")
    }
    if due:
        await (await driver(call.db)).execute(_DUE, sorted(due))


async def after_merge(call: Call, merge: str, redirects: Mapping[str, str], undone: bool) -> None:
    """What was told of the merged accounts is the survivor's, or theirs again: those that have facts are scored anew."""
    connection = await driver(call.db)
    losers = sorted(UUID(name.partition("/")[2]) for name in redirects if name.startswith("accounts/"))
    await connection.execute("DELETE FROM churn_scores WHERE id = ANY ($1::uuid[])", losers)
    async with call.everybody():
        await connection.execute(_OF_FACTS, sorted({*redirects, *redirects.values()}), list(KINDS))


@every("30s", collapse=True)
async def score_churn(as_of: datetime, call: Call) -> None:
    """The accounts of which something was told, the rest the next time."""
    statement = select(ChurnScore).where(ChurnScore.due).order_by(ChurnScore.id).limit(AT_ONCE)
    due = list(await call.db.scalars(statement.with_for_update(skip_locked=True)))
    if not due:
        return
    names = {f"accounts/{score.id}": score for score in due}
    facts = select(Fact.account, Fact.kind, Fact.occur_time).where(
        Fact.account.in_(list(names)), Fact.kind.in_(KINDS), Fact.occur_time > call.now - LOOKS_BACK
    )
    found: dict[str, list[Told]] = defaultdict(list)
    async with call.everybody():
        for account, kind, moment in await call.db.execute(facts):
            found[account].append(Told(kind, moment.astimezone(ZONE).date()))
    day = as_of.astimezone(ZONE).date()
    for name, score in names.items():
        score.due = False
        factors = reasons(found[name], day)
        if factors is None:
            continue
        value = min(100, sum(one.points for one in factors))
        if (value, band_of(value)) == (score.value, score.band):
            continue
        before = value if score.value is None else score.value
        score.value, score.band, score.time = value, band_of(value), call.now
        told = events.ScoreChanged(
            target=name, kind="CHURN", value=value, band=score.band, model=MODEL, before=before
        )
        for one in factors:
            words = options_pb2.Text(zh=one.zh, en=one.en)
            told.factors.add(code=one.code, text=words, points=one.points)
        call.tell(events.ScoreChanged.DESCRIPTOR.full_name, told, None)


@cron("30 1 * * *", collapse=True)
async def score_everybody(as_of: datetime, call: Call) -> None:
    """Days go by: every score is looked at again."""
    await call.db.execute(
        update(ChurnScore)
        .where(~ChurnScore.due)
        .values(due=True)
        .execution_options(synchronize_session=False)
    )
