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
    refers_by = ("subject",)
    __table_args__ = (Index("consents_subject_index", "subject", "channel", "purpose", "time"),)

    subject: Mapped[str]
    channel: Mapped[str]
    purpose: Mapped[str]
    decision: Mapped[str]
    source: Mapped[str]
    evidence: Mapped[str]
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
                .order_by(Consent.time.desc(), Consent.id.desc())
                .limit(1)
            )
            if latest == "WITHDRAWN":
                raise FailedPrecondition("CONSENT_WITHDRAWN")
        if self.purpose == "PROFILING" and self.decision == "WITHDRAWN":
            await _forget_conclusions(self.subject, call)
        call.emit(events.ConsentChanged, consent=self)


async def profiling_allowed(subject: str, call: Call) -> bool:
    """Whether the person's latest decision lets us draw conclusions."""
    latest = (
        select(Consent.decision, Consent.expire_time)
        .where(Consent.subject == subject, Consent.purpose == "PROFILING")
        .order_by(Consent.time.desc(), Consent.id.desc())
        .limit(1)
    )
    async with call.everybody():
        found = (await call.db.execute(latest)).one_or_none()
    if found is None or found[0] != "GRANTED":
        return False
    until: datetime | None = found[1]
    return until is None or until > call.now


async def _forget_conclusions(subject: str, call: Call) -> None:
    from customer.model.trait import Trait

    about = (
        Trait.contact == subject
        if subject.startswith("contacts/")
        else (Trait.account == subject) & (Trait.contact == "")
    )
    async with call.everybody():
        for trait in await call.db.scalars(select(Trait).where(about, Trait.origin == "INFERRED")):
            await call.db.delete(trait)
        await call.flush()
