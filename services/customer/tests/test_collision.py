"""Collisions: what the finder may know, and the fair ways in."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.testing import Refused, Service
from customer import disputes
from sqlalchemy import text


async def at(customer: Service, now: datetime, job: Any) -> None:
    """Runs a job as if it were that time."""
    async with customer.running.system_call("test", None) as call:
        call.now = now
        await job(now, call)


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


async def test_of_fifty_creates_of_one_name_one_is_made(customer: Service) -> None:
    core = company()

    async def create() -> str:
        try:
            return (await customer.sales1.CreateAccount(account={"displayName": f"{core}科技有限公司"})).name
        except Refused as refused:
            return refused.reason

    answers = [answer for _ in range(10) for answer in await asyncio.gather(*(create() for _ in range(5)))]
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
    await at(customer, datetime.now(UTC) + timedelta(seconds=1), disputes.scan)
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
        await customer.admin.CreateAccount(account={"displayName": f"{core}科技有限公司"})
    for _ in range(2):
        await at(customer, datetime.now(UTC) + timedelta(seconds=1), disputes.scan)
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
