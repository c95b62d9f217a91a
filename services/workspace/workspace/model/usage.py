"""Rules of use and what was found."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Validation, Violation, check_reason, required
from crmkit.resource import Resource
from crmkit.values import Money
from sqlalchemy import Index
from sqlalchemy.orm import Mapped

from workspace.holidays import works
from workspace.model.base import Base, check_owner
from workspace.model.custom_field import check_collection
from workspace.model.known_record import described_as
from workspace.model.plan import check_superior
from workspace.model.usage_facts import WATCHED
from workspace.telling import Manner, notify

EXPLAINED_WITHIN = 5
# Whatever holidays there are, some day is the last one.
LONGEST = 60
# What a rule takes where it says no threshold.
USUAL = {"CERTIFICATE": 30, "SILENCE": 14, "TIMELINESS": 2, "COMPLETENESS": 100, "CLOSE_MARK": 7}
DECIDED = ("CONFIRMED", "WAIVED", "CLOSED")


class UsageRule(Resource, Base):
    """A rule. In force it is not changed: what was found must be found by what it said."""

    __message__ = pb.UsageRule

    display_name: Mapped[str]
    kind: Mapped[str]
    departments: Mapped[list[str]]
    roles: Mapped[list[str]]
    positions: Mapped[list[str]]
    collection: Mapped[str]
    threshold: Mapped[int]
    travel_threshold: Mapped[int]
    requirements: Mapped[Any]
    steps: Mapped[Any]
    outcome: Mapped[str]
    amount: Mapped[Money | None]
    review_date: Mapped[date | None]
    state: Mapped[str]
    certificates: Mapped[list[str]]
    covered_date: Mapped[date | None]

    async def creating(self, call: Call) -> None:
        """Begins as a draft of who makes it."""
        self.state = "DRAFT"
        self.owner = self.owner or call.caller.employee
        self.threshold = self.threshold or USUAL.get(self.kind, 0)
        self.travel_threshold = self.travel_threshold or 2
        self._check()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only its review moves while it is in force."""
        if changed - {"review_date"}:
            self.check_state("DRAFT", "RETIRED")
        self._check()

    async def deleting(self, call: Call) -> None:
        """What was in force stays, so that findings have their rule."""
        self.check_state("DRAFT")

    def activate(self, call: Call) -> None:
        """Looks from today on."""
        self.check_state("DRAFT", "RETIRED")
        self.state, self.covered_date = "ACTIVE", today(call) - timedelta(days=1)

    def retire(self) -> None:
        """Finds nothing more; what was found stays."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    def proposes_at_once(self) -> bool:
        """True where no step has to be waited for."""
        return not any(step.propose for step in self.steps)

    def _check(self) -> None:
        if self.outcome in {"PENALTY", "REWARD"} and self.amount is None:
            raise Validation(required("usage_rule.amount"))
        if self.kind == "MONTHLY_UPDATE" and self.collection not in {"", *WATCHED}:
            raise Validation(
                Violation(
                    "usage_rule.collection", "OUT_OF_RANGE", "只能是线索或商机", "Leads or opportunities."
                )
            )
        if self.kind == "CERTIFICATE" and not self.certificates:
            raise Validation(required("usage_rule.certificates"))
        if self.kind != "COMPLETENESS":
            return
        check_collection(self.collection)
        described = described_as(self.collection)
        short = (
            {f.json_name for f in described.fields.values() if not f.rule.multiline} if described else set()
        )
        asked = {name for one in self.requirements for name in one.fields}
        if not asked or asked - short:
            zh, en = (
                "请列出要检查的字段（不含长文本）",
                "Name fields of the collection that are no long texts.",
            )
            raise Validation(Violation("usage_rule.requirements", "UNKNOWN_FIELD", zh, en))


class UsageFinding(Resource, Base):
    """One for each rule, person and first day. It counts for nothing before a second person confirms it."""

    __message__ = pb.UsageFinding
    handed_over = False
    __table_args__ = (Index("usage_findings_key", "rule", "owner", "start_date", unique=True),)

    display_name: Mapped[str]
    rule: Mapped[str]
    start_date: Mapped[date | None]
    end_date: Mapped[date | None]
    evidence: Mapped[Any]
    state: Mapped[str]
    explanation: Mapped[str]
    explain_date: Mapped[date | None]
    outcome: Mapped[str]
    amount: Mapped[Money | None]
    decider: Mapped[str]
    decide_time: Mapped[datetime | None]
    reason: Mapped[str]
    rung: Mapped[int]

    async def creating(self, call: Call) -> None:
        """Is open for an explanation."""
        self.state, self.rung = "OPEN", 0
        self.explain_date = _working_day_after(today(call), EXPLAINED_WITHIN, works(self.department, call))

    def explain(self, explanation: str, call: Call) -> None:
        """The person says why."""
        check_owner(self, call)
        self._check_open()
        assert self.explain_date is not None
        if today(call) > self.explain_date:
            raise FailedPrecondition("EXPLANATION_TOO_LATE", date=self.explain_date.isoformat())
        self.explanation, self.state = explanation, "EXPLAINED"

    async def confirm(self, call: Call) -> None:
        """A second person agrees, once the person has said something or may say nothing more."""
        self._check_decides(call)
        assert self.explain_date is not None
        if self.state == "OPEN" and self.outcome != "REWARD" and today(call) <= self.explain_date:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.state)
        self.state = "CONFIRMED"
        if self.outcome in {"PENALTY", "REWARD"}:
            call.emit(events.UsagePenaltyConfirmed, usage_finding=self)
        elif self.outcome == "RECYCLE":
            call.emit(events.UsageRecycleProposed, usage_finding=self)
        zh, en = f"已确认：{self.display_name}", f"Confirmed: {self.display_name}"
        manner = Manner(importance="HIGH") if self.outcome in {"NOTICE", "PENALTY"} else Manner()
        await notify(
            call, [self.owner], "usage", f"usage:{self.name}:confirmed", self.name, zh, en, manner=manner
        )

    def waive(self, reason: str, call: Call) -> None:
        """A second person lets it go."""
        self._check_decides(call)
        self.state, self.reason, self.outcome = "WAIVED", check_reason(reason), "NOTE"
        call.emit(events.UsageFindingClosed, usage_finding=self)

    def close(self, call: Call) -> None:
        """Puts away what was decided."""
        check_superior(self, "", call)
        self.check_state("CONFIRMED", "WAIVED")
        if self.state == "CONFIRMED":
            call.emit(events.UsageFindingClosed, usage_finding=self)
        self.state = "CLOSED"

    def end(self, reason: str, call: Call) -> None:
        """It has mended itself before anybody decided."""
        self.state, self.reason = "CLOSED", reason
        call.emit(events.UsageFindingClosed, usage_finding=self)

    def _check_open(self) -> None:
        if self.state in DECIDED:
            raise FailedPrecondition("FINDING_CLOSED")

    def _check_decides(self, call: Call) -> None:
        check_superior(self, "", call)
        self._check_open()
        self.decider, self.decide_time = call.caller.employee, call.now


def _working_day_after(day: date, count: int, works: Callable[[date], bool]) -> date:
    last = day + timedelta(days=LONGEST)
    while count and day < last:
        day += timedelta(days=1)
        count -= works(day)
    return day
