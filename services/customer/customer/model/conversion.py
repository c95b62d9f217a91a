"""What became of a lead here: one row for each lead, so that a conversion told twice is one."""

from customer.model.base import Base
from sqlalchemy import Text, text
from sqlalchemy.orm import Mapped, mapped_column


class LeadResolution(Base):
    """The account and contact that a lead became; empty while the customer is found to be somebody else's."""

    __tablename__ = "lead_resolutions"

    lead: Mapped[str] = mapped_column(Text, primary_key=True)
    account: Mapped[str] = mapped_column(Text, server_default=text("''"), info={"refers": True})
    contact: Mapped[str] = mapped_column(Text, server_default=text("''"), info={"refers": True})
