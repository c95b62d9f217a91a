"""Which alerts were raised, so that each is raised once."""

from datetime import datetime

from crmkit.call import Call
from sqlalchemy import DateTime, Text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base


class RaisedAlert(Base):
    """An alert, by what makes it one of its kind."""

    __tablename__ = "raised_alerts"

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    @classmethod
    async def first(cls, key: str, call: Call) -> bool:
        """True for whoever raises it first."""
        row = insert(cls).values(key=key, time=call.now).on_conflict_do_nothing().returning(cls.key)
        return await call.db.scalar(row) is not None
