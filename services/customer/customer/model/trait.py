"""Traits: said, seen or concluded, each with what it rests on."""

from datetime import datetime
from typing import Any

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, required
from crmkit.resource import Resource
from customer.model.account import Account
from customer.model.base import Base
from customer.model.consent import profiling_allowed
from customer.model.contact import Contact
from sqlalchemy.orm import Mapped


class Trait(Resource, Base):
    """One trait of an account or of a person there."""

    __message__ = pb.Trait

    account: Mapped[str]
    contact: Mapped[str]
    key: Mapped[str]
    value: Mapped[str]
    origin: Mapped[str]
    evidence: Mapped[Any]
    time: Mapped[datetime | None]

    async def creating(self, call: Call) -> None:
        """Belongs to whom the customer belongs; nothing is concluded of a person who has not agreed."""
        account = await call.load(Account, self.account, lock=False)
        if self.contact:
            contact = await call.load(Contact, self.contact, lock=False)
            if contact.account != self.account:
                raise FailedPrecondition("CONTACT_NOT_OF_ACCOUNT")
        self.owner, self.department = account.owner, account.department
        self.time = self.time or call.now
        self._check_evidence()
        person = self.contact or (self.account if account.kind == "INDIVIDUAL" else "")
        if self.origin == "INFERRED" and person and not await profiling_allowed(person, call):
            raise FailedPrecondition("PROFILING_NOT_ALLOWED")

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A new value is of now."""
        if changed & {"value", "evidence"}:
            self._check_evidence()
            if "time" not in changed:
                self.time = call.now

    def _check_evidence(self) -> None:
        if self.origin != "DECLARED" and not any(each.ref or each.text for each in self.evidence):
            raise Validation(required("trait.evidence"))
