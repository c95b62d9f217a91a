"""The interaction: one contact moment."""

from datetime import datetime, timedelta
from typing import Any

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from customer.model.account import Account
from customer.model.base import Base
from customer.model.contact import ERASED_NAME
from customer.sea.follow_up import why_not
from customer.sea.states import follow_anew, follow_up
from sqlalchemy import Index, inspect, text
from sqlalchemy.orm import Mapped

EDITABLE = timedelta(hours=24)
AHEAD = timedelta(minutes=10)
# What a follow-up is judged by; what nobody here has written is never judged anew.
_JUDGED = frozenset(
    {
        "account", "channel", "direction", "start_time", "duration_seconds", "summary", "result", "next_step", "files",
    }
)  # fmt: skip
_NOBODYS = ("SYSTEM", "IMPORT")


class Interaction(Resource, Base):
    """One contact moment with a customer."""

    __message__ = pb.Interaction
    handed_over = False
    refers_by = ("subjects",)
    # Where another service tells of it: the employee who did it there, and whether that says what came of it.
    done_by = ""
    done_with_result = False
    __table_args__ = (
        Index(
            "interactions_source_key",
            "channel",
            "source_key",
            unique=True,
            postgresql_where=text("source_key <> ''"),
        ),
        Index("interactions_contacts_index", "contacts", postgresql_using="gin"),
        # The last texts of an author, which the next one is compared with.
        Index("interactions_author_index", "creator", "create_time", "id"),
    )

    account: Mapped[str]
    channel: Mapped[str]
    start_time: Mapped[datetime]
    direction: Mapped[str]
    duration_seconds: Mapped[int]
    summary: Mapped[str]
    result: Mapped[str]
    source_key: Mapped[str]
    counts_for_sea: Mapped[bool]
    why_not: Mapped[str]
    state: Mapped[str]
    next_step: Mapped[Any]
    amendments: Mapped[Any]
    comments: Mapped[Any]
    forwards: Mapped[Any]
    files: Mapped[Any]
    contacts: Mapped[list[str]]
    subjects: Mapped[list[str]]

    async def creating(self, call: Call) -> None:
        """Judges the follow-up and brings it to its account."""
        self._check_start(call)
        self.state = "LOGGED"
        account = await call.named(Account, self.account, lock=True)
        if account is not None:
            self.owner = self.owner or call.caller.employee or account.owner
            self.department = self.department or account.department
            if account.last_interaction_time is None or account.last_interaction_time < self.start_time:
                account.last_interaction_time = self.start_time
        await self._judge(account, call)
        call.emit(events.InteractionLogged, interaction=self)

    async def finished_elsewhere(self, by: str, with_result: bool, call: Call) -> None:
        """Logged as the exchange told of it, and now somebody says that it was his work."""
        self.done_by, self.done_with_result = by, with_result
        await self._judge(await call.named(Account, self.account, lock=True), call)

    async def _judge(self, account: Account | None, call: Call) -> None:
        self.why_not = await why_not(self, account, call)
        self.counts_for_sea = not self.why_not
        if account is not None and self.counts_for_sea:
            await follow_up(account, self.start_time, self.channel, call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """The author edits for a day; then the text is closed."""
        if call.caller.actor != self.creator:
            raise FailedPrecondition("NOT_AUTHOR")
        if call.now - self.create_time > EDITABLE:
            raise FailedPrecondition("INTERACTION_LOCKED")
        if not changed & _JUDGED:
            return
        self._check_start(call)
        if self.why_not not in _NOBODYS:
            self.why_not = await why_not(self, await call.named(Account, self.account), call)
            self.counts_for_sea = not self.why_not
        before = inspect(self).attrs.account.history.deleted or ()
        await self._follow_anew({self.account, *before}, call)

    async def deleting(self, call: Call) -> None:
        """What is not there any more holds no customer."""
        if self.counts_for_sea:
            await self._follow_anew({self.account}, call)

    def _check_start(self, call: Call) -> None:
        if self.start_time > call.now + AHEAD:
            zh, en = "发生时间不能晚于现在。", "The time lies in the future."
            raise Validation(Violation("interaction.start_time", "START_IN_FUTURE", zh, en))

    async def _follow_anew(self, accounts: set[str], call: Call) -> None:
        for name in sorted(accounts):
            account = await call.named(Account, name, lock=True)
            if account is not None:
                follow_anew(account, call)

    def amend(self, text: str, call: Call) -> None:
        """Adds to the text; both stay."""
        self.amendments = [*self.amendments, _note(text, call)]
        self.state = "AMENDED"

    def comment(self, text: str, call: Call) -> None:
        """Adds a comment."""
        self.comments = [*self.comments, _note(text, call)]

    def forward(self, departments: list[str], kind: str, call: Call) -> None:
        """Tells departments; those that were told of this kind before are left out."""
        told = {(f.department, pb.Interaction.ForwardKind.Name(f.kind)) for f in self.forwards}
        new = [department for department in dict.fromkeys(departments) if (department, kind) not in told]
        if not new:
            return
        self.forwards = [
            *self.forwards,
            *(pb.Interaction.Forward(department=d, kind=kind, time=to_timestamp(call.now)) for d in new),
        ]
        call.emit(events.InteractionForwarded, interaction=self, departments=new, kind=kind)

    async def forget_person(self, call: Call) -> None:
        """What was said goes, for whomever else it was said to; that, when and how it was said stays."""
        from customer.timeline import retell

        await super().forget_person(call)
        self.summary = ERASED_NAME
        gone = {"summary": ERASED_NAME, "result": "", "nextStep": {}, "amendments": [], "comments": []}
        await retell(self.account, self.name, "interaction", gone, ERASED_NAME, call)


def _note(content: str, call: Call) -> Any:
    return pb.Interaction.Note(author=call.caller.actor, time=to_timestamp(call.now), text=content)
