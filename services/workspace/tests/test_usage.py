"""Rules of use: found from facts, once; told to the person and the superior; nothing follows without a second person."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from crmkit.auth import system
from crmkit.events import Fact
from crmkit.listing import ZONE
from crmkit.testing import Service
from sqlalchemy import func, insert, select, update
from workspace import using
from workspace.model import known_record, usage_facts
from workspace.model.employee import Employee
from workspace.model.usage import UsageFinding, UsageRule
from workspace.model.work_record import WorkDone

# A week without holidays; the months beside it.
MONDAY = date(2026, 3, 2)
LONG_AGO = datetime(2025, 12, 1, tzinfo=UTC)


def day(number: int) -> date:
    """A day of that week, Monday being 0."""
    return MONDAY + timedelta(days=number)


def at(day: date, hour: int = 10) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=ZONE)


class Firm:
    """People of one role, as if they had been here for long, and the rules for them."""

    def __init__(self, workspace: Service, office: Any) -> None:
        self.workspace, self.office, self.role = workspace, office, f"watched_{uuid4().hex[:8]}"
        self.names: dict[str, str] = {}

    async def begin(self) -> "Firm":
        role = {"displayName": self.role, "englishName": self.role, "code": self.role, "scope": "OWN",
                "permissions": ["workspace.notes.read"]}  # fmt: skip
        await self.workspace.admin.CreateRole(role=role)
        return self

    async def hire(self, **fields: Any) -> str:
        superior = self.workspace.person("manager").employee
        made = await self.office.hire(
            f"u{uuid4().hex[:10]}", [self.role, "sales_representative"], superior=superior, **fields
        )
        async with self.workspace.running.call("test", system("workspace")) as call:
            older = update(Employee).where(Employee.id == UUID(made.name.partition("/")[2]))
            await call.db.execute(older.values(create_time=LONG_AGO))
        self.made = made
        self.names[made.name] = made.display_name
        return made.name

    async def rule(self, kind: str, since: date, **fields: Any) -> Any:
        body = {"displayName": f"{kind} {self.role}", "kind": kind, "roles": [self.role], **fields}
        rule = await self.workspace.admin.CreateUsageRule(usageRule=body)
        await self.workspace.admin.ActivateUsageRule(name=rule.name)
        async with self.workspace.running.call("test", system("workspace")) as call:
            found = await call.named(UsageRule, rule.name)
            assert found
            found.covered_date = since - timedelta(days=1)
        return rule

    async def acted(
        self, person: str, days: Sequence[date], actor: str = "", method: str = "UpdateTask"
    ) -> None:
        """The person did something on these days, as every service tells it."""
        facts = [
            Fact(
                "crm.workspace.v1.ResourceChanged",
                uuid4(),
                at(one),
                actor or person,
                "tasks/x",
                1,
                {"method": method},
            )
            for one in days
        ]
        async with self.workspace.running.call("test", system("workspace")) as call:
            await usage_facts.keep_days(facts, call)

    async def night(self, rule: Any, last: date) -> list[Any]:
        """The findings of the rule after the night behind that day, twice over."""
        before = await self._runs(rule)
        for _ in range(2):
            async with self.workspace.running.call("test", system("workspace")) as call:
                await using.start_due(at(last + timedelta(days=1), 1), call)
        assert await self._runs(rule) == before + 1
        # The night looks at every rule in force, those of other tests first.
        await self.workspace.eventually(lambda: self._ended(rule), 120)
        return await self.findings(rule)

    async def findings(self, rule: Any) -> list[Any]:
        page = await self.workspace.admin.ListUsageFindings(
            filter=f'rule = "{rule.name}"', orderBy="startDate", pageSize=100
        )
        return list(page.usage_findings)

    async def _runs(self, rule: Any) -> int:
        from crmkit.tables import BulkRun

        async with self.workspace.running.sessions() as session:
            return await session.scalar(select(func.count()).where(BulkRun.about == rule.name)) or 0

    async def _ended(self, rule: Any) -> bool:
        from crmkit.tables import BulkRun

        async with self.workspace.running.sessions() as session:
            return set(await session.scalars(select(BulkRun.state).where(BulkRun.about == rule.name))) == {
                "DONE"
            }

    async def known(self, collection: str, owner: str, **record: Any) -> str:
        """Another service has told of a record."""
        name = f"{collection}/{uuid4()}"
        body = {
            "name": name,
            "displayName": name,
            "owner": owner,
            "createTime": "2026-01-05T02:00:00Z",
            **record,
        }
        fact = Fact("crm.sales.v1.ResourceChanged", uuid4(), at(date(2026, 1, 5)), owner, name, 1,
                    {"name": name, "action": "CREATED", "resource": body})  # fmt: skip
        async with self.workspace.running.call("test", system("workspace")) as call:
            await known_record.learn([fact], call)
        return name

    async def said(self, person: str, record: str, day: date, words: str) -> None:
        told = {"name": f"interactions/{uuid4()}", "subjects": [record], "summary": words}
        fact = Fact(
            "crm.customer.v1.InteractionLogged",
            uuid4(),
            at(day),
            person,
            told["name"],
            1,
            {"interaction": told},
        )
        async with self.workspace.running.call("test", system("workspace")) as call:
            await usage_facts.keep_interaction(fact, call)


@pytest.fixture
async def firm(workspace: Service, office: Any) -> Firm:
    return await Firm(workspace, office).begin()


def shown(findings: list[Any]) -> list[tuple[str, str, list[str]]]:
    """Whose, from when, and what shows it."""
    kinds = UsageFinding.__message__.Evidence.Kind
    return [
        (
            one.owner,
            f"{one.start_date.month}-{one.start_date.day}",
            [kinds.Name(said.kind) for said in one.evidence],
        )
        for one in findings
    ]


def parts(day: date) -> dict[str, int]:
    return {"year": day.year, "month": day.month, "day": day.day}


async def away(workspace: Service, client: Any, kind: str, first: date, last: date) -> None:
    event = {
        "displayName": kind, "kind": kind, "startDate": parts(first), "endDate": parts(last),
        "acceptConflicts": True,
    }  # fmt: skip
    await client.CreateCalendarEvent(calendarEvent=event)


@pytest.mark.capability("a.usage")
async def test_a_working_day_without_an_action_is_found_but_no_leave_no_weekend_and_no_journey_with_two_days(
    workspace: Service, firm: Firm, office: Any
) -> None:
    lazy = await firm.hire()
    client = await office.client_of(firm.made)
    await away(workspace, client, "LEAVE", day(3), day(3))
    await firm.acted(lazy, [day(0), day(1), day(4)])
    # A key and a job of the person are not the person.
    await firm.acted(lazy, [day(2)], actor="apiKeys/1")
    await firm.acted(lazy, [day(2)], method="BulkImport")
    once = await firm.hire()
    await away(workspace, await office.client_of(firm.made), "TRAVEL", day(0), day(4))
    await firm.acted(once, [day(1)])
    twice = await firm.hire()
    await away(workspace, await office.client_of(firm.made), "TRAVEL", day(0), day(4))
    await firm.acted(twice, [day(1), day(3)])
    rule = await firm.rule("LOGIN", MONDAY, outcome="NOTE", steps=[{"afterDays": 0, "to": "SUPERIOR"}])
    simulated = await workspace.admin.SimulateUsageRule(name=rule.name)
    assert simulated.people == 3

    found = await firm.night(rule, day(6))
    assert sorted(shown(found)) == sorted([(lazy, "3-4", ["NO_LOGIN"]), (once, "3-2", ["NO_LOGIN"] * 4)])
    wednesday = next(one for one in found if one.owner == lazy)
    assert wednesday.evidence[0].day == day(2).isoformat()
    assert await office.notices(client, wednesday.name)
    # The same days again find nothing new.
    async with workspace.running.call("test", system("workspace")) as call:
        again = await call.named(UsageRule, rule.name)
        assert again
        again.covered_date = MONDAY - timedelta(days=1)
    assert len(await firm.night(rule, day(6))) == 2

    async with workspace.running.call("test", system("workspace")) as call:
        await using.climb(call.now, call)
    assert await office.notices(workspace.manager, wednesday.name)


@pytest.mark.capability("a.usage")
async def test_a_holiday_of_the_company_or_of_the_own_department_is_no_missed_day(
    workspace: Service, firm: Firm, office: Any
) -> None:
    # A week of its own: what is a holiday once stays one for every other test.
    monday = date(2026, 6, 8)
    person, admin, mark = await firm.hire(), workspace.admin, uuid4().hex[:8]
    elsewhere = await admin.CreateDepartment(department={"displayName": f"他部{mark}"})
    holidays = (await admin.ListDictionaries(filter='key = "companyHolidays"')).dictionaries[0]
    entries = [
        {
            "key": f"{name}_{mark}",
            "label": {"zh": name},
            "validFrom": parts(one),
            "validTo": parts(one),
            **more,
        }
        for name, one, more in (
            ("FOUNDERS", monday + timedelta(days=1), {}),
            ("OURS", monday + timedelta(days=2), {"departments": [workspace.person("sales1").department]}),
            ("THEIRS", monday + timedelta(days=3), {"departments": [elsewhere.name]}),
        )
    ]
    body = {"name": holidays.name, "entries": entries}
    await admin.UpdateDictionary(dictionary=body, updateMask="entries")
    await admin.PublishDictionary(name=holidays.name)
    told = "dictionary.companyHolidays"
    await workspace.eventually(lambda: mark in str(workspace.running.config.get(told)))
    rule = await firm.rule("LOGIN", monday)
    found = await firm.night(rule, monday + timedelta(days=4))
    assert shown(found) == [(person, f"6-{number}", ["NO_LOGIN"]) for number in (8, 11, 12)]


@pytest.mark.capability("a.usage")
async def test_the_board_shows_persons_departments_and_rules_to_who_may_see_the_findings(
    workspace: Service, firm: Firm, office: Any
) -> None:
    """What was let go does not count; penalties only once a second person has confirmed them."""
    team = await workspace.admin.CreateDepartment(
        department={"displayName": f"榜{firm.role}", "parent": workspace.person("manager").department}
    )
    lazy = await firm.hire(department=team.name)
    me = await office.client_of(firm.made)
    keen = await firm.hire(department=team.name)
    await firm.acted(keen, [day(n) for n in range(5)])
    await firm.acted(lazy, [day(n) for n in range(2)])
    money = {"currencyCode": "CNY", "amount": "50"}
    rule = await firm.rule("LOGIN", MONDAY, outcome="PENALTY", amount=money)
    first, second, _ = await firm.night(rule, day(4))
    for finding in (first, second):
        await me.ExplainUsageFinding(name=finding.name, explanation="外出未带电脑")
    await workspace.manager.ConfirmUsageFinding(name=first.name)
    waived = await workspace.manager.WaiveUsageFinding(name=second.name, reason="确有困难，予以豁免")
    await workspace.manager.CloseUsageFinding(name=waived.name)
    span = {"startDay": day(0).isoformat(), "endDay": day(6).isoformat()}
    seen = await workspace.admin.GetUsageBoard(**span)
    (person,) = [row for row in seen.people if row.name == lazy]
    figures = (person.findings, person.confirmed, person.waiting, person.waived, person.kept)
    assert figures == (2, 1, 1, 1, 0) and person.display_name == firm.names[lazy]
    assert [one.amount for one in person.penalties] == ["50.00"]
    (department,) = [row for row in seen.departments if row.name == team.name]
    assert (department.people, department.kept, department.findings) == (2, 1, 2)
    (by_rule,) = [row for row in seen.rules if row.name == rule.name]
    assert (by_rule.people, by_rule.findings, by_rule.waived) == (1, 2, 1)
    # Other days, other people: nothing of it. Who looks at the board sees no more than findings of the own scope.
    before = await workspace.admin.GetUsageBoard(startDay="2026-01-05", endDay="2026-01-09")
    assert rule.name not in {row.name for row in before.rules}
    own = await me.GetUsageBoard(**span)
    assert {row.name for row in own.people} == {lazy}
    others = await workspace.sales1.GetUsageBoard(**span)
    assert lazy not in {row.name for row in others.people}
    assert await office.refusal(me.GetUsageBoard(startDay="gestern")) == "VALIDATION"


async def test_what_somebody_does_counts_for_the_day(workspace: Service) -> None:
    task = await workspace.sales1.CreateTask(task={"displayName": "今天用过"})

    async def counted() -> bool:
        async with workspace.running.sessions() as session:
            days = select(func.count()).where(usage_facts.UsageDay.employee == task.owner)
            return bool(await session.scalar(days))

    assert await workspace.eventually(counted)


@pytest.mark.capability("a.usage")
async def test_two_weeks_of_silence_are_told_to_the_person_then_to_the_superior_then_a_penalty_is_proposed(
    workspace: Service, firm: Firm, office: Any
) -> None:
    silent = await firm.hire()
    me = await office.client_of(firm.made)
    back = await firm.hire()
    for person in (silent, back):
        await firm.acted(person, [date(2026, 2, 10)])
    steps = [
        {"afterDays": 7, "to": "SUPERIOR", "channel": "MAIL"},
        {"afterDays": 14, "to": "SUPERIOR", "propose": True},
    ]
    money = {"currencyCode": "CNY", "amount": "200"}
    rule = await firm.rule(
        "SILENCE", date(2026, 2, 20), threshold=14, outcome="PENALTY", amount=money, steps=steps
    )
    assert not await firm.night(rule, date(2026, 2, 23))
    found = await firm.night(rule, date(2026, 2, 24))
    assert sorted(shown(found)) == sorted([(silent, "2-11", ["SILENT"]), (back, "2-11", ["SILENT"])])
    finding = next(one for one in found if one.owner == silent)
    assert (finding.outcome, finding.rung) == (1, 0) and await office.notices(me, finding.name)
    await firm.acted(back, [date(2026, 2, 26)])

    for days, rung, outcome in ((6, 0, "NOTE"), (7, 1, "NOTE"), (14, 2, "PENALTY"), (30, 2, "PENALTY")):
        async with workspace.running.call("test", system("workspace")) as call:
            await using.climb(call.now + timedelta(days=days), call)
        now = await workspace.admin.GetUsageFinding(name=finding.name)
        assert (now.rung, now.outcome) == (rung, {"NOTE": 1, "PENALTY": 3}[outcome])
    assert now.amount.amount.startswith("200")
    ended = {one.owner: one.state for one in await firm.findings(rule)}
    assert ended == {silent: 1, back: 5}

    # Nothing follows before a second person confirms it, and that after the person could say something.
    assert (
        await office.refusal(workspace.manager.ConfirmUsageFinding(name=finding.name)) == "ILLEGAL_TRANSITION"
    )
    said = await me.ExplainUsageFinding(name=finding.name, explanation="住院，未能登录")
    assert said.state == 2
    assert await office.refusal(me.ConfirmUsageFinding(name=finding.name)) == "NOT_AN_APPROVER"
    assert (
        await office.refusal(workspace.manager.ExplainUsageFinding(name=finding.name, explanation="x"))
        == "NOT_THE_OWNER"
    )
    assert not await workspace.facts("crm.workspace.v1.UsagePenaltyConfirmed", finding.name)
    confirmed = await workspace.manager.ConfirmUsageFinding(name=finding.name)
    assert (confirmed.state, confirmed.decider) == (3, workspace.person("manager").employee)
    (penalty,) = await workspace.facts("crm.workspace.v1.UsagePenaltyConfirmed", finding.name)
    assert penalty["usageFinding"]["amount"]["amount"].startswith("200")
    for call in (workspace.manager.ConfirmUsageFinding(name=finding.name), me.ExplainUsageFinding(name=finding.name, explanation="晚了"),
                 workspace.manager.WaiveUsageFinding(name=finding.name, reason="不再追究此事")):  # fmt: skip
        assert await office.refusal(call) == "FINDING_CLOSED"
    assert (await workspace.manager.CloseUsageFinding(name=finding.name)).state == 5


@pytest.mark.capability("a.usage")
async def test_an_explanation_comes_within_five_working_days_and_what_is_let_go_says_why(
    workspace: Service, firm: Firm, office: Any
) -> None:
    person = await firm.hire()
    me = await office.client_of(firm.made)
    rule = await firm.rule("LOGIN", day(0), outcome="NOTICE")
    first, second = await firm.night(rule, day(1))
    until = first.explain_date
    assert date(until.year, until.month, until.day) >= datetime.now(ZONE).date() + timedelta(days=5)
    async with workspace.running.call("test", system("workspace")) as call:
        late = update(UsageFinding).where(UsageFinding.owner == person).values(explain_date=date(2026, 3, 9))
        await call.db.execute(late)
    assert (
        await office.refusal(me.ExplainUsageFinding(name=first.name, explanation="忘了"))
        == "EXPLANATION_TOO_LATE"
    )
    assert (
        await office.refusal(workspace.manager.WaiveUsageFinding(name=first.name, reason="短"))
        == "REASON_REQUIRED"
    )
    waived = await workspace.manager.WaiveUsageFinding(name=first.name, reason="当天系统停机维护")
    assert (waived.state, waived.reason) == (4, "当天系统停机维护")
    assert (await workspace.manager.ConfirmUsageFinding(name=second.name)).state == 3
    # The board: by rule, person, department and state.
    board = await workspace.admin.AggregateUsageFindings(
        filter=f'rule = "{rule.name}"', groupBy=["owner", "department", "state"]
    )
    assert [int(row.count) for row in board.rows] == [1, 1]
    assert await office.refusal(workspace.sales1.GetUsageFinding(name=first.name)) == "NOT_FOUND"


@pytest.mark.capability("a.usage")
async def test_nothing_more_follows_from_what_a_rule_has_found_that_was_retired(
    workspace: Service, firm: Firm
) -> None:
    silent = await firm.hire()
    await firm.acted(silent, [date(2026, 2, 10)])
    steps = [{"afterDays": 7, "to": "SUPERIOR", "propose": True}]
    rule = await firm.rule("SILENCE", date(2026, 2, 20), threshold=14, outcome="NOTICE", steps=steps)
    (finding,) = await firm.night(rule, date(2026, 2, 24))
    await workspace.admin.RetireUsageRule(name=rule.name)
    async with workspace.running.call("test", system("workspace")) as call:
        await using.climb(call.now + timedelta(days=30), call)
    now = await workspace.admin.GetUsageFinding(name=finding.name)
    assert (now.state, now.rung, now.outcome) == (finding.state, 0, finding.outcome)
    # Who decides may still let it go.
    waived = await workspace.manager.WaiveUsageFinding(name=finding.name, reason="规范已停用，不再追究")
    assert waived.state == 4


@pytest.mark.capability("a.usage")
async def test_every_open_lead_and_opportunity_has_one_update_by_a_person_in_the_month(
    workspace: Service, firm: Firm
) -> None:
    person = await firm.hire()
    silent = await firm.known("opportunities", person, state="OPEN")
    told = await firm.known("opportunities", person, state="OPEN")
    stepped = await firm.known("leads", person, state="NEW")
    repeated = await firm.known("leads", person, state="NEW")
    await firm.known("opportunities", person, state="LOST")
    await firm.known("opportunities", person, state="OPEN", createTime="2026-03-26T02:00:00Z")
    system_only = await firm.known("leads", person, state="NEW")
    await firm.said(person, told, date(2026, 3, 30), "本月无进展")
    for month in (1, 2, 3):
        await firm.said(person, repeated, date(2026, month, 20), "无 进展" if month == 2 else "无进展")
    steps = [
        Fact("crm.sales.v1.ResourceChanged", uuid4(), at(date(2026, 3, 9)), actor, name, 2,
             {"name": name, "action": "UPDATED", "after": {"state": "WORKING"}, "method": method})
        for actor, name, method in (
            (person, stepped, "UpdateLead"), ("system/sales", system_only, "recycle"), (person, system_only, "BulkUpdate"),
        )
    ]  # fmt: skip
    async with workspace.running.call("test", system("workspace")) as call:
        await usage_facts.keep_changes(steps, call)
    rule = await firm.rule("MONTHLY_UPDATE", date(2026, 3, 1), outcome="RECYCLE")
    (finding,) = await firm.night(rule, date(2026, 3, 31))
    kinds = UsageFinding.__message__.Evidence.Kind
    assert {one.record: kinds.Name(one.kind) for one in finding.evidence} == {
        silent: "NO_UPDATE", repeated: "DUPLICATE_TEXT", system_only: "NO_UPDATE",
    }  # fmt: skip
    async with workspace.running.call("test", system("workspace")) as call:
        await call.db.execute(
            update(UsageFinding).where(UsageFinding.owner == person).values(explain_date=date(2026, 4, 9))
        )
    await workspace.manager.ConfirmUsageFinding(name=finding.name)
    (proposed,) = await workspace.facts("crm.workspace.v1.UsageRecycleProposed", finding.name)
    assert silent in str(proposed)


@pytest.mark.capability("a.usage")
async def test_late_records_empty_fields_and_unmarked_deals_are_found(workspace: Service, firm: Firm) -> None:
    person = await firm.hire()
    works = [("interactions/in-time", day(0), day(1)), ("interactions/late", day(0), day(4))]
    async with workspace.running.call("test", system("workspace")) as call:
        for source, happened, recorded in works:
            await call.db.execute(
                insert(WorkDone).values(source=f"{source}-{person}", employee=person, measure="CALLS", day=happened, late=True,
                         recorded=recorded, about=[])
            )  # fmt: skip
    timely = await firm.rule("TIMELINESS", day(0), threshold=2, outcome="NOTE")
    (late,) = await firm.night(timely, day(4))
    assert late.evidence[0].record == f"interactions/late-{person}" and late.evidence[0].count == 4

    full = await firm.known("leads", person, state="NEW", companyName="齐全公司", channel="WEB")
    half = await firm.known("leads", person, state="NEW", companyName="半全公司")
    ended = await firm.known("leads", person, state="DISQUALIFIED")
    asked = [{"fields": ["companyName"]}, {"stage": "NEW", "fields": ["channel"]}]
    complete = await firm.rule(
        "COMPLETENESS", date(2026, 3, 1), collection="leads", threshold=90, requirements=asked
    )
    (lacking,) = await firm.night(complete, date(2026, 3, 31))
    share, record = lacking.evidence
    assert (share.count, record.record, list(record.fields)) == (75, half, ["channel"])
    assert full not in str(lacking) and ended not in str(lacking)

    bare = await firm.known("opportunities", person, state="WON", closeTime="2026-03-03T02:00:00Z")
    ordered = await firm.known("opportunities", person, state="WON", closeTime="2026-03-03T02:00:00Z")
    await firm.known("contracts", person, opportunity=ordered)
    marks = await firm.rule("CLOSE_MARK", date(2026, 3, 5), threshold=7)
    assert not await firm.night(marks, date(2026, 3, 10))
    (unmarked,) = await firm.night(marks, date(2026, 3, 11))
    assert [one.record for one in unmarked.evidence] == [bare]


@pytest.mark.capability("a.usage")
async def test_who_has_kept_a_rule_for_a_month_is_rewarded_and_its_owner_is_reminded_of_the_review(
    workspace: Service, firm: Firm, office: Any
) -> None:
    keen, other = await firm.hire(), await firm.hire()
    march = [date(2026, 3, 1) + timedelta(days=n) for n in range(31)]
    await firm.acted(keen, march)
    await firm.acted(other, march[:20])
    money = {"currencyCode": "CNY", "amount": "100"}
    assert await office.refusal(firm.rule("LOGIN", march[0], outcome="REWARD")) == "VALIDATION"
    review = {"year": 2026, "month": 4, "day": 1}
    rule = await firm.rule("LOGIN", march[0], outcome="REWARD", amount=money, reviewDate=review)
    found = await firm.night(rule, march[-1])
    assert shown(found) == [(keen, "3-1", ["KEPT"])]
    await workspace.manager.ConfirmUsageFinding(name=found[0].name)
    assert await workspace.facts("crm.workspace.v1.UsagePenaltyConfirmed", found[0].name)
    for _ in range(2):
        async with workspace.running.call("test", system("workspace")) as call:
            await using.remind_of_reviews(at(date(2026, 4, 20)), call)
    assert len(await office.notices(workspace.admin, rule.name)) == 1
    async with workspace.running.call("test", system("workspace")) as call:
        await using.remind_of_reviews(at(date(2026, 5, 20)), call)
    changed = await workspace.admin.ListNotifications(filter=f'target = "{rule.name}"')
    # What nobody has read about the same record is one line that counts.
    assert sum(max(one.count, 1) for one in changed.notifications) == 2
    assert await office.refusal(
        workspace.admin.UpdateUsageRule(usageRule={"name": rule.name, "threshold": 3}, updateMask="threshold")
    ) == "ILLEGAL_TRANSITION"  # fmt: skip
    shipped = await workspace.admin.ListUsageRules(filter='displayName:"GM-0"')
    assert len(shipped.usage_rules) == 3


@pytest.mark.capability("a.usage")
async def test_who_lacks_a_certificate_is_warned_found_and_rests_from_the_role_that_wants_it(
    workspace: Service, firm: Firm, office: Any
) -> None:
    code, today = f"trained_{uuid4().hex[:8]}", datetime.now(ZONE).date()
    role = {"displayName": code, "englishName": code, "code": code, "scope": "OWN", "requiresCertificate": "PRODUCT",
            "permissions": ["workspace.notes.read"]}  # fmt: skip
    await workspace.admin.CreateRole(role=role)
    soon = {"item": "PRODUCT", "expires": parts(today + timedelta(days=20))}
    person = await firm.hire(certificates=[soon])
    client, key = await office.client_of(firm.made), person.partition("/")[2]
    await workspace.admin.AssignEmployeeRole(name=person, role=code)
    without = await firm.hire()
    assert (
        await office.refusal(workspace.admin.AssignEmployeeRole(name=without, role=code))
        == "CERTIFICATE_EXPIRED"
    )
    await workspace.eventually(lambda: code in workspace.running.config.get(f"employee.{key}")["roles"])

    rule = await firm.rule(
        "CERTIFICATE", today - timedelta(days=1), certificates=["PRODUCT"], outcome="NOTICE"
    )
    for _ in range(2):
        async with workspace.running.call("test", system("workspace")) as call:
            await using.warn_of_certificates(call.now, call)
    (warned,) = await office.notices(client, person)
    assert "PRODUCT" in warned.display_name
    (found,) = await firm.night(rule, today - timedelta(days=1))
    assert (found.owner, list(found.evidence[0].fields)) == (without, ["PRODUCT"])

    over = {"name": person, "certificates": [{**soon, "expires": parts(today - timedelta(days=1))}]}
    await workspace.admin.UpdateEmployee(employee=over, updateMask="certificates")
    await workspace.eventually(lambda: code not in workspace.running.config.get(f"employee.{key}")["roles"])
    allowed = await workspace.admin.ListEmployeePermissions(name=person)
    assert code not in {one.role for one in allowed.roles}
