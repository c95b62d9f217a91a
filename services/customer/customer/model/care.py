"""Care plans and their occurrences."""

from datetime import date, datetime, timedelta
from typing import Any

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit import listing
from crmkit.auth import system
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Validation, Violation, required
from crmkit.resource import Resource
from customer.model.account import Account
from customer.model.base import Base
from customer.model.contact import Contact
from sqlalchemy import ColumnElement, Index, select
from sqlalchemy.orm import Mapped

_CYCLIC = ("CYCLE", "MAINTENANCE", "AFTER_EVENT")
_DECIDED = frozenset(["audience", "audience_filter", "every_days", "cycles", "trigger", "holiday"])


class CarePlan(Resource, Base):
    """Whom we care for, when and how."""

    __message__ = pb.CarePlan

    display_name: Mapped[str]
    trigger: Mapped[str]
    audience: Mapped[str]
    audience_filter: Mapped[str]
    lead_days: Mapped[int]
    every_days: Mapped[int]
    cycles: Mapped[Any]
    holiday: Mapped[Any]
    channel: Mapped[str]
    leap_day_in_march: Mapped[bool]
    state: Mapped[str]
    from_date: Mapped[date | None]

    async def creating(self, call: Call) -> None:
        """Begins as a draft."""
        self.audience, self.state = self.audience or "CONTACTS", "DRAFT"
        self._check(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Another audience or cycle of a running plan has to be decided on again."""
        self.check_state("DRAFT", "ACTIVE", "PAUSED")
        self._check(call)
        if changed & _DECIDED and self.state != "DRAFT":
            self.state = "DRAFT"

    async def activate(self, call: Call) -> None:
        """Begins to run, from today on."""
        self.check_state("DRAFT", "PAUSED")
        model = self.model()
        if await call.db.scalar(select(model.id).where(self.condition(call)).limit(1)) is None:
            raise FailedPrecondition("AUDIENCE_EMPTY")
        self.state, self.from_date = "ACTIVE", today(call)

    def pause(self) -> None:
        """Rests; what is due already stays."""
        self.check_state("ACTIVE")
        self.state = "PAUSED"

    def end(self) -> None:
        """Is over."""
        self.check_state("DRAFT", "ACTIVE", "PAUSED")
        self.state = "ENDED"

    def model(self) -> Any:
        """Contact or Account."""
        return Contact if self.audience == "CONTACTS" else Account

    def condition(self, call: Call) -> ColumnElement[bool]:
        """Those whom the plan is for: the filter, over everybody in the plan's department and below its owner's sight."""
        model = self.model()
        owner = call.running.directory.explained(self.owner) if self.owner else None
        from crmkit.scope import predicate

        seen = predicate(model, owner or system("customer"))
        return (
            listing.where(model, self.audience_filter, owner or call.caller, call.now)
            & seen
            & (model.state == "ACTIVE")
        )

    def cycle_of(self, level: str) -> int:
        """Days between two occurrences for an account of the level."""
        return next((each.days for each in self.cycles if each.level == level), self.every_days)

    def _check(self, call: Call) -> None:
        if self.trigger in _CYCLIC and not self.every_days:
            raise Validation(required("care_plan.every_days"))
        if self.trigger == "HOLIDAY" and (self.holiday is None or not self.holiday.month):
            raise Validation(required("care_plan.holiday"))
        if self.trigger == "BIRTHDAY" and self.audience == "ACCOUNTS" and "kind" not in self.audience_filter:
            zh, en = (
                "按生日关怀企业客户没有意义，请限定个人客户",
                "Companies have no birthday: say kind = INDIVIDUAL.",
            )
            raise Validation(Violation("care_plan.audience_filter", "NO_BIRTHDAY", zh, en))
        listing.where(self.model(), self.audience_filter, call.caller, call.now)


class CareOccurrence(Resource, Base):
    """One occasion to care for one person: one row for each plan, person and day."""

    __message__ = pb.CareOccurrence
    __table_args__ = (
        Index("care_occurrences_one_key", "plan", "account", "contact", "due_date", unique=True),
        Index("care_occurrences_state_index", "state", "begin_date"),
    )

    display_name: Mapped[str]
    plan: Mapped[str]
    account: Mapped[str]
    contact: Mapped[str]
    due_date: Mapped[date]
    begin_date: Mapped[date]
    age: Mapped[int]
    way: Mapped[str]
    why: Mapped[str]
    told_time: Mapped[datetime | None]
    result: Mapped[str]
    satisfaction: Mapped[int]
    state: Mapped[str]

    def complete(self, result: str, satisfaction: int) -> None:
        """Done, with what came of it."""
        self.check_state("DUE", "MISSED")
        if not 0 <= satisfaction <= 5:
            raise Validation(
                Violation("satisfaction", "OUT_OF_RANGE", "请在 1 到 5 之间选择", "From 1 to 5.")
            )
        self.state, self.result, self.satisfaction = "DONE", result, satisfaction

    def skip(self, reason: str) -> None:
        """Left out on purpose."""
        self.check_state("DUE")
        self.state, self.result = "SKIPPED", reason

    def begin(self, plan: CarePlan, allowed: bool, call: Call) -> None:
        """Asks for the message, or for a call where it is not allowed or wanted."""
        self.way = "MESSAGE" if allowed and plan.channel != "CALL" else "CALL_TASK"
        self.why = "" if plan.channel == "CALL" or allowed else "NO_CONSENT"
        self._tell(plan, call)

    @classmethod
    async def open_call(
        cls, account: Account, why: str, title: str, within: timedelta, call: Call
    ) -> "CareOccurrence | None":
        """Asks the owner to call the customer because of something that no plan foresees, once within so long."""
        day = today(call)
        same = (cls.account == account.name, cls.plan == "", cls.why == why, cls.due_date > day - within)
        if await call.find(cls, *same) is not None:
            return None
        made = await call.add(
            cls(
                account=account.name, due_date=day, begin_date=day, state="DUE", way="CALL_TASK", why=why, told_time=call.now,
                display_name=title[:400], owner=account.owner, department=account.department,
            )
        )  # fmt: skip
        call.emit(events.CareTaskDue, occurrence=made, channel="CALL")
        return made

    def call_instead(self, plan: CarePlan, why: str, call: Call) -> None:
        """The message did not go out: somebody calls."""
        if self.state == "DUE" and self.way == "MESSAGE":
            self.way, self.why = "CALL_TASK", why[:200]
            self._tell(plan, call)

    def _tell(self, plan: CarePlan, call: Call) -> None:
        self.told_time = call.now
        channel = plan.channel if self.way == "MESSAGE" else "CALL"
        call.emit(events.CareTaskDue, occurrence=self, plan=plan, channel=channel)
