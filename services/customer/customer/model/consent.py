"""Consents: append only, the latest decision counts."""

from datetime import datetime

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.resource import Resource
from customer.model.account import Account
from customer.model.base import Base
from customer.model.contact import Contact
from sqlalchemy import Index, select
from sqlalchemy.orm import Mapped


class Consent(Resource, Base):
    """A consent given or withdrawn."""

    __message__ = pb.Consent
    __table_args__ = (Index("consents_subject_index", "subject", "channel", "purpose", "time"),)

    subject: Mapped[str]
    channel: Mapped[str]
    purpose: Mapped[str]
    decision: Mapped[str]
    source: Mapped[str]
    time: Mapped[datetime | None]
    account: Mapped[str]
    expire_time: Mapped[datetime | None]

    async def creating(self, call: Call) -> None:
        """Refuses an unknown person, and an import that would lift a withdrawal."""
        model = {"accounts": Account, "contacts": Contact}.get(self.subject.partition("/")[0])
        if model is None:
            raise Validation(
                Violation(
                    "consent.subject",
                    "WRONG_TYPE",
                    "必须是客户或联系人",
                    "This must be an account or a contact.",
                )
            )
        person = await call.load(model, self.subject, lock=False)
        self.owner, self.department = person.owner, person.department
        self.account = person.account if isinstance(person, Contact) else person.name
        self.time = self.time or call.now
        if self.decision == "GRANTED" and self.source == "IMPORT":
            latest = await call.db.scalar(
                select(Consent.decision)
                .where(
                    Consent.subject == self.subject,
                    Consent.channel == self.channel,
                    Consent.purpose == self.purpose,
                )
                .order_by(Consent.time.desc())
                .limit(1)
            )
            if latest == "WITHDRAWN":
                raise FailedPrecondition("CONSENT_WITHDRAWN")
        call.emit(events.ConsentChanged, consent=self)
