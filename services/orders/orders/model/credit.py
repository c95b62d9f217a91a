"""What customer says of a customer's credit: nothing new is agreed or ordered while it is on hold."""

from datetime import datetime

from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.events import Fact, listens
from orders.model.base import Base
from sqlalchemy import Boolean, DateTime, Text, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column


class CreditStanding(Base):
    """The credit of one account as it was last told; the time keeps a late fact from undoing a later one."""

    __tablename__ = "credit_standings"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    hold: Mapped[bool] = mapped_column(Boolean)
    reason: Mapped[str] = mapped_column(Text)


@listens("crm.customer.v1.CreditProfileChanged")
async def on_credit_profile_changed(event: Fact, call: Call) -> None:
    """Keeps whether business on credit is wanted."""
    profile = event.payload["profile"]
    row = {
        "account": profile["account"], "time": event.time, "hold": bool(event.payload.get("hold")),
        "reason": str(profile.get("reason", "")),
    }  # fmt: skip
    statement = insert(CreditStanding).values(**row)
    later = {name: statement.excluded[name] for name in ("time", "hold", "reason")}
    await call.db.execute(
        statement.on_conflict_do_update(
            index_elements=["account"], set_=later, where=CreditStanding.time < statement.excluded.time
        )
    )


async def check_credit(account: str, call: Call) -> None:
    """CREDIT_ON_HOLD where no new business with the account is wanted."""
    held = select(CreditStanding.reason).where(CreditStanding.account == account, CreditStanding.hold)
    reason = await call.db.scalar(held)
    if reason is not None:
        raise FailedPrecondition("CREDIT_ON_HOLD", reason=reason)
