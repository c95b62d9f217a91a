"""Collisions: what the finder may know, and the fair ways in."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.driver import driver
from crmkit.errors import AlreadyExists, FailedPrecondition, PermissionDenied
from crmkit.testing import Refused, Service, local_date
from crmkit.text import fold
from customer import collision, disputes, normalising, scanning
from customer.collision import HOLDERS
from customer.company_names import NORMALISERS, CompanyName
from customer.identifiers import Phone
from customer.matching import Identity, Level
from customer.model.account import Account
from customer.model.duplicate_case import DuplicateCase
from sqlalchemy import event, select, text


@pytest.fixture(autouse=True)
async def nobody_has_asked(customer: Service) -> None:
    """Each test asks as often as it is allowed to."""
    async with customer.running.system_call("test", None) as call:
        await call.db.execute(text("DELETE FROM collision_checks"))


async def at(customer: Service, now: datetime, job: Any) -> None:
    """Runs a job as if it were that time."""
    async with customer.running.system_call("test", None) as call:
        call.now = now
        await job(now, call)


async def scanned(customer: Service) -> None:
    """Scans what has changed until now, to the end."""
    await at(customer, datetime.now(UTC) + timedelta(seconds=1), scanning.scan)
    await customer.eventually(lambda: idle(customer), 120)


async def idle(customer: Service) -> bool:
    """Whether no scan or decision is under way."""
    async with customer.running.system_call("test", None) as call:
        running = text(
            "SELECT count(*) FROM bulk_runs WHERE state IN ('QUEUED', 'RUNNING')"
            " AND kind IN ('ScanDuplicates', 'DecideDuplicateCases', 'RekeyAccounts')"
        )
        return await call.db.scalar(running) == 0


async def call_it_so(customer: Service, name: str, account: str) -> None:
    """Lets an account be called as another one, as data from before the check may be."""
    key = account.rpartition("/")[2]
    async with customer.running.system_call("test", None) as call:
        await call.db.execute(
            text("UPDATE accounts SET display_name = :name WHERE id = CAST(:id AS uuid)"),
            {"name": name, "id": key},
        )
        row = await call.find(Account, Account.id == key)
        assert row is not None
        await row.write_keys(row.identity(), call)


def company() -> str:
    """A name that nobody else has, in two spellings of one core."""
    return "".join(chr(0x4E00 + byte * 7) for byte in uuid4().bytes[:6])


async def hit(customer: Service, core: str) -> Any:
    """The masked hit of somebody in another branch."""
    answer = await customer.sales2.CheckAccountCollision(
        account={"displayName": f"{core}科技（北京）有限公司"}
    )
    assert len(answer.hits) == 1
    return answer.hits[0]


@pytest.mark.capability("c.profile")
async def test_a_refused_create_says_enough_and_no_more_and_keeps_what_was_typed(customer: Service) -> None:
    core = company()
    made = await customer.sales1.CreateAccount(
        account={"displayName": f"北京{core}科技有限责任公司", "phones": [{"number": "13812340000"}]}
    )
    typed = {
        "displayName": f"{core}科技（北京）有限公司",
        "needs": "三台离心机",
        "phones": [{"number": "13912340001"}],
    }
    refusals = []
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await customer.sales2.CreateAccount(account=typed)
        refusals.append(refused.value)
    told = dict(refusals[0].info.metadata)
    assert (refusals[0].reason, told["level"], told["situation"]) == ("ACCOUNT_COLLISION", "STRONG", "OWNED")
    assert told["since"] == datetime.now(UTC).astimezone(disputes.ZONE).strftime("%Y-%m")
    assert told["department_name"] and told["token"]
    secret = [made.name, made.number, made.display_name, made.owner, "13812340000"]
    assert not any(word in str(told) + refusals[0].status.message for word in secret)
    # Pressed twice, kept once, whole.
    assert refusals[1].info.metadata["case"] == told["case"]
    case = await customer.sales2.GetDuplicateCase(name=told["case"])
    assert (case.candidate.display_name, case.candidate.needs) == (typed["displayName"], "三台离心机")
    assert case.kind == pb.DuplicateCase.CREATE and not any(word in str(case) for word in secret)
    facts = await customer.facts("crm.customer.v1.CollisionChecked", made.name)
    assert {fact["checker"] for fact in facts} == {customer.person("sales2").employee}
    # The owner, and whoever sees the customer, gets the full record instead.
    mine = await customer.manager.CheckAccountCollision(account=typed)
    assert (mine.hits[0].account, mine.hits[0].token) == (made.name, "")


@pytest.mark.capability("c.collision")
async def test_of_fifty_creates_of_one_name_one_is_made(customer: Service) -> None:
    core = company()

    async def create() -> str:
        try:
            return (await customer.sales1.CreateAccount(account={"displayName": f"{core}科技有限公司"})).name
        except Refused as refused:
            return refused.reason

    answers = await asyncio.gather(*(create() for _ in range(50)))
    made = [answer for answer in answers if answer.startswith("accounts/")]
    assert len(made) == 1
    assert set(answers) - set(made) == {"ACCOUNT_COLLISION"}


async def test_asking_is_limited_and_five_hits_look_like_one(customer: Service) -> None:
    core = company()
    for place in ("武汉", "成都", "西安"):
        await customer.sales1.CreateAccount(account={"displayName": f"{place}{core}科技有限公司"})
    stranger = customer.client("stranger")
    answer = await stranger.CheckAccountCollision(account={"displayName": f"{core}科技有限公司"})
    assert len(answer.hits) == 1
    async with customer.running.system_call("test", None) as call:
        me = customer.person("stranger").employee
        await call.db.execute(
            text("INSERT INTO collision_checks (actor) SELECT :me FROM generate_series(1, 19)"), {"me": me}
        )
    with pytest.raises(Refused) as refused:
        await stranger.CheckAccountCollision(account={"displayName": core})
    assert refused.value.reason == "COLLISION_QUOTA"
    async with customer.running.system_call("test", None) as call:
        await call.db.execute(text("DELETE FROM collision_checks WHERE actor = :me"), {"me": me})


@pytest.mark.capability("c.collision")
async def test_an_owner_is_asked_and_lets_the_other_in_for_reading(customer: Service) -> None:
    core = company()
    made = await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
    found = await hit(customer, core)
    case = await customer.sales2.RequestCollaboration(
        token=found.token,
        access="READ",
        statement="我方有在谈项目",
        untilDate={"year": 2027, "month": 1, "day": 31},
    )
    assert (case.state, case.waiting_for) == (
        pb.DuplicateCase.WAITING_OWNER,
        customer.person("sales1").employee,
    )
    with pytest.raises(Refused) as refused:
        await customer.sales2.RequestCollaboration(token=found.token)
    assert refused.value.reason == "CASE_EXISTS"
    for token in (found.token, "x" * 40):
        with pytest.raises(Refused) as refused:
            await customer.client("everything").RequestCollaboration(token=token)
        assert refused.value.reason == "COLLISION_TOKEN_EXPIRED"
    with pytest.raises(Refused) as refused:
        await customer.sales2.RespondDuplicateCase(name=case.name, accept=True)
    assert refused.value.reason == "NOT_ARBITER"
    done = await customer.sales1.RespondDuplicateCase(name=case.name, accept=True)
    assert (done.verdict, done.state) == (pb.DuplicateCase.ACCEPTED, pb.DuplicateCase.CLOSED)
    seen = await customer.sales2.GetAccount(name=made.name)
    assert [(c.access, c.until_date.year) for c in seen.collaborations] == [("READ", 2027)]
    with pytest.raises(Refused) as refused:
        await customer.sales2.UpdateAccount(account={"name": made.name, "needs": "改写"}, updateMask="needs")
    assert refused.value.reason == "READ_ONLY_COLLABORATOR"


async def test_silence_goes_to_the_superior_then_to_arbitration_and_up(customer: Service) -> None:
    core = company()
    await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
    case = await customer.sales2.RequestCollaboration(token=(await hit(customer, core)).token)
    for n, (state, waiting) in enumerate(
        [("WAITING_OWNER", "manager"), ("IN_ARBITRATION", "zong"), ("IN_ARBITRATION", "zong")], start=1
    ):
        for _ in range(2):
            await at(customer, datetime.now(UTC) + timedelta(days=20 * n), disputes.keep_deadlines)
        case = await customer.admin.GetDuplicateCase(name=case.name)
        assert (pb.DuplicateCase.State.Name(case.state), case.waiting_for) == (
            state,
            customer.person(waiting).employee,
        )
        assert case.rung == n
    facts = await customer.facts("crm.customer.v1.CollisionFound", case.name)
    assert [fact.get("escalated", False) for fact in facts] == [False, True, True, True]


@pytest.mark.capability("c.collision")
async def test_a_dispute_is_decided_on_frozen_evidence_by_one_without_a_stake(customer: Service) -> None:
    core = company()
    made = await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
    contact = await customer.sales1.CreateContact(contact={"displayName": "李四", "account": made.name})
    early = (datetime.now(UTC) - timedelta(days=10)).isoformat().replace("+00:00", "Z")
    await customer.sales1.CreateInteraction(
        interaction={
            "account": made.name,
            "channel": "VISIT",
            "startTime": early,
            "summary": "补记的拜访",
            "result": "好",
        }
    )
    case = await customer.sales2.DisputeDuplicate(
        token=(await hit(customer, core)).token, statement="我方先接触"
    )
    zong = customer.client("zong")
    assert (case.state, case.waiting_for) == (
        pb.DuplicateCase.IN_ARBITRATION,
        customer.person("zong").employee,
    )
    for client in (customer.sales1, customer.sales2):
        with pytest.raises(Refused) as refused:
            await client.DecideDuplicateCase(name=case.name, verdict="KEEP", answer="我的")
        assert refused.value.reason in ("NOT_ARBITER", "NOT_FOUND")
    with pytest.raises(Refused):
        await customer.sales2.GetCollisionEvidence(name=case.name)
    sides = (await zong.GetCollisionEvidence(name=case.name)).sides
    assert sides[0].party == made.name and sides[1].owner == customer.person("sales2").employee
    assert [m.back_dated for m in sides[0].moments if m.kind == "INTERACTION"] == [True]
    await customer.sales1.CreateInteraction(
        interaction={
            "account": made.name,
            "channel": "VISIT",
            "startTime": early,
            "summary": "争议后补写",
            "result": "好",
        }
    )
    assert len((await zong.GetCollisionEvidence(name=case.name)).sides[0].moments) == len(sides[0].moments)
    with pytest.raises(Refused) as refused:
        await zong.DecideDuplicateCase(
            name=case.name, verdict="SHARE", answer="共享",
            splits=[{"employee": customer.person("sales1").employee, "percent": "60"}],
        )  # fmt: skip
    assert refused.value.reason == "SPLIT_NOT_100"
    decided = await zong.DecideDuplicateCase(name=case.name, verdict="TRANSFER", answer="首次接触在先")
    assert decided.state == pb.DuplicateCase.DECIDED
    assert (await customer.sales2.GetAccount(name=made.name)).owner == customer.person("sales2").employee
    assert (await customer.sales2.GetContact(name=contact.name)).owner == customer.person("sales2").employee
    owner = (await customer.facts("crm.customer.v1.AccountOwnerChanged", made.name))[-1]
    assert (owner["how"], owner["cause"], owner["from"]) == (
        "VERDICT",
        case.name,
        customer.person("sales1").employee,
    )
    fact = (await customer.facts("crm.customer.v1.CollisionDecided", case.name))[0]
    assert (fact["verdict"], fact["accounts"]) == ("TRANSFER", [made.name])
    appealed = await customer.sales2.AppealDuplicateCase(name=case.name, statement="仍有异议")
    assert appealed.state == pb.DuplicateCase.APPEALED
    with pytest.raises(Refused):
        await customer.sales2.AppealDuplicateCase(name=case.name, statement="再来一次")
    final = await customer.client("zong").DecideDuplicateCase(name=case.name, verdict="KEEP", answer="终裁")
    assert (final.state, final.verdict) == (pb.DuplicateCase.CLOSED, pb.DuplicateCase.KEEP)
    with pytest.raises(Refused) as refused:
        await customer.sales2.AppealDuplicateCase(name=case.name, statement="晚了")
    assert refused.value.reason == "ILLEGAL_TRANSITION"


@pytest.mark.capability("c.collision")
@pytest.mark.parametrize("first", ["TRANSFER", "SHARE"])
async def test_who_loses_by_a_verdict_appeals_and_what_it_gave_goes_back(
    customer: Service, first: str
) -> None:
    core, zong = company(), customer.client("zong")
    holder, claimant = customer.person("sales1").employee, customer.person("sales2").employee
    made = await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
    case = await customer.sales2.DisputeDuplicate(
        token=(await hit(customer, core)).token, statement="我方先接触"
    )
    shares = [{"employee": holder, "percent": "50"}, {"employee": claimant, "percent": "50"}]
    splits = shares if first == "SHARE" else []
    await zong.DecideDuplicateCase(name=case.name, verdict=first, answer="初裁", splits=splits)
    assert (await customer.sales2.GetAccount(name=made.name)).name == made.name
    # Whoever had it reads the case and says no; who has no stake has no voice.
    assert (await customer.sales1.GetDuplicateCase(name=case.name)).holder == holder
    for client in (zong, customer.manager):
        with pytest.raises(Refused) as refused:
            await client.AppealDuplicateCase(name=case.name, statement="代为申诉")
        assert refused.value.reason in ("NOT_FOUND", "PERMISSION_DENIED")
    appealed = await customer.sales1.AppealDuplicateCase(name=case.name, statement="客户一直由我跟进")
    assert appealed.state == pb.DuplicateCase.APPEALED
    final = await zong.DecideDuplicateCase(name=case.name, verdict="KEEP", answer="终裁")
    assert (final.state, final.verdict, final.account) == (
        pb.DuplicateCase.CLOSED,
        pb.DuplicateCase.KEEP,
        "",
    )
    assert (await customer.sales1.GetAccount(name=made.name)).owner == holder
    with pytest.raises(Refused) as refused:
        await customer.sales2.GetAccount(name=made.name)
    assert refused.value.reason == "NOT_FOUND"


@pytest.mark.capability("c.collision")
async def test_two_found_different_are_never_raised_again_until_a_key_changes(customer: Service) -> None:
    core = company()
    made = await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
    typed = {"displayName": f"{core}科技（北京）有限公司", "background": "另一家"}
    with pytest.raises(Refused) as refused:
        await customer.sales2.CreateAccount(account=typed)
    case = refused.value.info.metadata["case"]
    decided = await customer.client("zong").DecideDuplicateCase(
        name=case, verdict="SEPARATE", answer="两家公司"
    )
    other = await customer.sales2.GetAccount(name=decided.account)
    assert (other.background, other.owner) == ("另一家", customer.person("sales2").employee)
    await customer.sales2.UpdateAccount(account={"name": other.name, "website": ""}, updateMask="website")
    await scanned(customer)
    pairs = (
        await customer.admin.ListDuplicateCases(filter=f'kind = SCAN AND account = "{other.name}"')
    ).duplicate_cases
    assert not pairs
    with pytest.raises(Refused) as refused:
        await customer.sales2.UpdateAccount(
            account={"name": other.name, "legalName": f"北京{core}科技有限公司"}, updateMask="legalName"
        )
    assert refused.value.reason == "ACCOUNT_COLLISION"
    assert made.name


async def test_the_scan_opens_one_case_a_pair_and_many_are_decided_at_once(customer: Service) -> None:
    cores = [company() for _ in range(2)]
    for core in cores:
        await customer.admin.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
        other = {"displayName": f"{company()}贸易有限公司"}
        made = await customer.admin.CreateAccount(account=other)
        await call_it_so(customer, f"{core}科技有限公司", made.name)
    for _ in range(2):
        await scanned(customer)
    found = (
        await customer.admin.ListDuplicateCases(filter="kind = SCAN AND state = OPEN", pageSize=200)
    ).duplicate_cases
    mine = [case for case in found if any(core in case.display_name for core in cores)]
    assert len(mine) == 2
    decided = await customer.client("zong").BatchDecideDuplicateCases(
        names=[case.name for case in mine], verdict="SEPARATE", answer="逐一核对"
    )
    assert {case.verdict for case in decided.duplicate_cases} == {pb.DuplicateCase.SEPARATE}


async def test_somebody_elses_lead_and_a_new_customer_make_a_case(customer: Service) -> None:
    core, lead = company(), f"leads/{uuid4()}"
    resource = {
        "name": lead, "companyName": f"{core}科技有限公司", "owner": customer.person("sales2").employee,
        "department": customer.person("sales2").department, "state": "NEW",
    }  # fmt: skip
    await customer.tell(
        "crm.sales.v1.ResourceChanged", {"name": lead, "action": "CREATED", "resource": resource}, lead
    )

    async def known() -> bool:
        async with customer.running.system_call("test", None) as call:
            return bool(await call.db.scalar(text("SELECT 1 FROM lead_holders WHERE lead = :l"), {"l": lead}))

    await customer.eventually(known)
    made = await customer.sales1.CreateAccount(account={"displayName": f"{core}科技有限公司"})
    found = (await customer.sales2.ListDuplicateCases(filter="kind = LEAD")).duplicate_cases
    assert [case.display_name for case in found if core in case.display_name] == [f"{core}科技有限公司"]
    assert made.name not in str(found)
    # The other way round: the lead comes when the customer is there.
    second, late = company(), f"leads/{uuid4()}"
    await customer.sales1.CreateAccount(account={"displayName": f"{second}科技有限公司"})
    resource |= {"name": late, "companyName": f"{second}科技有限公司"}
    await customer.tell(
        "crm.sales.v1.ResourceChanged", {"name": late, "action": "CREATED", "resource": resource}, late
    )

    async def opened() -> bool:
        cases = (await customer.sales2.ListDuplicateCases(filter="kind = LEAD")).duplicate_cases
        return any(second in case.display_name for case in cases)

    await customer.eventually(opened)


@pytest.mark.capability("c.collision")
async def test_who_may_says_why_it_is_another_one_and_no_reason_is_enough_for_one_tax_id(
    customer: Service, tax_id: Callable[[], str]
) -> None:
    core, taxed = company(), tax_id()
    made = await customer.sales1.CreateAccount(
        account={"displayName": f"北京{core}科技有限公司", "taxId": taxed}
    )
    typed = {"displayName": f"{core}科技（北京）有限公司"}
    for client, fields in ((customer.sales2, {"distinction": "另一家"}), (customer.admin, {})):
        with pytest.raises(Refused) as refused:
            await client.CreateAccount(account=typed | fields)
        assert refused.value.reason == "ACCOUNT_COLLISION"
    with pytest.raises(Refused) as refused:
        await customer.admin.CreateAccount(account=typed | {"taxId": taxed, "distinction": "另一家"})
    assert (refused.value.reason, refused.value.info.metadata["level"]) == ("ACCOUNT_COLLISION", "CERTAIN")
    other = await customer.admin.CreateAccount(account=typed | {"distinction": "同名的另一家，工商登记不同"})
    # The reason stands on the record, in its change fact for the audit, and in a case.
    changed = await customer.facts("crm.customer.v1.ResourceChanged", other.name)
    assert changed[0]["resource"]["distinction"] == other.distinction == "同名的另一家，工商登记不同"
    pair = f'kind = CREATE AND account = "{other.name}"'
    (case,) = (await customer.admin.ListDuplicateCases(filter=pair)).duplicate_cases
    assert case.statement == other.distinction and made.name not in str(case)
    # What was said once does not let the next change pass.
    with pytest.raises(Refused) as refused:
        await customer.admin.UpdateAccount(
            account={"name": other.name, "legalName": f"北京{core}科技有限责任公司"}, updateMask="legalName"
        )
    assert refused.value.reason == "ACCOUNT_COLLISION"


@pytest.mark.capability("c.collision")
async def test_a_doubtful_one_is_made_with_a_case_and_a_change_of_keys_is_looked_at_too(
    customer: Service,
) -> None:
    core = company()
    first = await customer.sales1.CreateAccount(account={"displayName": f"武汉{core}科技有限公司"})
    second = await customer.sales2.CreateAccount(account={"displayName": f"成都{core}科技有限公司"})
    pair = f'account = "{second.name}"'
    (case,) = (await customer.sales2.ListDuplicateCases(filter=pair)).duplicate_cases
    assert (case.level, case.kind, case.state) == (
        "POSSIBLE",
        pb.DuplicateCase.CREATE,
        pb.DuplicateCase.OPEN,
    )
    assert first.name not in str(case) and first.owner not in str(case)
    # What is not disputed yet is gathered as it stands.
    sides = (await customer.admin.GetCollisionEvidence(name=case.name)).sides
    assert [side.owner for side in sides] == [first.owner, second.owner]
    # Two keys of different data are as good as a name; so is another name later.
    phone = {"phones": [{"number": f"139{uuid4().int % 10**8:08}"}]}
    await customer.sales1.UpdateAccount(account={"name": first.name, **phone}, updateMask="phones")
    for change in (phone, {"aliases": [{"text": f"武汉{core}科技", "kind": "SHORT"}]}):
        with pytest.raises(Refused) as refused:
            mask = next(iter(change))
            await customer.sales2.UpdateAccount(account={"name": second.name, **change}, updateMask=mask)
        assert (refused.value.reason, refused.value.info.metadata["level"]) == ("ACCOUNT_COLLISION", "STRONG")


async def test_a_token_is_a_way_into_the_sea_for_a_day_and_a_refusal_gives_its_reason(
    customer: Service,
) -> None:
    core, me = company(), customer.person("sales2").employee
    members = [customer.person("sales1").employee, me]
    pool = await customer.admin.CreatePool(pool={"displayName": f"公海{core}", "memberEmployees": members})
    made = await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
    owned = await hit(customer, core)
    case = await customer.sales2.RequestCollaboration(
        token=owned.token, access="WORK", statement="有在谈项目"
    )
    with pytest.raises(Refused) as refused:
        await customer.sales1.RespondDuplicateCase(name=case.name, accept=False)
    assert refused.value.violations == {"answer": "REQUIRED"}
    done = await customer.sales1.RespondDuplicateCase(name=case.name, accept=False, answer="我方合同在执行")
    assert (done.verdict, done.answer) == (pb.DuplicateCase.DECLINED, "我方合同在执行")
    await customer.sales1.ReleaseAccount(name=made.name, pool=pool.name, reason="暂不跟进")
    pooled = await hit(customer, core)
    assert (pooled.situation, list(pooled.actions)) == ("IN_POOL", ["CLAIM"])
    # A day later the token opens nothing.
    async with customer.running.system_call("test", None) as call:
        call.caller = await customer.eventually(lambda: customer.running.directory.acting(me))
        assert collision.read_token(pooled.token, call)["account"] == made.name
        call.now += timedelta(hours=24, seconds=1)
        with pytest.raises(FailedPrecondition) as late:
            collision.read_token(pooled.token, call)
        assert late.value.reason == "COLLISION_TOKEN_EXPIRED"
    claimed = await customer.sales2.ClaimCollision(token=pooled.token)
    assert (claimed.name, claimed.owner) == (made.name, me)


@pytest.mark.capability("c.collision")
async def test_a_branch_is_made_and_proposed_as_one_of_its_company(customer: Service) -> None:
    core, zong = company(), customer.client("zong")
    head = await customer.sales1.CreateAccount(account={"displayName": f"{core}机械有限公司"})
    branch = {"displayName": f"{core}机械有限公司深圳分公司"}
    (masked,) = (await customer.sales2.CheckAccountCollision(account=branch)).hits
    assert (masked.level, masked.account) == ("BRANCH_OF", "")
    made = await customer.sales2.CreateAccount(account=branch)
    (case,) = (await customer.sales2.ListDuplicateCases(filter=f'account = "{made.name}"')).duplicate_cases
    assert (case.level, case.state) == ("BRANCH_OF", pb.DuplicateCase.OPEN)
    assert head.name not in str(case) and head.owner not in str(case)
    decided = await zong.DecideDuplicateCase(name=case.name, verdict="RELATE", answer="工商登记为分公司")
    assert (decided.state, decided.verdict) == (pb.DuplicateCase.CLOSED, pb.DuplicateCase.RELATE)
    related = (await customer.admin.ListAccountRelations(filter=f'to = "{head.name}"')).account_relations
    assert [(getattr(one, "from"), one.kind, one.owner) for one in related] == [
        (made.name, pb.AccountRelation.BRANCH_OF, customer.person("sales2").employee)
    ]
    # Who sees both relates them himself: the proposal is over, and nobody hears of it again.
    second = await customer.sales1.CreateAccount(account={"displayName": f"{core}机械有限公司上海分公司"})
    pair = f'account = "{second.name}" AND level = BRANCH_OF'
    (case,) = (await customer.sales1.ListDuplicateCases(filter=pair)).duplicate_cases
    assert (case.level, case.state) == ("BRANCH_OF", pb.DuplicateCase.OPEN)
    edge = {"from": second.name, "to": head.name, "kind": "BRANCH_OF"}
    await customer.sales1.CreateAccountRelation(accountRelation=edge)
    await scanned(customer)
    (case,) = (await customer.sales1.ListDuplicateCases(filter=pair)).duplicate_cases
    assert (case.state, case.verdict) == (pb.DuplicateCase.CLOSED, pb.DuplicateCase.RELATE)
    # Two that are equal are no branches of each other.
    with pytest.raises(Refused) as refused:
        await customer.sales2.CreateAccount(account={"displayName": f"{core}机械有限责任公司"})
    kept = refused.value.info.metadata["case"]
    with pytest.raises(Refused) as refused:
        await zong.DecideDuplicateCase(name=kept, verdict="RELATE", answer="分公司")
    assert refused.value.reason == "ILLEGAL_TRANSITION"


async def keys_of(customer: Service, account: str) -> set[str]:
    """What the customer is found by."""
    statement = text("SELECT kind || ':' || value FROM match_keys WHERE account = CAST(:id AS uuid)")
    async with customer.running.system_call("test", None) as call:
        return set(await call.db.scalars(statement, {"id": account.rpartition("/")[2]}))


async def rekeyed(customer: Service) -> None:
    """Makes the keys anew where the rules have changed, to the end."""
    await at(customer, datetime.now(UTC), normalising.follow_rules)
    await customer.eventually(lambda: idle(customer), 120)


@pytest.mark.capability("c.collision")
async def test_another_normaliser_makes_all_keys_anew_and_until_then_those_of_before_match_too(
    customer: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, word = company(), company()[:3]
    await rekeyed(customer)
    old = await customer.sales1.CreateAccount(account={"displayName": f"北京{core}{word}有限公司"})
    kept = await keys_of(customer, old.name)
    assert f"NAME_CORE:{fold(core + word)}" in kept
    # Says that the word is no part of a name.
    monkeypatch.setitem(NORMALISERS, 2, lambda name: CompanyName.parse(name.replace(word, "")))
    for name, level in ((f"{core}{word}（北京）有限公司", "STRONG"), (f"{core}有限责任公司", None)):
        hits = (await customer.sales2.CheckAccountCollision(account={"displayName": name})).hits
        assert [hit.level for hit in hits] == ([level] if level else [])
    with pytest.raises(Refused) as refused:
        await customer.sales2.CreateAccount(account={"displayName": f"{core}{word}（北京）有限公司"})
    assert refused.value.reason == "ACCOUNT_COLLISION"
    await rekeyed(customer)
    assert f"NAME_CORE:{fold(core)}" in await keys_of(customer, old.name)
    with pytest.raises(Refused) as refused:
        await customer.sales2.CreateAccount(account={"displayName": f"{core}有限责任公司"})
    assert refused.value.reason == "ACCOUNT_COLLISION"
    # Nothing to do is nothing done; and the way back is the same way.
    async with customer.running.system_call("test", None) as call:
        count = text("SELECT count(*) FROM bulk_runs WHERE kind = 'RekeyAccounts'")
        runs = await call.db.scalar(count)
    await rekeyed(customer)
    async with customer.running.system_call("test", None) as call:
        assert await call.db.scalar(count) == runs
    monkeypatch.undo()
    await rekeyed(customer)
    assert await keys_of(customer, old.name) == kept


@pytest.mark.capability("c.collision")
async def test_the_list_of_public_mail_domains_is_the_companys_to_change(customer: Service) -> None:
    domain, key = f"{uuid4().hex}.example", "dictionary.publicMailDomains"
    made = await customer.sales1.CreateAccount(
        account={"displayName": f"{company()}贸易有限公司", "emails": [{"address": f"a@{domain}"}]}
    )
    other = {"displayName": f"{company()}机械有限公司", "emails": [{"address": f"b@{domain.upper()}"}]}

    async def levels() -> list[tuple[str, list[str]]]:
        hits = (await customer.sales2.CheckAccountCollision(account=other)).hits
        return [(hit.level, list(hit.matched_by)) for hit in hits]

    found = [("POSSIBLE", ["EMAIL_DOMAIN"])]
    assert await levels() == found
    async with customer.parts.configuration() as bucket:
        for entry, expected in (({"key": domain}, []), ({"key": domain, "retired": True}, found)):
            await bucket.put(key, {"entries": [entry]})

            def known(entry: Any = entry) -> bool:
                return (customer.running.config.get(key) or {}).get("entries") == [entry]

            await customer.eventually(known)
            await rekeyed(customer)
            assert await levels() == expected
            assert (f"EMAIL_DOMAIN:{domain}" in await keys_of(customer, made.name)) == bool(expected)
        await bucket.delete(key)


async def test_each_segment_has_its_own_customers_and_head_office_hears_of_two(
    customer: Service, segments: None
) -> None:
    core = company()
    await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
    typed = {"displayName": f"{core}科技（北京）有限公司"}
    assert not (await customer.sales2.CheckAccountCollision(account=typed)).hits
    key = "dictionary.collisionAcrossSegments"
    async with customer.parts.configuration() as bucket:
        await bucket.put(key, {"entries": [{"key": "*"}]})
        await customer.eventually(lambda: customer.running.config.get(key) is not None)
        (hit,) = (await customer.sales2.CheckAccountCollision(account=typed)).hits
        assert (hit.level, hit.situation, hit.department, hit.token, list(hit.actions)) == (
            "STRONG",
            "GROUP",
            "",
            "",
            [],
        )
        await bucket.delete(key)
    other = await customer.sales2.CreateAccount(account=typed)
    with pytest.raises(Refused) as refused:
        await customer.sales2.CreateAccount(account={"displayName": f"{core}科技有限公司"})
    assert refused.value.reason == "ACCOUNT_COLLISION"
    pair = f'account = "{other.name}"'
    assert [
        case.level for case in (await customer.admin.ListDuplicateCases(filter=pair)).duplicate_cases
    ] == ["STRONG"]
    for client in (customer.sales1, customer.sales2, customer.manager):
        assert not (await client.ListDuplicateCases(filter=pair)).duplicate_cases


async def test_leads_of_others_and_protected_deals_are_named_without_a_name(customer: Service) -> None:
    core, lead, deal = company(), f"leads/{uuid4()}", f"dealRegistrations/{uuid4()}"
    sales2, today = customer.person("sales2"), datetime.now(disputes.ZONE).date()
    both = {"companyName": f"{core}科技有限公司", "owner": sales2.employee, "department": sales2.department}
    last = {"year": today.year + 1, "month": 1, "day": 31}
    for name, more in ((lead, {"state": "NEW"}), (deal, {"state": "APPROVED", "protectUntilDate": last})):
        body = {"name": name, "action": "CREATED", "resource": {"name": name, **both, **more}}
        await customer.tell("crm.sales.v1.ResourceChanged", body, name)

    async def both_known() -> Any:
        found = (
            await customer.sales1.CheckAccountCollision(account={"displayName": f"北京{core}科技有限公司"})
        ).hits
        return found if len(found) == 2 else None

    hits = await customer.eventually(both_known)
    assert [(hit.situation, hit.level) for hit in hits] == [
        ("LEAD", "STRONG"),
        ("PARTNER_PROTECTED", "STRONG"),
    ]
    assert not any(word in str(hits) for word in (core, lead, deal, sales2.employee))
    # Made all the same, the customer meets both: a case each.
    await customer.sales1.CreateAccount(account={"displayName": f"{core}科技有限公司"})
    found = (
        await customer.sales2.ListDuplicateCases(filter="kind = LEAD OR kind = DEAL", pageSize=200)
    ).duplicate_cases
    assert sorted(pb.DuplicateCase.Kind.Name(case.kind) for case in found if core in case.display_name) == [
        "DEAL",
        "LEAD",
    ]


async def test_a_hundred_thousand_keys_are_asked_by_their_index(customer: Service) -> None:
    core = company()
    made = await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
    async with customer.running.system_call("test", None) as call:
        await call.db.execute(
            text("INSERT INTO match_keys (account, kind, value) SELECT CAST(:id AS uuid), 'NAME_CORE', :core || n"
                 " FROM generate_series(1, 100000) n"),
            {"id": made.name.rpartition("/")[2], "core": core},
        )  # fmt: skip
        await call.db.execute(text("ANALYZE match_keys"))
        connection = await driver(call.db)
        kinds, values = (
            ["NAME_FULL", "NAME_CORE", "BRAND", "PINYIN", "PHONE"],
            [f"{core}{n}" for n in range(5)],
        )
        for statement, further in ((collision._HELD, [uuid4()]), (HOLDERS, [local_date()])):
            lines = [
                row[0] for row in await connection.fetch(f"EXPLAIN {statement}", kinds, values, *further)
            ]
            assert not [
                line for line in lines if "Seq Scan on match_keys" in line or "Seq Scan on lead_keys" in line
            ], lines
        await call.db.execute(
            text("DELETE FROM match_keys WHERE account = CAST(:id AS uuid) AND kind = 'NAME_CORE'"),
            {"id": made.name.rpartition("/")[2]},
        )


async def test_a_partner_hears_on_submit_alone_that_somebody_has_it(customer: Service) -> None:
    core = company()
    await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
    partner = customer.client("partner")
    with pytest.raises(Refused) as refused:
        await partner.CheckAccountCollision(account={"displayName": f"{core}科技有限公司"})
    assert refused.value.reason == "PERMISSION_DENIED"


async def test_a_verdict_merges_shares_or_makes_what_was_kept(customer: Service) -> None:
    zong, me = customer.client("zong"), customer.person("sales2").employee
    core = company()
    made = await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
    case = await customer.sales2.DisputeDuplicate(
        token=(await hit(customer, core)).token, statement="我方先接触"
    )
    splits = [
        {"employee": me, "percent": "40"},
        {"employee": customer.person("sales1").employee, "percent": "60"},
    ]
    await zong.DecideDuplicateCase(name=case.name, verdict="SHARE", answer="共享", splits=splits)
    (fact,) = await customer.facts("crm.customer.v1.CollisionDecided", case.name)
    assert [(one["employee"], one["percent"]) for one in fact["splits"]] == [
        (one["employee"], one["percent"]) for one in splits
    ]
    assert me in (await customer.admin.GetAccount(name=made.name)).collaborators
    # After five working days nobody appeals any more.
    async with customer.running.system_call("test", None) as call:
        await call.db.execute(
            text(
                "UPDATE duplicate_cases SET appeal_until_time = now() - interval '1 hour' WHERE id = CAST(:id AS uuid)"
            ),
            {"id": case.name.rpartition("/")[2]},
        )
    with pytest.raises(Refused) as refused:
        await customer.sales2.AppealDuplicateCase(name=case.name, statement="晚了")
    assert refused.value.reason == "APPEAL_TOO_LATE"
    # A pair that the scan found is merged by a draft.
    twin = await customer.admin.CreateAccount(
        account={"displayName": f"{core}科技（北京）有限公司", "distinction": "待核实"}
    )
    (pair,) = (await customer.admin.ListDuplicateCases(filter=f'account = "{twin.name}"')).duplicate_cases
    await zong.DecideDuplicateCase(name=pair.name, verdict="MERGE", answer="同一家")
    drafts = (
        await customer.admin.ListMerges(filter=f'survivor = "{made.name}" OR survivor = "{twin.name}"')
    ).merges
    assert [({one.survivor, *one.losers}, one.state) for one in drafts] == [
        ({made.name, twin.name}, pb.Merge.DRAFT)
    ]


async def test_a_key_hears_that_it_exists_and_its_owner_that_a_key_asked(customer: Service) -> None:
    core = company()
    made = await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
    entry = {
        "permissions": ["customer.accounts.*"], "scope": "OWN", "disabled": False, "expires": "",
        "department": customer.person("sales2").department,
    }  # fmt: skip
    async with customer.parts.configuration() as config:
        await config.put("apiKey.collides", entry)
        caller = await customer.eventually(lambda: customer.running.directory.acting("apiKeys/collides"))
        with pytest.raises(AlreadyExists) as refused:
            async with customer.running.call("CreateAccount", caller) as call:
                await call.add(Account(display_name=f"{core}科技有限公司", kind="COMPANY"))
        assert (refused.value.reason, set(refused.value.metadata)) == ("ACCOUNT_COLLISION", {"level"})
        assert refused.value.afterwards is not None
        async with customer.running.call("CreateAccount", caller) as call:
            await refused.value.afterwards(call)
        with pytest.raises(PermissionDenied):
            async with customer.running.call("CheckAccountCollision", caller) as call:
                await collision.check(Account(display_name=core), call)
        await config.delete("apiKey.collides")
    facts = await customer.facts("crm.customer.v1.CollisionChecked", made.name)
    assert [fact["checker"] for fact in facts] == ["apiKeys/collides"]


@pytest.mark.capability("c.collision")
async def test_hundreds_of_pairs_are_found_by_one_scan_and_decided_by_one_decision(customer: Service) -> None:
    core, pairs = company(), 205
    base = (await customer.sales1.CreateAccount(account={"displayName": f"{company()}贸易有限公司"})).name
    rows: list[tuple[UUID, str]] = []
    for n in range(pairs):
        rows += [(uuid4(), f"{place}{core}{chr(0x5000 + 7 * n)}科技有限公司") for place in ("", "北京")]
    copy = "INSERT INTO accounts SELECT (jsonb_populate_record(a, $2::text::jsonb)).* FROM accounts a WHERE a.id = $1"
    async with customer.running.system_call("test", None) as call:
        connection = await driver(call.db)
        said = [json.dumps({"id": str(key), "display_name": name, "number": str(key)}) for key, name in rows]
        await connection.executemany(copy, [(UUID(base.rpartition("/")[2]), one) for one in said])
        keys = [
            (account, key.kind.value, key.value) for account, name in rows for key in Identity.of([name]).keys
        ]
        await connection.executemany("INSERT INTO match_keys VALUES ($1, $2, $3)", keys)

    async def cases() -> list[Any]:
        async with customer.running.system_call("test", None) as call:
            found = select(DuplicateCase).where(
                DuplicateCase.display_name.contains(core), DuplicateCase.kind == "SCAN"
            )
            return [(one.name, one.state, one.verdict) for one in await call.db.scalars(found)]

    await scanned(customer)
    opened = await cases()
    assert len(opened) == pairs and {state for _, state, _ in opened} == {"OPEN"}
    zong = customer.client("zong")
    decision = {"filter": f'kind = SCAN AND display_name : "{core}"', "verdict": "SEPARATE", "answer": "核对"}
    assert (await zong.BatchDecideDuplicateCases(**decision)).queued == pairs
    await customer.eventually(lambda: idle(customer), 120)
    assert {verdict for _, _, verdict in await cases()} == {"SEPARATE"}
    told = [
        one
        for one in await customer.facts("crm.customer.v1.NoticeRaised")
        if one.get("kind") == "casesDecided" and customer.person("zong").employee in one["employees"]
    ]
    assert f"{pairs} cases are decided, 0 stay" in told[-1]["text"]["en"]
    # Neither is raised again, whoever touches them.
    async with customer.running.system_call("test", None) as call:
        touched = "UPDATE match_keys SET time = now() WHERE account = ANY ($1)"
        await (await driver(call.db)).execute(touched, [key for key, _ in rows])
    await scanned(customer)
    assert len(await cases()) == pairs
    with pytest.raises(Refused) as refused:
        await zong.BatchDecideDuplicateCases(verdict="SEPARATE", answer="无")
    assert refused.value.violations == {"names": "REQUIRED"}


FILLED = (
    "INSERT INTO accounts SELECT (jsonb_populate_record(a, jsonb_build_object('id', gen_random_uuid(), 'number',"
    " 'N' || n))).* FROM accounts a, generate_series(1, 20000) n WHERE a.id = (SELECT id FROM accounts LIMIT 1)",
    "INSERT INTO match_keys (account, kind, value) SELECT id, 'NAME_CORE', id::text FROM accounts ON CONFLICT DO NOTHING",
    "INSERT INTO duplicate_cases SELECT (jsonb_populate_record(a, jsonb_build_object('id', gen_random_uuid(), 'number',"
    " 'N' || n, 'pair', 'N' || n, 'claimant', 'employees/' || n))).*"
    " FROM duplicate_cases a, generate_series(1, 20000) n WHERE a.id = (SELECT id FROM duplicate_cases LIMIT 1)",
    "INSERT INTO case_parties SELECT id, 'accounts/' || id FROM duplicate_cases ON CONFLICT DO NOTHING",
    "INSERT INTO collision_checks (actor) SELECT 'employees/' || n FROM generate_series(1, 20000) n",
    "INSERT INTO separate_pairs (one, other, digest) SELECT id, gen_random_uuid(), '' FROM accounts",
    "INSERT INTO lead_holders (lead, version, company_name, owner, department, live, account, time)"
    " SELECT 'leads/' || n, 1, '', 'x', '', true, '', now() FROM generate_series(1, 20000) n",
    "INSERT INTO lead_keys SELECT 'leads/' || n, 'NAME_CORE', 'v' || n FROM generate_series(1, 20000) n",
)
FULL = ("accounts", "match_keys", "duplicate_cases", "case_parties", "collision_checks", "separate_pairs",
        "lead_holders", "lead_keys")  # fmt: skip


@pytest.mark.capability("c.collision")
async def test_no_statement_of_a_check_reads_a_whole_table_and_a_check_takes_little(
    customer: Service,
) -> None:
    core, said = company(), {collision._HELD, HOLDERS, collision._CHECK}

    def saying(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        about = [one for one in FULL if f" {one}" in statement and one != "accounts"]
        if about or (" FROM accounts" in statement and "accounts.id" in statement):
            said.add(statement)

    engine = customer.running.engine.sync_engine
    event.listen(engine, "before_cursor_execute", saying)
    try:
        # One that is new, one that is there, one that may be, and a question.
        await customer.sales1.CreateAccount(account={"displayName": f"北京{core}科技有限公司"})
        for _ in range(2):
            with pytest.raises(Refused):
                await customer.sales2.CreateAccount(account={"displayName": f"{core}科技有限公司"})
        await customer.sales2.CreateAccount(account={"displayName": f"{core}贸易有限公司"})
        await customer.sales2.CheckAccountCollision(account={"displayName": f"{core}科技有限公司"})
    finally:
        event.remove(engine, "before_cursor_execute", saying)
    assert len(said) > 6
    took: list[float] = []
    with pytest.raises(Undone):
        async with customer.running.system_call("test", None) as call:
            connection = await driver(call.db)
            for statement in FILLED:
                await connection.execute(statement, timeout=300)
            await connection.execute(f"ANALYZE {', '.join(FULL)}")
            await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            for number, statement in enumerate(sorted(said)):
                arguments = len((await connection.prepare(statement)).get_parameters())
                await connection.execute(f"PREPARE explained_{number} AS {statement}")
                nothing = f"({', '.join(['NULL'] * arguments)})" if arguments else ""
                plan = await connection.fetch(f"EXPLAIN EXECUTE explained_{number}{nothing}")
                lines = [row[0] for row in plan]
                whole = [line for line in lines if any(f"Seq Scan on {one} " in line + " " for one in FULL)]
                assert not whole, (statement[-600:], whole)
                await connection.execute(f"DEALLOCATE explained_{number}")
            # A telephone that twenty thousand have says nothing, and hides nobody who has the name.
            await connection.execute(
                "INSERT INTO match_keys SELECT id, 'PHONE', '+8613812349999' FROM accounts"
            )
            asked = Identity.of([f"{core}科技有限公司"], phones=[Phone("", "+8613812349999")])
            found = await collision.find_hits(Account(id=uuid4(), department=""), asked, call)
            assert next(iter(found)).match.level is Level.STRONG
            assert all(core in hit.account.display_name for hit in found)
            for n in range(21):
                wanted = Account(display_name=f"{core}{chr(0x5100 + n)}科技有限公司", department="")
                began = time.perf_counter()
                await collision.refuse_collision(wanted, call)
                took.append(time.perf_counter() - began)
            raise Undone
    # Some milliseconds; the bound is that of a machine where all tests run at once.
    assert statistics.median(took) < 1, took


class Undone(Exception):
    """Ends a transaction whose rows nobody keeps."""
