"""Which alerts were raised, so that each is raised once."""

from datetime import datetime, timedelta

from crmkit.call import Call
from sqlalchemy import DateTime, Index, Text, delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base

# No fact comes again that late: JetStream and the outboxes have forgotten it long before.
KEPT = timedelta(days=90)


class RaisedAlert(Base):
    """An alert, by what makes it one of its kind."""

    __tablename__ = "raised_alerts"
    __table_args__ = (Index("raised_alerts_time_index", "time"),)

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    @classmethod
    async def first(cls, key: str, call: Call) -> bool:
        """True for whoever raises it first."""
        row = insert(cls).values(key=key, time=call.now).on_conflict_do_nothing().returning(cls.key)
        return await call.db.scalar(row) is not None

    @classmethod
    async def forget(cls, call: Call) -> None:
        """Those that nothing can raise again go."""
        await call.db.execute(delete(cls).where(cls.time < call.now - KEPT))
