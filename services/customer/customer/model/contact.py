"""The contact: a person at one account or more."""

from datetime import date
from typing import Any

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied
from crmkit.mapping import read_date, to_date
from crmkit.resource import Resource
from customer.model.account import Account, normal_phones
from customer.model.base import Base
from sqlalchemy import ColumnElement, Index, text, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped

ERASED_NAME = "***"
# The chain of superiors is followed in one statement; nobody reports over a hundred levels.
_CHAIN = text(
    "WITH RECURSIVE chain(name, next, depth) AS (SELECT CAST(:start AS text), CAST(:start AS text), 0"
    " UNION ALL SELECT 'contacts/' || c.id, c.reports_to, depth + 1 FROM contacts c, chain"
    " WHERE 'contacts/' || c.id = chain.next AND depth < 100)"
    " SELECT EXISTS (SELECT 1 FROM chain WHERE next = :contact)"
)


class Contact(Resource, Base):
    """A person at one account or more."""

    __message__ = pb.Contact
    unlisted = ("MERGED",)

    display_name: Mapped[str]
    account: Mapped[str]
    reports_to: Mapped[str]
    state: Mapped[str]
    decision_role: Mapped[str]
    attitude: Mapped[int]
    worries: Mapped[str]
    preferences: Mapped[str]
    counterpart: Mapped[str]
    merged_into: Mapped[str]
    emails: Mapped[Any]
    affiliations: Mapped[Any]
    phones: Mapped[Any]
    title: Mapped[str]
    preferred_channel: Mapped[str]
    legal_hold: Mapped[str]

    __table_args__ = (
        Index(
            "contacts_affiliations_index",
            text("affiliations jsonb_path_ops"),
            postgresql_using="gin",
        ),
    )

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        self.complete()
        await self._check_chain(call)
        account = await self._its_account(call)
        if account is not None:
            self.collaborators = list(dict.fromkeys([*self.collaborators, *account.collaborators]))

    def complete(self) -> None:
        """Fills in what a new record starts with."""
        self.state = "ACTIVE"
        self.phones = normal_phones(self)
        if self.account and not self.affiliations:
            self.affiliations = [pb.Contact.Affiliation(account=self.account, title=self.title, primary=True)]
        self._follow_primary()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Keeps main account and affiliations in step."""
        await self._refuse_guest(call)
        self.phones = normal_phones(self)
        if "affiliations" not in changed and changed & {"account", "title"}:
            self._lead_primary(changed)
        self._follow_primary()
        if "reports_to" in changed:
            await self._check_chain(call)

    async def deleting(self, call: Call) -> None:
        """Only whoever has the customer deletes its people."""
        await self._refuse_guest(call)

    async def _refuse_guest(self, call: Call) -> None:
        """Who works together on the account uses its contacts, and leaves them to whoever has it."""
        me, reach = call.caller, call.caller.reach("contacts", "update")
        if (
            not me.employee
            or self.owner == me.employee
            or reach.everything
            or self.department in reach.departments
        ):
            return
        account = await self._its_account(call)
        if account is not None and me.employee in account.collaborators and account.owner != me.employee:
            raise PermissionDenied("READ_ONLY_COLLABORATOR")

    async def _its_account(self, call: Call) -> Account | None:
        key = self.account.rpartition("/")[2]
        return await call.find(Account, Account.id == key) if key else None

    def leave(self, account: str, day: date, to_account: str, call: Call) -> None:
        """Ends the affiliation on the day; the old account keeps what was logged there."""
        self.check_state("ACTIVE")
        account = account or self.account
        current = next(
            (a for a in self.affiliations if a.account == account and not read_date(a.to_date)), None
        )
        if current is None:
            raise FailedPrecondition("ALREADY_LEFT")
        others = [a for a in self.affiliations if a is not current]
        others.append(_with(current, primary=False, to_date=to_date(day)))
        if to_account:
            others.append(pb.Contact.Affiliation(account=to_account, from_date=to_date(day), primary=True))
        self.affiliations = others
        self._follow_primary()
        if not any(not read_date(a.to_date) for a in self.affiliations):
            self.state = "LEFT"
        call.emit(events.ContactLeft, contact=self, account=account, to_account=to_account)

    async def erase(self, call: Call) -> None:
        """Forgets the person; the record stays, so that what was agreed with the account goes on naming somebody."""
        from customer.erasure import forget

        self.check_state("ACTIVE", "LEFT", "MERGED")
        if self.legal_hold:
            raise FailedPrecondition("LEGAL_HOLD")
        self.state = "ERASED"
        await forget(self, call)

    def hold(self, reason: str) -> None:
        """Keeps the data, for a reason; without one no longer."""
        self.check_state("ACTIVE", "LEFT", "MERGED")
        self.legal_hold = reason

    async def forget_person(self, call: Call) -> None:
        """Nothing is left but where somebody worked and when."""
        await super().forget_person(call)
        self.display_name, self.title, self.preferred_channel = ERASED_NAME, "", ""
        self.worries, self.preferences, self.attitude, self.custom = "", "", 0, {}
        self.affiliations = [_with(one, title="", department="") for one in self.affiliations]

    def search_phones(self) -> list[str]:
        """Numbers that `q` finds."""
        return [phone.number for phone in self.phones if phone.valid]

    def _lead_primary(self, changed: frozenset[str]) -> None:
        """Takes a new main account or title into the affiliations."""
        at = next((a for a in self.affiliations if a.account == self.account and _running(a)), None)
        others = [_with(a, primary=False) for a in self.affiliations if a is not at]
        if at is None:
            title = self.title if "title" in changed else ""
            at = pb.Contact.Affiliation(account=self.account, title=title)
        elif "title" in changed:
            at = _with(at, title=self.title)
        self.title = at.title
        self.affiliations = [*others, _with(at, primary=True)] if self.account else others

    def _follow_primary(self) -> None:
        running = [a for a in self.affiliations if _running(a)]
        primary = next((a for a in running if a.primary), running[0] if running else None)
        if primary is not None:
            # Of what somebody was elsewhere nothing is true here.
            self.title = primary.title or (self.title if primary.account == self.account else "")
            self.account = primary.account

    async def _check_chain(self, call: Call) -> None:
        if not self.reports_to:
            return
        # Two moves at once could close a circle that neither sees.
        await call.one_at_a_time([f"orgChart:{self.account}"])
        if self.reports_to == self.name or await call.db.scalar(
            _CHAIN, {"start": self.reports_to, "contact": self.name}
        ):
            raise FailedPrecondition("REPORTING_CYCLE")


def at_account(account: str) -> ColumnElement[bool]:
    """True for contacts that work or worked at the account."""
    return type_coerce(Contact.affiliations, JSONB).contains([{"account": account}])


def _running(affiliation: Any) -> bool:
    return not read_date(affiliation.to_date)


def _with(affiliation: Any, **values: Any) -> Any:
    copy = pb.Contact.Affiliation()
    copy.CopyFrom(affiliation)
    for key, value in values.items():
        if hasattr(value, "CopyFrom"):
            getattr(copy, key).CopyFrom(value)
        else:
            setattr(copy, key, value)
    return copy
