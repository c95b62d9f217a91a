"""How rules of use were kept: findings by person, department and rule, of what the caller may see."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.scope import predicate
from crmkit.values import Money
from sqlalchemy import func, select

from workspace.model.department import Department
from workspace.model.employee import Employee
from workspace.model.usage import UsageFinding, UsageRule


@dataclass
class _Sum:
    people: set[str] = field(default_factory=set[str])
    lacking: set[str] = field(default_factory=set[str])
    counts: dict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))
    penalties: dict[str, Decimal] = field(default_factory=lambda: defaultdict[str, Decimal](Decimal))

    def add(self, row: Any) -> None:
        """Counts findings of one person, rule and state."""
        self.people.add(row.owner)
        decided = bool(row.decider)
        if row.state == "WAIVED" or (
            row.state == "CLOSED" and decided and row.outcome == "NOTE" and row.reason
        ):
            self.counts["waived"] += row.count
            return
        if row.outcome == "REWARD":
            self.counts["rewards"] += row.count if decided else 0
            return
        self.lacking.add(row.owner)
        self.counts["findings"] += row.count
        self.counts["waiting"] += row.count if row.state in {"OPEN", "EXPLAINED"} else 0
        self.counts["confirmed"] += row.count if decided else 0
        if decided and row.outcome == "PENALTY" and row.currency:
            self.penalties[row.currency] += row.amount


async def board(first: date, last: date, call: Call) -> pb.UsageBoard:
    """The three ways to look at what was found in days that touch these."""
    told = UsageFinding.__table__.c
    waived = func.coalesce(told.reason, "") != ""
    keys = (
        told.owner, told.department, told.rule, told.state, told.outcome, told.decider, waived.label("reason"),
        told.amount_currency.label("currency"),
    )  # fmt: skip
    rows = select(*keys, func.count().label("count"), func.sum(told.amount_amount).label("amount")).where(
        predicate(UsageFinding, call.caller), told.start_date <= last, told.end_date >= first
    )
    people, departments, rules = (defaultdict[str, _Sum](_Sum) for _ in range(3))
    for row in await call.db.execute(rows.group_by(*keys)):
        for sums, name in ((people, row.owner), (departments, row.department), (rules, row.rule)):
            sums[name].add(row)
    for department, staff in (await _staff([*departments], call)).items():
        departments[department].people |= staff
    answer = pb.UsageBoard(start_day=first.isoformat(), end_day=last.isoformat())
    answer.people.extend(_rows(people, await _names(Employee, people, call)))
    answer.departments.extend(_rows(departments, await _names(Department, departments, call)))
    answer.rules.extend(_rows(rules, await _names(UsageRule, rules, call)))
    return answer


async def _staff(departments: list[str], call: Call) -> Mapping[str, set[str]]:
    """Who works in each of the departments."""
    rows = select(Employee.id, Employee.department).where(
        Employee.department.in_(departments), Employee.state == "ACTIVE", Employee.kind == "STAFF"
    )
    found: dict[str, set[str]] = defaultdict(set)
    for key, department in await call.db.execute(rows):
        found[department].add(f"employees/{key}")
    return found


async def _names(model: Any, names: Iterable[str], call: Call) -> dict[str, str]:
    ids = [name.partition("/")[2] for name in names if name]
    rows = await call.db.scalars(select(model).where(model.id.in_(ids)))
    return {row.name: row.display_name for row in rows}


def _rows(sums: Mapping[str, _Sum], names: Mapping[str, str]) -> list[pb.UsageBoard.Row]:
    rows = [
        pb.UsageBoard.Row(
            name=name, display_name=names.get(name, name), people=len(one.people),
            kept=len(one.people - one.lacking), findings=one.counts["findings"], waiting=one.counts["waiting"],
            confirmed=one.counts["confirmed"], waived=one.counts["waived"], rewards=one.counts["rewards"],
            penalties=[Money(amount, code).message() for code, amount in sorted(one.penalties.items())],
        )
        for name, one in sums.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row.findings, row.display_name, row.name))
