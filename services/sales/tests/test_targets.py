"""Targets as plan, do, check and act; through the front door and by facts of other services."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from crmkit.workdays import working_days
from sales.jobs import follow_targets
from sales.model.target import Target, span
from uuid_utils.compat import uuid7


def day(value: date) -> dict[str, int]:
    return {"year": value.year, "month": value.month, "day": value.day}


def today() -> date:
    from crmkit.listing import ZONE

    return datetime.now(ZONE).date()


def plan(sales: Service, **fields: Any) -> dict[str, Any]:
    """A target of sales1 for the month, in money, with something to be done for it."""
    return {
        "subject": sales.person("sales1").employee, "period": "MONTH", "fromDate": day(today()), "metric": "COLLECTED",
        "currency": "CNY", "base": "100000.00", "actions": [{"text": "每周拜访五家"}], **fields,
    }  # fmt: skip


async def paid(
    sales: Service, amount: str, employee: str, when: date, subject: str = "PaymentAllocated", **more: Any
) -> str:
    """Money comes in, or goes back, as billing tells."""
    name, opportunity = more.pop("name", f"allocations/{uuid7()}"), more.pop("opportunity", "")
    allocation = {"name": name, "net": {"currencyCode": "CNY", "amount": amount}, "date": day(when)}
    entry = sales.running.config.get(f"employee.{employee.partition('/')[2]}")
    invoice = {"name": f"invoices/{uuid7()}", "owner": employee, "department": entry["department"], **more}
    fact = {"targets": [{"allocation": allocation, "invoice": invoice, "opportunity": opportunity}]}
    await sales.tell(f"crm.billing.v1.{subject}", fact, name, times=2)
    return name


def test_periods_and_their_working_days() -> None:
    assert span("QUARTER", date(2026, 5, 9)) == (date(2026, 4, 1), date(2026, 6, 30))
    assert span("YEAR", date(2026, 5, 9)) == (date(2026, 1, 1), date(2026, 12, 31))
    assert span("MONTH", date(2028, 2, 9)) == (date(2028, 2, 1), date(2028, 2, 29))
    assert working_days(date(2026, 3, 2), date(2026, 3, 8)) == 5


@pytest.mark.capability("s.target")
async def test_months_add_up_to_quarters_and_the_year_to_the_cent(sales: Service) -> None:
    first = {"year": 2035, "month": 1, "day": 1}
    year = await sales.manager.CreateTarget(
        target=plan(sales, period="YEAR", fromDate=first, base="1000000.01", stretch="1200000.00")
    )
    assert (year.state, year.to_date.month) == (pb.Target.DRAFT, 12)
    quarters = (await sales.manager.DistributeTarget(name=year.name, period="QUARTER", method="WEIGHTS",
                                                     weights=["1", "2", "3", "1"])).targets  # fmt: skip
    months = (await sales.manager.DistributeTarget(name=year.name, period="MONTH")).targets
    assert (len(quarters), len(months)) == (4, 12)
    for parts in (quarters, months):
        assert sum(Decimal(part.base) for part in parts) == Decimal("1000000.01")
        assert sum(Decimal(part.stretch) for part in parts) == Decimal("1200000.00")
    assert quarters[2].base == "428571.43"
    people = [sales.person(name).employee for name in ("sales1", "sales2", "manager")]
    shared = (await sales.manager.DistributeTarget(name=months[0].name, subjects=people)).targets
    assert sum(Decimal(part.base) for part in shared) == Decimal(months[0].base)
    with pytest.raises(Refused) as refused:
        await sales.manager.DistributeTarget(name=year.name, period="MONTH", method="WEIGHTS", weights=["1"])
    assert refused.value.violations == {"weights": "OUT_OF_RANGE"}
    # Shared out anew the same drafts have other values; whoever is asked for the first time has one more.
    again = {"name": months[0].name, "method": "WEIGHTS", "weights": ["2", "1", "1"]}
    anew = (await sales.manager.DistributeTarget(**again, subjects=people)).targets
    assert [part.name for part in anew] == [part.name for part in shared]
    assert [part.base for part in anew] == ["41666.67", "20833.34", "20833.33"]
    there = (await sales.admin.ListTargets(filter=f'parent = "{months[0].name}"')).targets
    assert sorted(part.base for part in there) == sorted(part.base for part in anew)

    assert (await sales.manager.ApproveTarget(name=year.name)).state == pb.Target.RUNNING
    assert len(await sales.facts("crm.sales.v1.TargetChanged", year.name)) == 1
    # A part that is changed no longer fits, and says by how much; over-allocation is allowed where it is ticked.
    actions = [{"text": "新客活动"}]
    more = {"name": quarters[0].name, "base": "150000.00", "actions": actions}
    await sales.manager.UpdateTarget(
        target=more | {"stretch": "200000.00"}, updateMask="base,stretch,actions"
    )
    with pytest.raises(Refused) as refused:
        await sales.manager.ApproveTarget(name=quarters[0].name)
    assert (refused.value.reason, refused.value.info.metadata["difference"]) == (
        "TARGET_SUM_MISMATCH",
        "7142.85",
    )
    await sales.manager.UpdateTarget(
        target={"name": year.name, "overAllocated": True}, updateMask="overAllocated"
    )
    assert (await sales.manager.ApproveTarget(name=quarters[0].name)).state == pb.Target.RUNNING
    with pytest.raises(Refused) as refused:
        await sales.manager.ApproveTarget(name=quarters[1].name)
    assert refused.value.reason == "TARGET_ACTION_MISSING"
    # What is in force is revised and not shared out anew.
    with pytest.raises(Refused) as refused:
        await sales.manager.DistributeTarget(name=year.name, period="QUARTER")
    assert refused.value.reason == "TARGET_PART_IN_FORCE"
    assert refused.value.info.metadata["target"] == quarters[0].display_name


@pytest.mark.capability("s.target")
async def test_a_quarter_of_a_department_is_shared_by_its_months_and_by_its_people(sales: Service) -> None:
    department, first = sales.person("sales1").department, {"year": 2036, "month": 4, "day": 1}
    body = plan(
        sales, subject=department, period="QUARTER", fromDate=first, base="100000.00", stretch="130000.01"
    )
    quarter = await sales.admin.CreateTarget(target=body)
    months = (await sales.admin.DistributeTarget(name=quarter.name, period="MONTH")).targets
    assert [(part.from_date.month, part.to_date.day, part.subject) for part in months] == [
        (4, 30, department), (5, 31, department), (6, 30, department),
    ]  # fmt: skip
    assert [part.base for part in months] == ["33333.34", "33333.33", "33333.33"]
    assert [part.stretch for part in months] == ["43333.34", "43333.34", "43333.33"]
    assert not any(part.challenge for part in months)
    people = [sales.person(name).employee for name in ("sales1", "sales2", "manager")]
    shared = (await sales.admin.DistributeTarget(name=months[0].name, subjects=people, method="WEIGHTS",
                                                 weights=["5", "3", "3"])).targets  # fmt: skip
    assert [(part.subject, part.owner, part.base) for part in shared] == [
        (people[0], people[0], "15151.52"), (people[1], people[1], "9090.91"), (people[2], people[2], "9090.91"),
    ]  # fmt: skip
    assert {(part.parent, part.from_date.month, part.state) for part in shared} == {
        (months[0].name, 4, pb.Target.DRAFT)
    }
    # The months are the quarter and the people are the month, each kind of part by itself.
    actions = [{"text": "渠道大会"}]
    for part in (months[0], shared[0]):
        await sales.admin.UpdateTarget(target={"name": part.name, "actions": actions}, updateMask="actions")
    for part in (quarter, months[0], shared[0]):
        assert (await sales.admin.ApproveTarget(name=part.name)).state == pb.Target.RUNNING
    less = {"name": shared[1].name, "base": "9000.00", "stretch": "9000.00", "actions": actions}
    await sales.admin.UpdateTarget(target=less, updateMask="base,stretch,actions")
    with pytest.raises(Refused) as refused:
        await sales.admin.ApproveTarget(name=shared[1].name)
    assert (refused.value.reason, dict(refused.value.info.metadata)) == (
        "TARGET_SUM_MISMATCH", {"sum": "33242.43", "base": "33333.34", "difference": "-90.91"},
    )  # fmt: skip
    assert (await sales.admin.GetTarget(name=shared[1].name)).state == pb.Target.DRAFT


@pytest.mark.capability("s.target")
async def test_numbers_and_yen_are_shared_whole_and_the_season_of_last_year_says_how(
    sales: Service, person: Callable[..., Awaitable[str]]
) -> None:
    me, first = await person(), {"year": 2034, "month": 1, "day": 1}
    body = plan(sales, subject=me, period="QUARTER", fromDate=first)

    async def shares(target: Any, **how: Any) -> list[str]:
        parts = await sales.admin.DistributeTarget(name=target.name, period="MONTH", **how)
        return [part.base for part in parts.targets]

    visits = await sales.admin.CreateTarget(target=body | {"metric": "VISITS", "currency": "", "base": "10"})
    yen = await sales.admin.CreateTarget(target=body | {"currency": "JPY", "base": "101"})
    assert (await shares(visits), await shares(yen)) == (["4", "3", "3"], ["34", "34", "33"])
    money = await sales.admin.CreateTarget(target=body | {"base": "1000.01"})
    for how in ({"period": "YEAR"}, {"period": "QUARTER"}, {"period": "MONTH", "method": "SEASON"},
                {"period": "MONTH", "method": "WEIGHTS", "weights": ["1", "-1", "1"]}):  # fmt: skip
        with pytest.raises(Refused) as refused:
            await sales.admin.DistributeTarget(name=money.name, **how)
        assert set(refused.value.violations.values()) == {"OUT_OF_RANGE"}
    for how in ({}, {"period": "MONTH", "subjects": [me]}):
        with pytest.raises(Refused) as refused:
            await sales.admin.DistributeTarget(name=money.name, **how)
        assert refused.value.violations == {"period": "REQUIRED"}
    before = await sales.admin.CreateTarget(target=body | {"fromDate": {**first, "year": 2033}})
    await sales.admin.ApproveTarget(name=before.name)
    for amount, when in (("100.00", date(2033, 1, 31)), ("300.00", date(2033, 2, 1))):
        await paid(sales, amount, me, when)

    async def told() -> bool:
        return (await sales.admin.GetTarget(name=before.name)).actual == "400"

    await sales.eventually(told, 30)
    assert await shares(money, method="SEASON") == ["250", "750.01", "0"]


@pytest.mark.capability("s.target")
async def test_the_actual_is_the_sum_of_facts_for_person_department_and_company(sales: Service) -> None:
    me, other = (sales.person(name).employee or "" for name in ("sales1", "sales2"))
    mine = await sales.manager.CreateTarget(target=plan(sales))
    department = sales.person("manager").department
    whole = await sales.admin.CreateTarget(target=plan(sales, subject=""))
    branch = await sales.admin.CreateTarget(target=plan(sales, subject=department))
    for target in (mine, whole, branch):
        await sales.admin.ApproveTarget(name=target.name)

    async def actual(name: str) -> Decimal:
        return Decimal((await sales.admin.GetTarget(name=name)).actual)

    start = {name: await actual(name) for name in (mine.name, whole.name, branch.name)}
    first = await paid(sales, "60000.00", me, today())
    await paid(sales, "5000.00", other, today())
    await paid(sales, "7.00", me, mine_before(mine))
    await paid(sales, "10000.00", me, today(), "AllocationReversed", name=first)

    async def grown() -> bool:
        return (await actual(mine.name) - start[mine.name], await actual(whole.name) - start[whole.name]) == (
            Decimal("50000.00"),
            Decimal("55000.00"),
        )

    await sales.eventually(grown, 30)
    assert await actual(branch.name) - start[branch.name] in (Decimal("50000.00"), Decimal("55000.00"))
    # Looking into it adds up, page by page.
    found, token = list[Any](), ""
    while True:
        page = await sales.admin.ListAchievements(name=mine.name, pageSize=2, pageToken=token)
        found, token = [*found, *page.target_facts], page.next_page_token
        if not token:
            break
    assert sum(Decimal(fact.value) for fact in found) == await actual(mine.name)
    assert {fact.employee for fact in found} == {me}
    # Whoever sees only his own sees his own.
    assert {t.name for t in (await sales.sales1.ListTargets(pageSize=200)).targets} >= {mine.name}
    with pytest.raises(Refused):
        await sales.sales2.GetTarget(name=mine.name)


def mine_before(target: Any) -> date:
    return date(target.from_date.year, target.from_date.month, 1) - timedelta(days=1)


@pytest.mark.capability("s.target")
async def test_every_metric_counts_what_its_facts_tell(
    sales: Service, person: Callable[..., Awaitable[str]]
) -> None:
    me = await person()
    line = f"L{uuid4().hex[:6]}"
    product = await sales.manager.CreateProduct(
        product={
            "displayName": "传感器",
            "code": uuid4().hex[:12],
            "unit": "件",
            "taxRate": "13",
            "line": line,
        }
    )
    wanted = {
        "ORDERED": {"productLine": line}, "SIGNED": {"productLine": line}, "NEW_CUSTOMERS": {}, "CALLS": {}, "VISITS": {},
        "QUOTES": {},
    }  # fmt: skip
    targets = {}
    for metric, fields in wanted.items():
        money = {"currency": "CNY", "base": "1000.00"} if fields else {"currency": "", "base": "10"}
        made = await sales.manager.CreateTarget(
            target=plan(sales, subject=me, metric=metric, **money, **fields)
        )
        targets[metric] = (await sales.manager.ApproveTarget(name=made.name)).name
    own = {"owner": me, "department": sales.person("sales1").department, "account": f"accounts/{uuid7()}"}
    items = [
        {"key": "1", "product": product.name, "net": {"currencyCode": "CNY", "amount": "300.00"}},
        {"key": "2", "net": {"currencyCode": "CNY", "amount": "50.00"}},
    ]
    order = {"name": f"orders/{uuid7()}", "items": items, **own}
    later = {**order, "name": f"orders/{uuid7()}"}
    contract = {"name": f"contracts/{uuid7()}", "lines": items, "currency": "CNY", **own}
    said = {"name": f"interactions/{uuid7()}", "channel": "CALL", **own}
    for subject, payload in (
        ("orders.v1.OrderPlaced", {"order": order}), ("orders.v1.OrderPlaced", {"order": later}),
        ("orders.v1.OrderCancelled", {"order": later, "reason": "不要了"}), ("orders.v1.ContractSigned", {"contract": contract}),
        ("customer.v1.AccountCreated", {"account": {"name": own["account"], "owner": me}}),
        ("customer.v1.InteractionLogged", {"interaction": said}),
        ("customer.v1.InteractionLogged", {"interaction": {**said, "name": f"interactions/{uuid7()}", "channel": "EMAIL"}}),
        ("sales.v1.VisitCompleted", {"visit": {"name": f"visits/{uuid7()}", **own}}),
        ("sales.v1.QuoteSent", {"quote": {"name": f"quotes/{uuid7()}", **own}}),
    ):  # fmt: skip
        await sales.tell(f"crm.{subject}", payload, next(iter(payload.values()))["name"], times=2)  # type: ignore[index]

    counted = {
        "ORDERED": Decimal(300),
        "SIGNED": Decimal(300),
        **dict.fromkeys(("NEW_CUSTOMERS", "CALLS", "VISITS", "QUOTES"), Decimal(1)),
    }

    async def told() -> bool:
        return counted == {
            metric: Decimal((await sales.admin.GetTarget(name=name)).actual)
            for metric, name in targets.items()
        }

    await sales.eventually(told, 30)
    with pytest.raises(Refused) as refused:
        await sales.manager.CreateTarget(target=plan(sales, metric="VISITS", base="3"))
    assert refused.value.violations == {"target.currency": "OUT_OF_RANGE"}
    with pytest.raises(Refused) as refused:
        await sales.manager.CreateTarget(target=plan(sales, stretch="5.00"))
    assert refused.value.violations == {"target.stretch": "OUT_OF_RANGE"}


async def _fact_on(sales: Service, name: str, amount: str, when: date) -> None:
    """Money of that day, once the target has counted it."""
    before = Decimal((await sales.admin.GetTarget(name=name)).actual)
    await paid(sales, amount, sales.person("sales2").employee or "", when)

    async def counted() -> bool:
        return Decimal((await sales.admin.GetTarget(name=name)).actual) == before + Decimal(amount)

    await sales.eventually(counted, 30)


@pytest.mark.capability("s.target")
async def test_a_month_is_checked_against_its_line_reviewed_acted_upon_and_frozen(sales: Service) -> None:
    """The month is March 2025, whose money no other test counts; the clock is passed where time decides."""
    march = {"year": 2025, "month": 3, "day": 15}
    body = plan(
        sales, subject=sales.person("sales2").employee, fromDate=march, base="210000.00", metric="COLLECTED"
    )
    made = await sales.admin.CreateTarget(target=body)
    await sales.admin.ApproveTarget(name=made.name)
    # 21 working days: 10,000 a day.
    at = {"year": 2025, "month": 3, "day": 14}
    await _fact_on(sales, made.name, "70000.00", date(2025, 3, 12))
    standing = await sales.admin.CheckTarget(name=made.name, day=at)
    assert (standing.plan_line, standing.actual, standing.percent) == ("100000", "70000", "70")
    assert (standing.light, standing.needed_per_day) == (pb.Target.RED, "12727.27")
    assert (standing.forecast, standing.gap) == ("147000", "63000")
    await _fact_on(sales, made.name, "10000.00", date(2025, 3, 13))
    assert (await sales.admin.CheckTarget(name=made.name, day=at)).light == pb.Target.AMBER
    # A red target needs an action with its effect.
    with pytest.raises(Refused) as refused:
        await sales.admin.ReviewTarget(name=made.name, cause="DELAY", text="两家延期付款")
    assert refused.value.reason == "REVIEW_ACTION_MISSING"
    with pytest.raises(Refused) as refused:
        await sales.admin.CloseTarget(name=made.name)
    assert refused.value.reason == "REVIEW_MISSING"

    # Weekly lines, and reminders: the owner after five working days, then the superior, once each.
    async def morning(when: datetime) -> None:
        async with sales.running.call("test", system("sales")) as call:
            await follow_targets(when, call)

    for when in ((2025, 3, 17), (2025, 3, 17), (2025, 4, 9), (2025, 4, 10), (2025, 4, 21)):
        await morning(datetime(*when, 1, tzinfo=UTC))
    seen = await sales.admin.GetTarget(name=made.name)
    assert [one.day.day for one in seen.standings] == [17, 31]
    told = await sales.facts("crm.sales.v1.TargetReviewOverdue", made.name)
    assert [fact["step"] for fact in told] == ["OWNER", "SUPERIOR"]

    action = {"text": "每周对账催款", "expectedEffect": "50000.00"}
    reviewed = await sales.admin.ReviewTarget(
        name=made.name, cause="DELAY", text="两家延期付款", actions=[action]
    )
    assert (reviewed.state, reviewed.reviews[0].cause) == (pb.Target.CHECKED, "DELAY")
    [_, todo] = reviewed.actions
    done = await sales.admin.FinishTargetAction(name=made.name, action=todo.key, realEffect="42000.00")
    assert done.actions[1].done
    again = await sales.admin.ReviewTarget(name=made.name, cause="OTHER", text="复查", actions=[action])
    assert [(one.expected, one.real) for one in again.reviews[1].effects] == [("50000.00", "42000")]
    closed = await sales.admin.CloseTarget(name=made.name)
    assert (closed.state, closed.actual) == (pb.Target.CLOSED, "80000")
    # What is told later stands beside it.
    await paid(sales, "1234.00", sales.person("sales2").employee or "", date(2025, 3, 31))

    async def beside() -> bool:
        found = await sales.admin.GetTarget(name=made.name)
        return (found.actual, found.after_closing) == ("80000", "1234")

    await sales.eventually(beside, 30)
    # The next plan opens with what was not finished.
    april = {"year": 2025, "month": 4, "day": 1}
    following = await sales.admin.CreateTarget(target=body | {"fromDate": april, "actions": []})
    assert [(one.text, one.carried_from) for one in following.actions] == [
        ("每周拜访五家", made.name),
        ("每周对账催款", made.name),
    ]
    # What is done about a red cause is a sales task of whose target it is; accepted, the action is done in both plans.
    task = await sales.sales2.GetSalesTask(name=following.actions[1].task)
    assert (task.about, list(task.executors)) == (made.name, [sales.person("sales2").employee])
    await sales.sales2.FinishSalesTask(name=task.name, result="已回款")
    await sales.admin.AcceptSalesTask(name=task.name)
    assert (await sales.admin.GetTarget(name=following.name)).actions[1].done


@pytest.mark.capability("s.target")
async def test_names_tell_whose_target_what_and_when_in_the_language_of_its_author(sales: Service) -> None:
    first = {"year": 2034, "month": 4, "day": 9}
    names: list[str] = []
    for period, language in (("MONTH", "zh-CN"), ("QUARTER", "en"), ("YEAR", "en")):
        person = sales.client("manager", language)
        made = await person.CreateTarget(
            target=plan(sales, subject="", period=period, fromDate=first, metric="SIGNED")
        )
        names.append(made.display_name)
    assert names == ["公司 签约 2034年4月", "Company Signed Q2 2034", "Company Signed 2034"]


@pytest.mark.capability("s.target")
async def test_later_facts_correct_what_was_told(sales: Service) -> None:
    """Amended, terminated, returned and refunded business, each told twice; the amendment comes before the order."""
    me, department = sales.person("sales1").employee or "", sales.person("sales1").department
    line = f"L{uuid4().hex[:6]}"
    product = await sales.manager.CreateProduct(
        product={
            "displayName": "变送器",
            "code": uuid4().hex[:12],
            "unit": "件",
            "taxRate": "13",
            "line": line,
        }
    )
    targets: dict[str, str] = {}
    for metric in ("ORDERED", "SIGNED"):
        made = await sales.manager.CreateTarget(target=plan(sales, metric=metric, productLine=line))
        targets[metric] = (await sales.manager.ApproveTarget(name=made.name)).name

    def items(amount: str) -> list[dict[str, Any]]:
        return [{"key": "1", "product": product.name, "net": {"currencyCode": "CNY", "amount": amount}}]

    own = {"owner": me, "department": department, "account": f"accounts/{uuid7()}"}
    order, contract = f"orders/{uuid7()}", f"contracts/{uuid7()}"
    told = (
        ("OrderAmended", {"order": {"name": order, "items": items("450.00"), **own}}),
        ("OrderPlaced", {"order": {"name": order, "items": items("300.00"), **own}}),
        ("ReturnAccepted", {"return": {"name": f"returns/{uuid7()}", "lines": items("50.00"), **own}}),
        (
            "ContractSigned",
            {"contract": {"name": contract, "lines": items("900.00"), "currency": "CNY", **own}},
        ),
        (
            "ContractChanged",
            {"contract": {"name": contract, "lines": items("700.00"), "currency": "CNY", **own}},
        ),
    )
    for kind, payload in told:
        await sales.tell(f"crm.orders.v1.{kind}", payload, next(iter(payload.values()))["name"], times=2)

    async def reached(metric: str, amount: str) -> bool:
        return (await sales.admin.GetTarget(name=targets[metric])).actual == amount

    await sales.eventually(lambda: reached("ORDERED", "400"), 30)
    await sales.eventually(lambda: reached("SIGNED", "700"), 30)
    await sales.tell("crm.orders.v1.ContractTerminated", told[4][1], contract)
    await sales.eventually(lambda: reached("SIGNED", "0"), 30)
    assert [
        Decimal(fact.value)
        for fact in (await sales.admin.ListAchievements(name=targets["SIGNED"])).target_facts
    ]


@pytest.mark.capability("s.target")
async def test_a_measure_of_the_analysis_is_a_target_too_and_refunds_count_against_collected_money(
    sales: Service, account: Any, deal: Any
) -> None:
    code, me = f"m{uuid4().hex[:8]}", sales.person("sales2").employee or ""
    with pytest.raises(Refused) as refused:
        await sales.manager.CreateTarget(target=plan(sales, metric="CUSTOM", currency="", base="10"))
    assert refused.value.violations == {"target.measure": "OUT_OF_RANGE"}
    body = plan(sales, subject=me, metric="CUSTOM", measure=code, currency="", base="10")
    made = await sales.admin.CreateTarget(target=body)
    await sales.admin.ApproveTarget(name=made.name)
    for value in ("4", "-1"):
        told = {"metric": code, "unit": me, "day": today().isoformat(), "value": value}
        await sales.tell("crm.insight.v1.MetricMeasured", told, f"metrics/{code}")
    await sales.tell(
        "crm.insight.v1.MetricMeasured", {"metric": "other", "unit": me, "value": "9"}, "metrics/other"
    )

    async def measured() -> bool:
        return (await sales.admin.GetTarget(name=made.name)).actual == "3"

    await sales.eventually(measured, 30)

    partner = await account(accountType="PARTNER")
    won = await deal(channelPartner=partner)
    collected = await sales.admin.CreateTarget(target=plan(sales, subject=partner))
    await sales.admin.ApproveTarget(name=collected.name)
    name = await paid(sales, "800.00", me, today(), opportunity=won.name)
    await paid(sales, "300.00", me, today(), "PaymentRefunded", name=name, opportunity=won.name)

    async def kept() -> bool:
        return (await sales.admin.GetTarget(name=collected.name)).actual == "500"

    await sales.eventually(kept, 30)


@pytest.mark.capability("s.target")
async def test_who_moves_takes_the_target_along_by_days_and_the_actual_stays_where_it_was_achieved(
    sales: Service,
) -> None:
    person = sales.person("sales1")
    first = today() + timedelta(days=400)
    start, end = span("MONTH", first)
    made = await sales.admin.CreateTarget(
        target=plan(sales, fromDate=day(start), base="1000.00", subject=person.employee)
    )
    await sales.admin.ApproveTarget(name=made.name)
    other = sales.person("admin").department
    resource = {"name": person.employee, "department": other}
    payload = {"name": person.employee, "action": "UPDATED", "actor": "system/test", "resource": resource}
    moved = start + timedelta(days=10)
    async with sales.running.call("test", system("sales")) as call:
        target = await call.load(Target, made.name)
        await target.move(other or "", moved, call)
    days = (end - start).days + 1
    part = (Decimal(100000) * 10 / days).quantize(Decimal(1), "ROUND_FLOOR") / 100
    seen = await sales.admin.GetTarget(name=made.name)
    assert [post.department for post in seen.posts] == [person.department, other]
    assert abs(Decimal(seen.posts[0].base) - part) <= Decimal("0.01")
    assert sum(Decimal(post.base) for post in seen.posts) == Decimal("1000.00")
    assert seen.department == other
    revised = await sales.admin.ReviseTarget(name=made.name, reason="调岗", base="2000.00")
    assert sum(Decimal(post.base) for post in revised.posts) == Decimal("2000.00")
    # The running month goes along by the fact.
    now = await sales.admin.CreateTarget(target=plan(sales, metric="QUOTES", currency="", base="31"))
    await sales.admin.ApproveTarget(name=now.name)
    await sales.tell("crm.workspace.v1.ResourceChanged.employees.UPDATED", payload, person.employee)

    async def followed() -> bool:
        found = await sales.admin.GetTarget(name=now.name)
        return found.department == other and found.posts[-1].department == other

    await sales.eventually(followed, 30)


@pytest.mark.capability("s.target")
async def test_a_revision_keeps_the_values_before(sales: Service) -> None:
    made = await sales.manager.CreateTarget(target=plan(sales, metric="MARGIN"))
    await sales.manager.ApproveTarget(name=made.name)
    with pytest.raises(Refused) as refused:
        await sales.manager.UpdateTarget(target={"name": made.name, "base": "1.00"}, updateMask="base")
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    with pytest.raises(Refused) as refused:
        await sales.manager.CloseTarget(name=made.name)
    assert refused.value.reason == "TARGET_PERIOD_RUNS"
    revised = await sales.manager.ReviseTarget(name=made.name, reason="市场变化", base="80000.00")
    assert (revised.revision, revised.base, revised.versions[0].base) == (2, "80000", "100000")
    assert revised.versions[0].reason == "市场变化"
    with pytest.raises(Refused) as refused:
        await sales.sales1.ReviseTarget(name=made.name, reason="太多", base="1.00")
    assert refused.value.code.name == "PERMISSION_DENIED"
