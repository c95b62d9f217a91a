"""Backups of the installation. The operator's agent does the work; this is the record of it, and who may ask for what."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, check_reason
from crmkit.resource import Resource
from sqlalchemy import DateTime, Index, Text, exists, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base
from workspace.model.employee import Employee

CONFIRMED_WITHIN = timedelta(hours=24)
YELLOW_AFTER, RED_AFTER = timedelta(days=7), timedelta(days=14)
GREEN, YELLOW, RED = "GREEN", "YELLOW", "RED"


class Backup(Resource, Base):
    """A backup. Its number is that of its folder in the vault, so that a restored database and the vault never disagree."""

    __message__ = pb.Backup
    # Who wanted a restore is remembered as it was.
    handed_over = False
    __table_args__ = (
        # The agent is asked for one thing at a time.
        Index("backups_asked_key", text("(true)"), unique=True, postgresql_where=text("asked <> ''")),
    )

    number: Mapped[str]
    state: Mapped[str]
    start_time: Mapped[datetime | None]
    finish_time: Mapped[datetime | None]
    size: Mapped[Decimal | None]
    databases: Mapped[Any]
    files: Mapped[int]
    audit_seq: Mapped[int]
    location: Mapped[str]
    key_id: Mapped[str]
    digest: Mapped[str]
    verify_time: Mapped[datetime | None]
    proofs: Mapped[Any]
    problem: Mapped[str]
    asked: Mapped[str]
    ask_id: Mapped[str]
    ask_time: Mapped[datetime | None]
    proposed_by: Mapped[str]
    propose_time: Mapped[datetime | None]
    reason: Mapped[str]
    until_time: Mapped[datetime | None]
    confirmed_by: Mapped[str]
    restore_time: Mapped[datetime | None]

    @classmethod
    async def start(cls, call: Call) -> "Backup":
        """Asks for a new backup. BACKUP_RUNNING where the agent is asked for something already."""
        made = cls(state="REQUESTED")
        await made._ask("CREATE", call)
        return await call.add(made)

    @classmethod
    async def newest(cls, call: Call) -> "Backup | None":
        """The newest one that is there."""
        there = select(cls).where(cls.state.in_(("DONE", "VERIFIED"))).order_by(cls.finish_time.desc())
        return await call.db.scalar(there.limit(1))

    @classmethod
    async def next_number(cls, call: Call) -> str:
        """Of a backup that is made now: one that nothing in any vault has had. Days are those of the vault, in UTC."""
        day = f"BK{call.now:%Y%m%d}"
        of_day = cls.number.regexp_match(f"^{day}[0-9]{{3}}$")
        last = await call.db.scalar(select(func.max(cls.number)).where(of_day))
        return f"{day}{int((last or '')[len(day) :] or 0) + 1:03}"

    async def verify(self, call: Call) -> None:
        """Asks for a drill; what has failed one may be tried again."""
        self.check_state("DONE", "VERIFIED", "FAILED")
        if not self.number:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.state)
        await self._ask("VERIFY", call)

    def propose_restore(self, reason: str, until_time: datetime | None, call: Call) -> None:
        """The first person says why; what was proposed before counts no more."""
        self._check_restorable()
        self.reason = check_reason(reason)
        if not call.caller.employee:
            raise FailedPrecondition("RESTORE_NOT_CONFIRMED")
        self.proposed_by, self.propose_time, self.until_time = call.caller.employee, call.now, until_time
        self.confirmed_by = ""

    async def restore(self, call: Call) -> None:
        """The second person confirms, and the agent is asked for it."""
        self._check_restorable()
        second = call.caller.employee
        fresh = self.propose_time is not None and call.now - self.propose_time <= CONFIRMED_WITHIN
        if not self.proposed_by or not fresh or not second or second == self.proposed_by:
            raise FailedPrecondition("RESTORE_NOT_CONFIRMED")
        await self._ask("RESTORE", call)
        self.confirmed_by = second

    def withdraw_restore(self) -> None:
        """Nobody wants it any more. What the agent has begun cannot be taken back: the services are stopped by then."""
        if not self.proposed_by:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.state)
        if self.asked == "RESTORE":
            self.ended("")
        self.forget_proposal()

    def forget_proposal(self) -> None:
        """A restore wants two people anew."""
        self.proposed_by, self.confirmed_by, self.reason = "", "", ""
        self.propose_time = self.until_time = None

    def ended(self, problem: str) -> None:
        """The agent has done what it was asked, or could not."""
        self.asked, self.problem = "", problem

    def _check_restorable(self) -> None:
        """Only what a drill has proven is restored; what is known to be damaged says so."""
        reason, _, detail = self.problem.partition(": ")
        if reason == "BACKUP_CORRUPT":
            raise FailedPrecondition("BACKUP_CORRUPT", number=self.number, detail=detail)
        if self.state != "VERIFIED":
            raise FailedPrecondition("RESTORE_NOT_CONFIRMED")

    async def _ask(self, work: str, call: Call) -> None:
        if await call.db.scalar(select(exists().where(Backup.asked != ""))):
            raise FailedPrecondition("BACKUP_RUNNING")
        self.asked, self.ask_id, self.ask_time = work, str(uuid4()), call.now


class BackupAgent(Base):
    """What the agent has said of itself last; there is one."""

    __tablename__ = "backup_agents"

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    agent_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    key_id: Mapped[str] = mapped_column(Text)
    location: Mapped[str] = mapped_column(Text)
    archive_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    @classmethod
    async def heard(cls, values: dict[str, Any], call: Call) -> None:
        """Remembers what it said; two reports at once wait for each other here."""
        row = insert(cls).values(key="agent", agent_time=call.now, **values)
        given = {name: row.excluded[name] for name in ("agent_time", *values)}
        await call.db.execute(row.on_conflict_do_update(index_elements=[cls.key], set_=given))


def light_of(age: timedelta) -> str:
    """Green, yellow after seven days without a proof, red after fourteen."""
    return RED if age >= RED_AFTER else YELLOW if age >= YELLOW_AFTER else GREEN


async def health(call: Call) -> dict[str, Any]:
    """How backups stand. Without any proof the age counts from the first day of the platform."""
    proven = select(Backup).where(Backup.state == "VERIFIED").order_by(Backup.verify_time.desc()).limit(1)
    last = await call.db.scalar(proven)
    since = last.verify_time if last is not None else None
    if since is None:
        since = await call.db.scalar(select(func.min(Employee.create_time))) or call.now
    newest = await Backup.newest(call)
    agent = await call.db.get(BackupAgent, "agent")
    age = call.now - since
    return {
        "light": light_of(age),
        "days": max(age.days, 0),
        "since": since,
        "proof_time": last.verify_time if last is not None else None,
        "proven": last.name if last is not None else "",
        "backup_time": newest.finish_time if newest is not None else None,
        "agent": agent,
    }
