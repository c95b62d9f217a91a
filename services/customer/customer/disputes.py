"""Requests to work together, disputes and verdicts (COL-5 … COL-9)."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import FailedPrecondition, NotFound, Validation, Violation
from crmkit.events import Fact, listens
from crmkit.listing import ZONE
from crmkit.mapping import mapper, read_date, told_date
from crmkit.schedule import every
from google.protobuf import json_format
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from customer import collision, ownership
from customer.collision import Hit
from customer.company_names import CompanyName
from customer.identifiers import Phone
from customer.matching import Identity, Level, Match, level
from customer.model.account import Account
from customer.model.duplicate_case import CaseEvidence, CaseParty, DuplicateCase, LeadHolder
from customer.model.interaction import Interaction
from customer.model.merge import Merge
from customer.model.relation import AccountRelation
from customer.model.sea import WorkingDay
from customer.model.timeline import TimelineFact
from customer.normalising import public_domains

ANSWER_DAYS = 2
ARBITER_DAYS = 3
APPEAL_DAYS = 5
BACK_DATED = timedelta(hours=72)
OVERLAP = timedelta(hours=1)
# What shows that somebody has done business with a customer, beside follow-ups.
_TOUCHES = (
    "crm.sales.v1.OpportunityOpened", "crm.sales.v1.OpportunityWon", "crm.sales.v1.QuoteSent",
    "crm.sales.v1.QuoteAccepted", "crm.sales.v1.DealRegistrationApproved",
    "crm.orders.v1.ContractSigned", "crm.orders.v1.OrderPlaced",
)  # fmt: skip
_WAITING = ("WAITING_OWNER", "IN_ARBITRATION", "APPEALED")
# Verdicts that name the customer in dispute as the claimant's.
_WON = ("TRANSFER", "SHARE", "MERGE")
_CLOSED_LEADS = ("CONVERTED", "DISQUALIFIED", "CANCELLED")


async def request_collaboration(request: pb.RequestCollaborationRequest, call: Call) -> DuplicateCase:
    """Asks the owner behind a masked hit to share; silence goes up."""
    token = collision.read_token(request.token, call)
    case, account = await _case_of(token, "DISPUTE", call)
    case.statement, case.access = request.statement, request.access if request.access == "READ" else "WORK"
    case.until_date = read_date(request.until_date)
    case.state = "WAITING_OWNER"
    await _pass_to(case, account.owner, ANSWER_DAYS, call)
    return case


async def dispute(request: pb.DisputeDuplicateRequest, call: Call) -> DuplicateCase:
    """Disputes who owns the customer. The evidence is frozen now."""
    token = collision.read_token(request.token, call)
    case, account = await _case_of(token, "DISPUTE", call)
    case.statement, case.state = request.statement, "IN_ARBITRATION"
    await _freeze(case, account, call)
    await _pass_to(case, arbiter(case.claimant, account.owner, 0, call), ARBITER_DAYS, call)
    return case


async def respond(case: DuplicateCase, request: pb.RespondDuplicateCaseRequest, call: Call) -> None:
    """The owner, or the superior after silence, lets the claimant in or not."""
    case.check_state("WAITING_OWNER")
    if call.caller.employee != case.waiting_for:
        raise FailedPrecondition("NOT_ARBITER")
    if not request.accept and not request.answer:
        zh, en = "拒绝时请说明理由。", "Say why."
        raise Validation(Violation("answer", "REQUIRED", zh, en))
    account = await _account(case, call)
    if request.accept:
        access = request.access if request.access in ("READ", "WORK") else case.access
        until = read_date(request.until_date) or case.until_date
        await ownership.share(account, case.claimant, access, until, case.name, call)
        case.access, case.until_date, case.account = access, until, account.name
    case.answer = request.answer
    await _end(case, "ACCEPTED" if request.accept else "DECLINED", [account.name], call, final=True)


async def decide(case: DuplicateCase, request: Any, call: Call) -> None:
    """The arbiter's verdict, carried out at once."""
    verdict = pb.DuplicateCase.Verdict.Name(request.verdict)
    case.check_state("OPEN", "IN_ARBITRATION", "APPEALED")
    parties = await _parties(case, call)
    accounts = [name for name in parties if name.startswith("accounts/")]
    owners = await _owners(accounts, call)
    me = call.caller
    # A case that nobody disputes is the administrator's.
    chosen = me.employee == case.waiting_for if case.waiting_for else me.reach("accounts").everything
    if not chosen or me.employee in {case.claimant, *owners}:
        raise FailedPrecondition("NOT_ARBITER")
    splits = list(getattr(request, "splits", ()))
    if verdict == "SHARE" and (total := sum((Decimal(s.percent or "0") for s in splits), Decimal())) != 100:
        raise FailedPrecondition("SPLIT_NOT_100", sum=total)
    case.splits, case.answer = splits if verdict == "SHARE" else [], request.answer
    account = await _account(case, call)
    if case.state == "APPEALED" and verdict != case.verdict:
        await _take_back(case, account, accounts, call)
    if verdict in ("TRANSFER", "SHARE"):
        _lets_appeal(case, account.owner)
    match verdict:
        case "TRANSFER":
            if account.owner != case.claimant:
                change = ownership.Change("VERDICT", cause=case.name, reason=request.answer)
                await ownership.give(account, case.claimant, change, call)
            case.account = account.name
        case "SHARE":
            await ownership.share(account, case.claimant, "WORK", None, case.name, call)
            case.account = account.name
        case "MERGE":
            others = [name for name in accounts if name != account.name]
            if not others:
                raise FailedPrecondition("ILLEGAL_TRANSITION", state=verdict)
            draft = Merge(survivor=account.name, losers=others, reason=request.answer)
            draft.owner, draft.department = me.employee, me.department
            await call.add(draft)
            case.account = account.name
        case "SEPARATE" | "CREATE_ANYWAY":
            await _apart(case, accounts, call)
        case "RELATE":
            await _relate(case, account, call)
            return
        case _:
            if verdict != "KEEP":
                raise FailedPrecondition("ILLEGAL_TRANSITION", state=verdict)
    await _end(case, verdict, accounts, call, final=case.state == "APPEALED")


async def appeal(case: DuplicateCase, statement: str, call: Call) -> None:
    """Once, by a party, within five working days: the level above decides for good."""
    case.check_state("DECIDED")
    account = await _account(case, call)
    if call.caller.employee not in {case.claimant, case.holder, account.owner} - {""}:
        raise NotFound()
    if case.appeal_until_time is None or call.now > case.appeal_until_time:
        raise FailedPrecondition("APPEAL_TOO_LATE")
    case.state, case.statement = "APPEALED", f"{case.statement}\n\n{statement}".strip()
    case.appeal_until_time, case.rung = None, case.rung + 1
    above = _superior(case.waiting_for, call) or arbiter(case.claimant, account.owner, case.rung, call)
    await _pass_to(case, above, ARBITER_DAYS, call)


async def evidence(case: DuplicateCase, call: Call) -> pb.CollisionEvidence:
    """What each side did, for the one who decides."""
    if call.caller.employee != case.waiting_for and not call.caller.reach("accounts").everything:
        raise FailedPrecondition("NOT_ARBITER")
    kept = await call.db.scalar(select(CaseEvidence.evidence).where(CaseEvidence.case == case.id))
    if kept is None:
        return await _gather(case, await _account(case, call, lock=False), call)
    return json_format.ParseDict(kept, pb.CollisionEvidence(), ignore_unknown_fields=True)


@every("15m", collapse=True)
async def keep_deadlines(as_of: datetime, call: Call) -> None:
    """Silence goes up: from the owner to the superior, to arbitration, and level by level (COL-5, COL-6)."""
    late = select(DuplicateCase).where(
        DuplicateCase.state.in_([*_WAITING, "DECIDED"]), DuplicateCase.deadline <= call.now
    )
    for case in (await call.db.scalars(late.with_for_update(skip_locked=True))).all():
        account = await _account(case, call)
        if case.state == "DECIDED":
            case.state, case.deadline = "CLOSED", None
            continue
        case.rung += 1
        if case.state == "WAITING_OWNER" and case.rung == 1 and (above := _superior(account.owner, call)):
            await _pass_to(case, above, ANSWER_DAYS, call, escalated=True)
        elif case.state == "WAITING_OWNER":
            case.state = "IN_ARBITRATION"
            await _freeze(case, account, call)
            await _pass_to(
                case, arbiter(case.claimant, account.owner, 0, call), ARBITER_DAYS, call, escalated=True
            )
        else:
            above = _superior(case.waiting_for, call)
            await _pass_to(case, above or case.waiting_for, ARBITER_DAYS, call, escalated=True)


@listens("crm.sales.v1.ResourceChanged.leads", "crm.sales.v1.ResourceChanged.dealRegistrations")
async def on_lead_changed(event: Fact, call: Call) -> None:
    """Keeps the keys of leads and protected deals, and opens a case where somebody else's customer has the same (COL-8)."""
    lead, connection = event.payload.get("resource") or {}, await driver(call.db)
    name = event.aggregate
    state, deal = lead.get("state"), name.startswith("dealRegistrations/")
    live = event.payload.get("action") != "DELETED"
    live = live and (state == "APPROVED" if deal else state not in _CLOSED_LEADS)
    until = told_date(lead.get("protectUntilDate"))
    row = await connection.fetchval(
        "INSERT INTO lead_holders AS known (lead, version, company_name, owner, department, live, account, time, until)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (lead) DO UPDATE SET version = excluded.version,"
        " company_name = excluded.company_name, owner = excluded.owner, department = excluded.department,"
        " live = excluded.live, account = excluded.account, until = excluded.until"
        " WHERE known.version < excluded.version RETURNING lead",
        name, event.version or 0, lead.get("companyName", ""), lead.get("owner", ""), lead.get("department", ""),
        live, lead.get("account", ""), event.time, until,
    )  # fmt: skip
    if row is None:
        return
    await connection.execute("DELETE FROM lead_keys WHERE lead = $1", name)
    if not live:
        return
    identity = lead_identity(lead, call)
    rows = [(name, key.kind.value, key.value) for key in identity.keys]
    await connection.executemany("INSERT INTO lead_keys VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", rows)
    if not lead.get("owner") or lead.get("account"):
        return
    shadow = Account(display_name=lead.get("companyName") or lead.get("displayName") or name)
    shadow.owner, shadow.department = lead["owner"], lead.get("department", "")
    for hit in await collision.find_hits(shadow, identity, call):
        if hit.match.level in (Level.CERTAIN, Level.STRONG) and hit.account.owner != shadow.owner:
            await _lead_case(name, shadow, hit, call)


async def meet_leads(account: Account, call: Call) -> None:
    """A new customer that is somebody else's lead: a case, told to both (COL-8)."""
    identity = account.identity(public_domains(call.config))
    for row in await collision.holders(identity, call):
        if row["owner"] == account.owner:
            continue
        other = Identity.of([row["company_name"]])
        match = level(identity, other)
        if match.level in (Level.CERTAIN, Level.STRONG):
            shadow = Account(
                display_name=row["company_name"], owner=row["owner"], department=row["department"]
            )
            await _lead_case(row["lead"], shadow, Hit(account, match), call)


def lead_identity(lead: dict[str, Any], call: Call) -> Identity:
    """What tells who a lead is."""
    name = lead.get("companyName") or lead.get("displayName") or ""
    numbers = [*(phone.get("number", "") for phone in lead.get("phones", ())), lead.get("phone", "")]
    phones = [Phone.parse(number) for number in numbers if number]
    emails = [*(email.get("address", "") for email in lead.get("emails", ())), lead.get("email", "")]
    emails = [email for email in emails if email]
    return Identity.of(
        [name],
        person=not lead.get("companyName"),
        phones=phones,
        emails=emails,
        website=lead.get("website", ""),
        public_domains=public_domains(call.config),
    )


def arbiter(one: str, other: str, rung: int, call: Call) -> str:
    """The lowest superior of both sides who is neither, so many levels up; empty: the administrators'."""
    above = _chain(other, call)
    common = [boss for boss in _chain(one, call) if boss in above and boss not in (one, other)]
    return common[min(rung, len(common) - 1)] if common else ""


async def _lead_case(lead: str, shadow: Account, hit: Hit, call: Call) -> None:
    pair = f"{hit.account.id}/{lead}"
    if await call.find(DuplicateCase, DuplicateCase.of_pair(pair)) is not None:
        return
    kind = "DEAL" if lead.startswith("dealRegistrations/") else "LEAD"
    case = collision.new_case(shadow, [hit], kind, call)
    case.pair, case.owner, case.claimant = pair, shadow.owner, shadow.owner
    case.collaborators = [hit.account.owner] if hit.account.owner else []
    await call.add(case)
    collision.name_parties(case, [hit.account.name, lead], call)
    call.emit(events.CollisionFound, case=case, waiting_for=case.waiting_for)


async def _case_of(token: dict[str, Any], kind: str, call: Call) -> tuple[DuplicateCase, Account]:
    """The kept case of the token, or a new one; CASE_EXISTS where one is under way about the same customer."""
    account = await call.named(Account, token["account"])
    if account is None:
        raise NotFound()
    about = select(CaseParty.case).where(CaseParty.party == account.name)
    mine = (DuplicateCase.claimant == call.caller.employee, DuplicateCase.id.in_(about))
    running = await call.find(DuplicateCase, *mine, DuplicateCase.state.in_(_WAITING))
    if running is not None:
        raise FailedPrecondition("CASE_EXISTS", case=running.number)
    kept = await call.find(DuplicateCase, *mine, DuplicateCase.state == "OPEN", lock=True)
    if kept is not None:
        return kept, account
    claimant = Account(owner=call.caller.employee, department=call.caller.department, display_name="")
    case = collision.new_case(claimant, [Hit(account, Match(Level.STRONG))], kind, call)
    case.display_name = "撞单争议"
    await call.add(case)
    collision.name_parties(case, [account.name], call)
    return case, account


async def _pass_to(
    case: DuplicateCase, employee: str, days: int, call: Call, *, escalated: bool = False
) -> None:
    case.waiting_for, case.deadline = employee, await working_days_after(call.now, days, call)
    if employee and employee not in (case.owner, *case.collaborators):
        case.collaborators = [*case.collaborators, employee]
    call.emit(
        events.CollisionFound, case=case, waiting_for=employee, deadline=case.deadline, escalated=escalated
    )


async def working_days_after(start: datetime, days: int, call: Call) -> datetime:
    """The same time so many working days later."""
    local = start.astimezone(ZONE)
    later = select(WorkingDay.day).where(WorkingDay.day > local.date()).order_by(WorkingDay.day)
    day = await call.db.scalar(later.offset(days - 1).limit(1))
    return datetime.combine(day or local.date() + timedelta(days=days), local.timetz()).astimezone(UTC)


async def _end(case: DuplicateCase, verdict: str, accounts: list[str], call: Call, *, final: bool) -> None:
    case.verdict, case.decide_time = verdict, call.now
    if final:
        case.state, case.deadline, case.appeal_until_time = "CLOSED", None, None
    else:
        case.state = "DECIDED"
        case.appeal_until_time = case.deadline = await working_days_after(call.now, APPEAL_DAYS, call)
    leads = [name for name in await _parties(case, call) if name.startswith("leads/")]
    call.emit(
        events.CollisionDecided, case=case, verdict=verdict, splits=list(case.splits), accounts=accounts, leads=leads,
        final=final, arbiter=call.caller.employee, time=call.now,
    )  # fmt: skip


async def _apart(case: DuplicateCase, accounts: list[str], call: Call) -> None:
    """They are two: the kept candidate becomes a customer, and the pair is never raised again as it is."""
    others = [await _load(name, call) for name in accounts]
    if case.candidate is not None and not case.account:
        made = Account(despite=True)
        message = pb.Account()
        message.CopyFrom(case.candidate)
        message.ClearField("name")
        names = [
            name
            for name, field in Account.described.fields.items()
            if not field.output_only and name != "name"
        ]
        mapper(Account).assign(made, message, names, new=True, prefix="account")
        made.owner, made.department, made.creator = case.claimant, case.department, case.claimant
        made = await call.add(made)
        await call.flush()
        case.account = made.name
        others = [made, *others]
    first = others[0]
    for other in others[1:]:
        await collision.separate(first, other, call)


async def _relate(case: DuplicateCase, other: Account, call: Call) -> None:
    """One is a branch of the other: the relation is made, which ends the case."""
    if case.level != Level.BRANCH_OF.value or not case.account:
        raise FailedPrecondition("ILLEGAL_TRANSITION", state="RELATE")
    mine = await _load(case.account, call)
    branch, head = (mine, other) if CompanyName.parse(mine.display_name).branch else (other, mine)
    relation = AccountRelation(kind="BRANCH_OF", pays_for=False)
    setattr(relation, "from", branch.name)  # a word of Python
    relation.to, relation.owner, relation.department = head.name, branch.owner, branch.department
    await call.add(relation)


async def related(relation: AccountRelation, call: Call) -> None:
    """A branch was put under its head office: the proposal to do so is over (NAM-5)."""
    if relation.kind != "BRANCH_OF":
        return
    pair = "/".join(sorted(name.rpartition("/")[2] for name in (getattr(relation, "from"), relation.to)))
    case = await call.find(DuplicateCase, DuplicateCase.of_pair(pair), lock=True)
    if case is not None and case.state == "OPEN" and case.level == Level.BRANCH_OF.value:
        accounts = [name for name in await _parties(case, call) if name.startswith("accounts/")]
        await _end(case, "RELATE", accounts, call, final=True)
        # As one who sees it: whoever relates the two need not see whose case it is.
        await call.flush()


def _lets_appeal(case: DuplicateCase, holder: str) -> None:
    """Who had the customer alone until the verdict reads it, and may say no to it."""
    if not holder or holder == case.claimant:
        return
    case.holder = holder
    if holder not in case.collaborators:
        case.collaborators = [*case.collaborators, holder]


async def _take_back(case: DuplicateCase, account: Account, accounts: list[str], call: Call) -> None:
    """What the verdict before has given goes back: the final one alone counts."""
    if case.verdict not in _WON:
        return
    if case.verdict == "TRANSFER" and case.holder and account.owner == case.claimant:
        change = ownership.Change("VERDICT", cause=case.name, reason=case.statement)
        await ownership.give(account, case.holder, change, call)
    if case.verdict == "SHARE" and any(
        one.employee == case.claimant and one.cause == case.name for one in account.collaborations
    ):
        await ownership.unshare(account, case.claimant, call)
    case.account = next((name for name in accounts if name != account.name), "")


async def _freeze(case: DuplicateCase, account: Account, call: Call) -> None:
    found = await _gather(case, account, call)
    body = json.loads(json_format.MessageToJson(found))
    statement = insert(CaseEvidence).values(case=case.id, evidence=body, time=call.now)
    await call.db.execute(statement.on_conflict_do_nothing())


async def _gather(case: DuplicateCase, account: Account, call: Call) -> pb.CollisionEvidence:
    """First touch and follow-ups of both sides, by the server's clock."""
    found = pb.CollisionEvidence(case=case.name)
    found.frozen_time.FromDatetime(call.now)
    holder = found.sides.add(
        party=account.name,
        display_name=account.display_name,
        owner=account.owner,
        department=account.department,
    )
    _moment(holder, account.create_time, account.create_time, "CREATED", account.name, account.display_name)
    for line in await ownership.history(account, call):
        _moment(holder, line.time, line.time, f"OWNER_{line.kind}", account.name, line.employee)
    claimant = found.sides.add(party=case.claimant, owner=case.claimant, department=case.department)
    _moment(
        claimant,
        case.create_time or call.now,
        case.create_time or call.now,
        "CASE",
        case.name,
        case.statement,
    )
    async with call.everybody():
        statement = (
            select(Interaction).where(Interaction.account == account.name).order_by(Interaction.start_time)
        )
        for one in await call.db.scalars(statement.limit(500)):
            side = claimant if one.owner == case.claimant else holder
            _moment(side, one.start_time, one.create_time, "INTERACTION", one.name, one.summary)
        leads = select(LeadHolder).where(LeadHolder.owner == case.claimant, LeadHolder.company_name != "")
        core = account.identity()
        for lead in await call.db.scalars(leads.limit(200)):
            if level(core, Identity.of([lead.company_name])).level in (Level.CERTAIN, Level.STRONG):
                _moment(claimant, lead.time, lead.time, "LEAD", lead.lead, lead.company_name)
    heard = select(TimelineFact).where(TimelineFact.accounts.contains([account.name]))
    for fact in await call.db.scalars(
        heard.where(TimelineFact.subject.in_(_TOUCHES)).order_by(TimelineFact.time)
    ):
        source = next(
            (v for v in fact.payload.values() if isinstance(v, dict) and v.get("name") == fact.aggregate), {}
        )
        side = claimant if case.claimant in (source.get("owner"), fact.actor) else holder
        what = str(
            source.get("displayName") or source.get("number") or source.get("companyName") or fact.aggregate
        )
        _moment(side, fact.time, fact.time, fact.subject.rpartition(".")[2], fact.aggregate, what)
    for side in found.sides:
        moments = sorted(side.moments, key=lambda m: m.time.ToDatetime())
        del side.moments[:]
        side.moments.extend(moments)
    return found


def _moment(side: Any, time: datetime, entered: datetime, kind: str, ref: str, what: str) -> None:
    moment = side.moments.add(kind=kind, ref=ref, text=what[:200], back_dated=entered - time > BACK_DATED)
    moment.time.FromDatetime(time)
    moment.entry_time.FromDatetime(entered)


async def _parties(case: DuplicateCase, call: Call) -> list[str]:
    return list(
        await call.db.scalars(
            select(CaseParty.party).where(CaseParty.case == case.id).order_by(CaseParty.party)
        )
    )


async def _account(case: DuplicateCase, call: Call, *, lock: bool = True) -> Account:
    """The account that the other side has, or had until the verdict, locked for what is decided about it."""
    if case.verdict in _WON:
        return await _load(case.account, call, lock=lock)
    names = [
        name for name in await _parties(case, call) if name.startswith("accounts/") and name != case.account
    ]
    return await _load(names[0] if names else case.account, call, lock=lock)


async def _load(name: str, call: Call, *, lock: bool = True) -> Account:
    found = await call.named(Account, name, lock=lock)
    if found is None:
        raise NotFound()
    return found


async def _owners(names: list[str], call: Call) -> set[str]:
    async with call.everybody():
        ids = [name.rpartition("/")[2] for name in names]
        return set(await call.db.scalars(select(Account.owner).where(Account.id.in_(ids)))) - {""}


def _superior(employee: str, call: Call) -> str:
    entry = call.entry(employee)
    return entry.get("superior") or ""


def _chain(employee: str, call: Call) -> list[str]:
    found: list[str] = []
    while (employee := _superior(employee, call)) and employee not in found:
        found.append(employee)
    return found
