"""Extensions and outgoing numbers: who has which from when to when, never two at a time."""

from __future__ import annotations

from datetime import datetime

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.resource import Resource
from sales.model.base import Base
from sqlalchemy import or_, select, text
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped

_NUMBER = "hashtextextended(display_name, 0)"


class PhoneLine(Resource, Base):
    """A number for the time that somebody has it. The database lets no two times overlap: a range of the number's
    hash stands for the number, for which no extension is needed."""

    __message__ = pb.PhoneLine
    __table_args__ = (
        ExcludeConstraint(
            (text(f"int8range({_NUMBER}, {_NUMBER}, '[]')"), "&&"),
            (text("tstzrange(from_time, to_time)"), "&&"),
            name="phone_lines_taken",
            using="gist",
        ),
    )

    display_name: Mapped[str]
    kind: Mapped[str]
    employee: Mapped[str]
    from_time: Mapped[datetime | None]
    to_time: Mapped[datetime | None]

    async def creating(self, call: Call) -> None:
        """Begins now unless it says when."""
        self.kind, self.from_time = self.kind or "EXTENSION", self.from_time or call.now
        await self._check_free(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """The times change; the number is nobody else's in them."""
        self.from_time = self.from_time or call.now
        await self._check_free(call)

    async def _check_free(self, call: Call) -> None:
        if self.to_time is not None and self.from_time is not None and self.to_time <= self.from_time:
            words = "必须晚于开始时间。", "It ends after it begins."
            raise Validation(Violation("phone_line.to_time", "BEFORE_START", *words))
        await call.one_at_a_time([f"phoneLines:{self.display_name}"])
        begins_before = PhoneLine.from_time < self.to_time if self.to_time is not None else text("true")
        other = await call.find(
            PhoneLine, PhoneLine.display_name == self.display_name, PhoneLine.id != self.id, begins_before,
            or_(PhoneLine.to_time.is_(None), PhoneLine.to_time > self.from_time),
        )  # fmt: skip
        if other is not None:
            raise FailedPrecondition("LINE_TAKEN", number=self.display_name)


async def line_of(employee: str, call: Call) -> str:
    """What somebody calls out under now: his outgoing number, else his extension, else what workspace knows of him."""
    lines = select(PhoneLine).where(
        PhoneLine.employee == employee, PhoneLine.from_time <= call.now,
        or_(PhoneLine.to_time.is_(None), PhoneLine.to_time > call.now),
    )  # fmt: skip
    rows = sorted(await call.db.scalars(lines), key=lambda row: (row.kind != "OUTGOING", row.display_name))
    entry = call.entry(employee)
    return rows[0].display_name if rows else str(entry.get("extension") or entry.get("phone") or "")
