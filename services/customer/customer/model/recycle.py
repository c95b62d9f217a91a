"""A proposal to take a customer back into a public sea."""

from datetime import datetime

from crm.customer.v1 import pb
from crmkit.resource import Resource
from customer.model.base import Base
from sqlalchemy import Index
from sqlalchemy.orm import Mapped


class RecycleProposal(Resource, Base):
    """One customer of one finding; decided once. Its owner is whose customer it is, its collaborators decide."""

    __message__ = pb.RecycleProposal
    __table_args__ = (Index("recycle_proposals_key", "finding", "account", unique=True),)

    display_name: Mapped[str]
    account: Mapped[str]
    pool: Mapped[str]
    employee: Mapped[str]
    finding: Mapped[str]
    state: Mapped[str]
    decider: Mapped[str]
    decide_time: Mapped[datetime | None]
    reason: Mapped[str]
