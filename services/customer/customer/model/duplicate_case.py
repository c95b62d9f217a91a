"""Collision cases, and what stays hidden from their parties."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from crm.customer.v1 import pb
from crmkit.resource import Resource
from customer.model.base import Base
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    DateTime,
    Index,
    Integer,
    Text,
    Uuid,
    and_,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

OPEN_STATES = ("OPEN", "WAITING_OWNER", "IN_ARBITRATION", "APPEALED")


class DuplicateCase(Resource, Base):
    """A collision as its claimant sees it; the other side stands in `CaseParty`."""

    __message__ = pb.DuplicateCase
    __table_args__ = (
        Index(
            "duplicate_cases_deadline_index",
            "deadline",
            postgresql_where=text("state IN ('WAITING_OWNER', 'IN_ARBITRATION', 'APPEALED', 'DECIDED')"),
        ),
        Index("duplicate_cases_pair_key", "pair", unique=True, postgresql_where=text("pair <> ''")),
    )

    display_name: Mapped[str]
    kind: Mapped[str]
    level: Mapped[str]
    keys: Mapped[list[str]]
    candidate: Mapped[Any]
    claimant: Mapped[str]
    other_department: Mapped[str]
    situation: Mapped[str]
    since_month: Mapped[str]
    statement: Mapped[str]
    waiting_for: Mapped[str]
    deadline: Mapped[datetime | None]
    state: Mapped[str]
    verdict: Mapped[str]
    splits: Mapped[Any]
    answer: Mapped[str]
    decide_time: Mapped[datetime | None]
    appeal_until_time: Mapped[datetime | None]
    rung: Mapped[int]
    account: Mapped[str]
    holder: Mapped[str]
    access: Mapped[str]
    until_date: Mapped[date | None]
    # The two accounts of a pair that the scan or the arrival of a lead found, once for ever.
    pair: Mapped[str] = mapped_column(Text, server_default="")

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"pair": "", **values})

    @classmethod
    def of_pair(cls, pair: str) -> ColumnElement[bool]:
        """The case of a pair, in words that its index knows however the statement is planned."""
        return and_(cls.pair == pair, cls.pair != literal_column("''"))


class CaseParty(Base):
    """The account or lead behind a case; never shown to the claimant."""

    __tablename__ = "case_parties"

    case: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    party: Mapped[str] = mapped_column(Text, primary_key=True, index=True, info={"refers": True})


class CaseEvidence(Base):
    """What each side did, as it was when the dispute opened."""

    __tablename__ = "case_evidence"

    case: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    evidence: Mapped[dict[str, Any]] = mapped_column(JSONB)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class SeparatePair(Base):
    """Two accounts that were found to be different, as long as the keys of both stay as they were."""

    __tablename__ = "separate_pairs"
    # Whoever is asked about may be either of the two.
    __table_args__ = (Index("separate_pairs_other_index", "other"),)

    one: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    other: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    digest: Mapped[str] = mapped_column(Text)


class CollisionCheck(Base):
    """That somebody asked whether a customer exists: asking is limited."""

    __tablename__ = "collision_checks"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    actor: Mapped[str] = mapped_column(Text)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    hits: Mapped[int] = mapped_column(Integer, server_default="0")

    __table_args__ = (Index("collision_checks_actor_time_index", "actor", "time"),)


class LeadKeyRow(Base):
    """A match key of a lead of sales, as its service last told."""

    __tablename__ = "lead_keys"

    lead: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text, primary_key=True)

    __table_args__ = (Index("lead_keys_kind_value_index", "kind", "value"),)


class LeadHolder(Base):
    """Whose lead or protected deal it is and what it is called; the version keeps late facts from undoing later ones."""

    __tablename__ = "lead_holders"

    lead: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    company_name: Mapped[str] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(Text)
    department: Mapped[str] = mapped_column(Text)
    live: Mapped[bool]
    account: Mapped[str] = mapped_column(Text, server_default="", info={"refers": True})
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    # Last day on which a registration is protected.
    until: Mapped[date | None] = mapped_column(Date)


class ScanMark(Base):
    """Up to which change of keys the scan has come, and by which rules all keys were made."""

    __tablename__ = "scan_marks"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    value: Mapped[str] = mapped_column(Text, server_default="")
