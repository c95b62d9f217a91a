"""Number rules as an administrator has them: previewed, refused, looked through, advanced."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.testing import Service
from sqlalchemy import text

Finding = pb.NumberRule.Finding


@pytest.fixture
async def numbers(workspace: Service, office: Any) -> AsyncIterator["Numbers"]:
    """Employees are numbered anew by rules of a test; afterwards as ever."""
    made = Numbers(workspace, office)
    yield made
    await made.end()


class Numbers:
    """Puts rules of employees into force, hires by them, and looks through what they gave."""

    def __init__(self, workspace: Service, office: Any) -> None:
        self.workspace, self.office, self.admin = workspace, office, workspace.admin
        self.mark, self.rule = f"V{uuid4().hex[:6]}", ""

    async def draft(self, pattern: str, **fields: Any) -> Any:
        """A rule of employees that is not in force."""
        body = {"collection": "employees", "pattern": pattern, **fields}
        return await self.admin.CreateNumberRule(numberRule=body)

    async def activate(self, pattern: str, **fields: Any) -> Any:
        """A rule in force, and known to be."""
        made = await self.admin.ActivateNumberRule(name=(await self.draft(pattern, **fields)).name)
        self.rule = made.name
        config = self.workspace.running.config
        await self.workspace.eventually(
            lambda: (config.get("numberRule.employees") or {}).get("pattern") == pattern
        )
        return made

    async def hire(self) -> Any:
        """Somebody with the next number."""
        body = {"displayName": "编号", "department": self.workspace.person("sales1").department}
        return await self.admin.CreateEmployee(employee=body)

    async def look(self) -> pb.NumberRule.Check:
        """What the numbers show."""
        asked = await self.admin.VerifyNumberRule(name=self.rule)

        async def answered() -> Any:
            found = (await self.admin.GetNumberRule(name=self.rule)).check
            return found if found.HasField("time") and found.asked_time == asked.check.asked_time else None

        return await self.workspace.eventually(answered, 60)

    async def known(self, number: str) -> None:
        """Waits until workspace knows the record of that number as a reader of facts."""
        await self._eventually(
            "SELECT EXISTS (SELECT FROM known_records WHERE record ->> 'number' = :number)", number=number
        )

    async def gone(self, name: str) -> None:
        """Waits until it knows that the record is no more."""
        await self._eventually("SELECT deleted FROM known_records WHERE name = :name", name=name)

    async def _eventually(self, query: str, **values: str) -> None:
        async def found() -> Any:
            async with self.workspace.running.system_call("test", None) as call:
                return await call.db.scalar(text(query), values)

        await self.workspace.eventually(found)

    @asynccontextmanager
    async def behind(self) -> AsyncIterator[Any]:
        """The table, past the service: what nobody can do by its doors."""
        async with self.workspace.running.system_call("test", None) as call:
            yield call.db

    async def end(self) -> None:
        """The pattern of ever counts again."""
        if self.rule:
            await self.admin.RetireNumberRule(name=self.rule)
            config = self.workspace.running.config
            await self.workspace.eventually(lambda: config.get("numberRule.employees") is None)


@pytest.mark.capability("a.coding")
async def test_numbers_are_held_against_their_counter(numbers: Numbers, office: Any) -> None:
    """Missing ones with the reason of each, doubles, what is out of order; a counter is advanced, never back."""
    admin, mark = numbers.admin, numbers.mark
    rule = await numbers.activate(f"{mark}-{{seq:3}}", gapFree=True, start=5, timeZone="Asia/Tokyo")
    assert list(rule.examples) == [f"{mark}-{place:03}" for place in range(5, 15)]
    people = [await numbers.hire() for _ in range(4)]
    assert [one.number[-3:] for one in people] == ["005", "006", "007", "008"]
    check = await numbers.look()
    assert (check.numbers, check.missing, list(check.findings)) == (4, 0, [])
    assert check.strangers > 0
    assert await office.refusal(admin.DeleteEmployee(name=people[0].name)) == "NUMBERED_NOT_DELETABLE"

    await numbers.known(f"{mark}-008")
    for reason, words in (
        ("NUMBER_BACKWARDS", {"nextNumber": f"{mark}-008", "reason": "退回已用过的编号"}),
        ("NUMBER_PATTERN_INVALID", {"nextNumber": "X-900", "reason": "不是这条规则的编号"}),
        ("REASON_REQUIRED", {"nextNumber": f"{mark}-020", "reason": "换"}),
    ):
        assert await office.refusal(admin.AdvanceNumberRule(name=rule.name, **words)) == reason
    await admin.AdvanceNumberRule(name=rule.name, nextNumber=f"{mark}-020", reason="旧系统已用到 19 号")

    async def advanced() -> Any:
        return (await admin.GetNumberRule(name=rule.name)).advances[0].done

    await numbers.workspace.eventually(advanced)
    people += [await numbers.hire() for _ in range(3)]
    assert [one.number[-3:] for one in people[4:]] == ["020", "021", "022"]

    key = people[1].name.partition("/")[2]
    async with numbers.behind() as db:
        await db.execute(text("DELETE FROM employees WHERE id = :id"), {"id": key})
        for number, change in (
            (f"{mark}-021", "number = number || '-'"),
            (f"{mark}-022", "create_time = create_time - interval '1 hour'"),
        ):
            await db.execute(
                text(f"UPDATE employees SET {change} WHERE number = :number"), {"number": number}
            )
        twice = text("UPDATE employees SET number = :twice WHERE number = :number")
        await db.execute(twice, {"twice": f"{mark}-0007", "number": f"{mark}-021-"})
    check = await numbers.look()
    found = [
        (one.kind, one.first[-3:], one.last[-3:], one.count, one.reason, one.note) for one in check.findings
    ]
    assert found == [
        (Finding.MISSING, "006", "006", 1, Finding.UNKNOWN, ""),
        (Finding.DOUBLE, "007", "007", 2, Finding.REASON_UNSPECIFIED, ""),
        (Finding.MISSING, "009", "019", 11, Finding.ADVANCED, "旧系统已用到 19 号"),
        (Finding.MISSING, "021", "021", 1, Finding.UNKNOWN, ""),
        (Finding.OUT_OF_ORDER, "020", "022", 2, Finding.REASON_UNSPECIFIED, ""),
    ]  # fmt: skip
    assert check.missing == 2

    # A number that somebody brought along does not move the counter; it is taken, until the counter passes it.
    async with numbers.behind() as db:
        await db.execute(twice, {"twice": f"{mark}-023", "number": f"{mark}-0007"})
    assert await office.refusal(numbers.hire()) == "NUMBER_TAKEN"
    await admin.AdvanceNumberRule(name=rule.name, nextNumber=f"{mark}-024", reason="23 号是导入的编号")
    await numbers.workspace.eventually(advanced)
    assert (await numbers.hire()).number == f"{mark}-024"
    # Numbers never change afterwards.
    change = {"name": people[0].name, "displayName": "编号", "number": "ZZZ"}
    await admin.UpdateEmployee(employee=change, updateMask="displayName,number")
    assert (await admin.GetEmployee(name=people[0].name)).number == people[0].number


async def test_gaps_of_a_rule_that_lets_them_be_have_their_reason_too(numbers: Numbers) -> None:
    await numbers.activate(f"{numbers.mark}-{{seq:3}}")
    people = [await numbers.hire() for _ in range(3)]
    await numbers.known(people[1].number)
    await numbers.admin.DeleteEmployee(name=people[1].name)
    await numbers.gone(people[1].name)
    check = await numbers.look()
    found = [(one.first[-3:], one.last[-3:], one.reason) for one in check.findings]
    assert found == [("002", "002", Finding.DELETED), ("004", "050", Finding.NOT_GAP_FREE)]


async def test_a_rule_that_would_give_what_is_taken_is_refused(numbers: Numbers, office: Any) -> None:
    admin, mark = numbers.admin, numbers.mark
    await numbers.activate(f"{mark}-{{seq:3}}", gapFree=True)
    await numbers.known((await numbers.hire()).number)
    taken = await numbers.draft(f"{mark}-0{{seq:2}}")
    assert await office.refusal(admin.ActivateNumberRule(name=taken.name)) == "NUMBER_COLLISION"
    later = await numbers.draft(f"{mark}-0{{seq:2}}", start=40)
    await admin.ActivateNumberRule(name=later.name)
    # The counter of the first rule goes on where it was.
    numbers.rule = (await admin.ActivateNumberRule(name=numbers.rule)).name
    quotes = {"collection": "quotes", "pattern": "Q{yyyy}-{seq:4}", "gapFree": True}
    assert await office.refusal(admin.CreateNumberRule(numberRule=quotes)) == "GAP_FREE_ON_CREATE"
    for pattern in ("E{dict:nothing}-{seq}", "E{dict:email}-{seq}"):
        assert await office.refusal(numbers.draft(pattern)) == "NUMBER_PATTERN_INVALID"
    assert await office.refusal(numbers.draft("E-{seq}", timeZone="Mars/Base")) == "TIME_ZONE_UNKNOWN"


async def test_the_entry_of_a_dictionary_stands_in_the_number(numbers: Numbers) -> None:
    admin, mark = numbers.admin, numbers.mark
    rule = await numbers.activate(f"{mark}-{{dict:position}}-{{seq:2}}", gapFree=True)
    assert rule.example == f"{mark}-POSITION-42"
    positions = (await admin.ListDictionaries(filter='key = "positions"')).dictionaries[0]
    entry = next(one.key for one in positions.entries if one.published and not one.retired)
    body = {"displayName": "职位", "department": numbers.workspace.person("sales1").department}
    made = [
        await admin.CreateEmployee(employee={**body, "position": position}) for position in (entry, entry, "")
    ]
    assert [one.number for one in made] == [f"{mark}-{entry}-01", f"{mark}-{entry}-02", f"{mark}-00-01"]
    check = await numbers.look()
    assert (check.numbers, check.missing) == (3, 0)


@pytest.mark.capability("a.coding")
async def test_rules_of_one_collection_differ_in_their_records_their_order_and_their_numbers(
    numbers: Numbers, office: Any
) -> None:
    admin, mark, config = numbers.admin, numbers.mark, numbers.workspace.running.config
    for field, value, reason in (
        ("condition", "nothing = 1", "FILTER_INVALID"),
        ("condition", "name = = 1", "FILTER_INVALID"),
        ("assignOn", "fly", "VALIDATION"),
    ):
        assert await office.refusal(numbers.draft(f"{mark}-{{seq}}", **{field: value})) == reason
    tasks = {"collection": "tasks", "pattern": "T-{seq}"}
    assert await office.refusal(admin.CreateNumberRule(numberRule=tasks)) == "COLLECTION_NOT_NUMBERED"
    # A quote is known by its number from the beginning; where a verb numbers them, drafts leave no gap.
    quotes = {"collection": "quotes", "pattern": "Q{yyyy}-{seq:4}", "assignOn": "send"}
    assert await office.refusal(admin.CreateNumberRule(numberRule=quotes)) == "VALIDATION"
    plans = {"collection": "campaigns", "pattern": "MC{yyyy}-{seq:4}", "gapFree": True}
    assert await office.refusal(admin.CreateNumberRule(numberRule=plans)) == "GAP_FREE_ON_CREATE"
    await admin.CreateNumberRule(numberRule={**plans, "assignOn": "submit"})

    of_all = await numbers.activate(f"{mark}-{{seq:3}}")
    some = await numbers.draft(
        f"{mark}W-{{seq:3}}", condition='english_name = "welder"', priority=2, gapFree=True
    )
    await admin.ActivateNumberRule(name=some.name)
    for pattern, fields in (
        (f"{mark}X-{{seq:3}}", {"priority": 2}),
        (f"{mark}W-0{{seq:2}}", {"priority": 3}),
        (f"{mark}-{{seq:4}}", {"priority": 4, "start": 1000}),
    ):
        other = await numbers.draft(pattern, condition='english_name = "fitter"', **fields)
        assert await office.refusal(admin.ActivateNumberRule(name=other.name)) == "NUMBER_RULE_CONFLICT", (
            pattern
        )
    first = await numbers.draft(
        f"{mark}T-{{seq:3}}",
        condition='english_name = "welder" AND display_name = "学徒"',
        priority=1,
        assignOn="freeze",
    )
    await admin.ActivateNumberRule(name=first.name)

    async def known() -> bool:
        found = config.get("numberRule.employees") or {}
        patterns = [one["pattern"] for one in found.get("rules", [])]
        return patterns == [f"{mark}T-{{seq:3}}", f"{mark}W-{{seq:3}}"] and found["pattern"] == of_all.pattern

    await numbers.workspace.eventually(known)
    body = {"department": numbers.workspace.person("sales1").department}
    made = [
        await admin.CreateEmployee(employee={**body, "displayName": name, "englishName": kind})
        for name, kind in (("学徒", "welder"), ("师傅", "welder"), ("文员", ""))
    ]
    assert [one.number for one in made] == ["", f"{mark}W-001", f"{mark}-001"]
    # What the rule in force has numbered without gaps stays, whoever it is for now.
    assert await office.refusal(admin.DeleteEmployee(name=made[1].name)) == "NUMBERED_NOT_DELETABLE"
    await admin.DeleteEmployee(name=made[2].name)
    # One in force takes the place of that with the same condition alone.
    newer = await numbers.draft(f"{mark}V-{{seq:3}}", condition='english_name = "welder"', priority=2)
    await admin.ActivateNumberRule(name=newer.name)
    states = [(await admin.GetNumberRule(name=one.name)).state for one in (of_all, some, first, newer)]
    rule = pb.NumberRule
    assert states == [rule.ACTIVE, rule.RETIRED, rule.ACTIVE, rule.ACTIVE]
    for one in (first, newer):
        await admin.RetireNumberRule(name=one.name)
