"""Proofs of the audit: every night of the last thirty days, every week of all, each remembered with its outcome."""

from datetime import date, datetime, timedelta

from crmkit import runs
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.runs import Kind, Run
from sqlalchemy import Date, DateTime, Integer, Text, func, insert, select, text
from sqlalchemy.orm import Mapped, mapped_column

from workspace import alerts, proof
from workspace.model.audit import PROVEN_AT_ONCE, AuditEntry
from workspace.model.base import Base

RUN = "AuditProof"
BACK = timedelta(days=30)
SUNDAY = 6


class AuditProof(Base):
    """What the proof of a night has found."""

    __tablename__ = "audit_proofs"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    first_seq: Mapped[int] = mapped_column(Integer)
    last_seq: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    first_break: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    kind: Mapped[str] = mapped_column(Text, server_default=text("''"))
    end_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    @classmethod
    async def latest(cls, call: Call) -> "AuditProof | None":
        """The last proof that came to its end."""
        found = select(cls).where(cls.end_time.is_not(None)).order_by(cls.day.desc()).limit(1)
        return await call.db.scalar(found)


async def begin(day: date, call: Call) -> None:
    """Queues the proof of a night; once, however often it is asked for."""
    if await call.db.get(AuditProof, day) is not None:
        return
    recent = select(func.min(AuditEntry.seq)).where(AuditEntry.time >= call.now - BACK)
    first = 0 if day.weekday() == SUNDAY else await call.db.scalar(recent) or 0
    await call.db.execute(insert(AuditProof).values(day=day, first_seq=first))
    await runs.start(call, RUN, f"audit#{day}", {"day": day.isoformat(), "next": first}, "system/workspace")


async def work(run: Run) -> None:
    """Proves part by part; the first break ends it, and is told to who looks after the platform's safety."""
    while run.phase != "ENDED":
        async with run.chunk() as call:
            kept = await call.db.get_one(AuditProof, date.fromisoformat(run.spec["day"]))
            found = await proof.prove(int(run.tally.get("next", run.spec["next"])), PROVEN_AT_ONCE, call)
            run.count(verified=found.verified)
            run.tally["next"] = found.next_seq
            if found.first_break:
                kept.first_break, kept.kind = found.first_break, found.kind
                zh = f"审计链在第 {found.first_break} 条断裂（{found.kind}）"
                en = f"The audit chain is broken at entry {found.first_break} ({found.kind})"
                await alerts.raise_alert("AUDIT_BROKEN", str(found.first_break), zh, en, call, run.about)
            kept.last_seq = found.next_seq - 1 if found.next_seq else found.head_seq
            if found.first_break or not found.next_seq:
                kept.end_time = call.now
                run.next_phase("ENDED")


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """A proof without an end is found missing by the report on security."""


RUNS = {RUN: Kind(work, give_up)}
