"""The account: a company or a person we deal with."""

from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import FailedPrecondition, PermissionDenied, Validation, Violation
from crmkit.phones import keep_marks
from crmkit.resource import Resource
from crmkit.tables import SUMMARY
from customer.identifiers import Phone, TaxId, TaxIdStatus
from customer.matching import PUBLIC_MAIL_DOMAINS, Identity
from customer.model.base import Base
from customer.model.grading import exclusive
from customer.model.pool import Pool
from sqlalchemy import DateTime, Index, PrimaryKeyConstraint, Text, Uuid, func, inspect, text
from sqlalchemy.orm import Mapped, mapped_column

# What a complete record has, with its weight in percent.
_COMPLETENESS = {
    "display_name": 15, "legal_name": 10, "tax_id": 15, "phones": 10, "emails": 10, "addresses": 10, "industry": 10,
    "source": 5, "level": 5, "website": 5, "employee_count": 5,
}  # fmt: skip
PROTECTION = timedelta(days=180)
_KEYED = frozenset(["display_name", "legal_name", "aliases", "tax_id", "phones", "emails", "website", "kind"])


_HOLD = (
    "INSERT INTO match_keys (account, kind, value) SELECT $1, * FROM unnest($2::text[], $3::text[])"
    " ON CONFLICT DO NOTHING"
)


class MatchKeyRow(Base):
    """A key by which an account is found to be the same as another (NAM-7)."""

    __tablename__ = "match_keys"

    # No foreign key: it asked for the account once a key, which was a third of what keys cost. Whoever writes keys has
    # the account locked, and it takes them with it.
    account: Mapped[UUID] = mapped_column(Uuid, index=True)
    kind: Mapped[str] = mapped_column(Text)
    value: Mapped[str] = mapped_column(Text)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        PrimaryKeyConstraint("kind", "value", "account"),
        Index("match_keys_time_index", "time", **SUMMARY),
    )


# Some collaborator stays until a day.
UNTIL_A_DAY = "collaborations @? '$[*].untilDate'"
BROUGHT = "source LIKE 'accounts/%'"


class Account(Resource, Base):
    """A company or a person we deal with."""

    __message__ = pb.Account
    unlisted = ("MERGED",)
    __table_args__ = (
        Index(
            "accounts_sea_due_time_index", "sea_due_time", postgresql_where=text("sea_due_time IS NOT NULL")
        ),
        Index("accounts_until_a_day_index", "id", postgresql_where=text(UNTIL_A_DAY)),
        # Who was brought by whom.
        Index("accounts_source_index", "source", postgresql_where=text(BROUGHT)),
    )

    display_name: Mapped[str]
    kind: Mapped[str]
    roles: Mapped[list[str]]
    legal_name: Mapped[str]
    tax_id: Mapped[str]
    tax_id_status: Mapped[str]
    website: Mapped[str]
    state: Mapped[str]
    last_interaction_time: Mapped[datetime | None]
    completeness: Mapped[int]
    phones: Mapped[Any]
    emails: Mapped[Any]
    aliases: Mapped[Any]
    addresses: Mapped[Any]
    pin: Mapped[Any]
    level: Mapped[str]
    level_until_date: Mapped[date | None]
    birth: Mapped[Any]
    tags: Mapped[list[str]]
    product_lines: Mapped[list[str]]
    distinction: Mapped[str]
    service_tier: Mapped[str]
    type: Mapped[str]
    source: Mapped[str]
    industry: Mapped[str]
    lifecycle_stage: Mapped[str]
    pool: Mapped[str]
    sea_due_time: Mapped[datetime | None]
    sea_clause: Mapped[str]
    sea_exemption: Mapped[str]
    protected_until_time: Mapped[datetime | None]
    protection_reason: Mapped[str]
    owner_time: Mapped[datetime | None]
    owner_how: Mapped[str]
    collaborations: Mapped[Any]
    merged_into: Mapped[str]
    # The pool that the owner took it out of.
    owner_from: Mapped[str] = mapped_column(Text, server_default="")
    # The merge that is under way with it.
    merging: Mapped[str] = mapped_column(Text, server_default="")

    refers_by = ("source",)
    # True where a verdict lets it be made although there is one like it; no column.
    despite = False

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"owner_from": "", "merging": "", **values})

    async def creating(self, call: Call) -> None:
        """Completes the record and refuses one that exists already."""
        self.complete()
        from customer.collision import refuse_collision
        from customer.disputes import meet_leads
        from customer.ownership import begin_ownership

        if self.pool:
            if not call.caller.may("customer.pools.fill"):
                raise PermissionDenied("PERMISSION_DENIED", permission="customer.pools.fill")
            await self._check_pool(call)
            self.state, self.owner, self.department, self.collaborators = "POOLED", "", "", []
        self.tags = await exclusive(self.tags, (), call)
        await refuse_collision(self, call)
        call.emit(events.AccountCreated, account=self)
        await begin_ownership(self, call)
        if self.owner:
            await meet_leads(self, call)

    async def _check_pool(self, call: Call) -> None:
        pool = await call.named(Pool, self.pool)
        if pool is not None:
            pool.check_segment(self.department, call)

    def complete(self) -> None:
        """Fills in what a new record starts with."""
        self.kind = self.kind or "COMPANY"
        self.roles = self.roles or ["PROSPECT"]
        self.state = "ACTIVE"
        self.normalise()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Keeps derived fields and keys right, and tells a change of owner."""
        self.check_state("ACTIVE", "POOLED", "FROZEN")
        self.check_settled()
        self.normalise()
        if "tags" in changed:
            before_tags = inspect(self).attrs.tags.history.deleted
            self.tags = await exclusive(self.tags, before_tags[0] if before_tags else (), call)
        if changed & _KEYED:
            from customer.collision import refuse_collision

            await refuse_collision(self, call)
        from customer import ownership
        from customer.sea.states import watch

        if call.caller.employee and not ownership.may_change(self, call):
            raise PermissionDenied("READ_ONLY_COLLABORATOR")
        if "owner" in changed:
            if not self.owner:
                raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.state)
            before = inspect(self).attrs.owner.history.deleted
            await ownership.give(
                self, self.owner, ownership.Change("ASSIGN"), call, before=before[0] if before else ""
            )
        else:
            watch(self, call)
            if self.pool:
                await ownership.show_in_pool(self, call)
        if "level" in changed:
            from customer.grading import by_hand

            levels = inspect(self).attrs.level.history.deleted
            await by_hand(self, levels[0] if levels else "", None, "", call)
        if "collaborators" in changed:
            self.collaborations = [c for c in self.collaborations if c.employee in self.collaborators]
            await ownership.contacts_follow(self, call)

    def normalise(self) -> None:
        """Brings phones and tax id into their normal form and reckons what is filled."""
        self.phones = normal_phones(self)
        if self.tax_id:
            tax_id = TaxId.parse(self.tax_id)
            if tax_id.status is TaxIdStatus.INVALID and len(tax_id.value) == 18:
                raise Validation(
                    Violation(
                        "account.tax_id",
                        "TAX_ID_INVALID",
                        "统一社会信用代码校验位不正确。",
                        "The check character of the tax id is wrong.",
                    )
                )
            self.tax_id = tax_id.value
            self.tax_id_status = "TEXT" if tax_id.status is TaxIdStatus.INVALID else tax_id.status.value
        else:
            self.tax_id_status = ""
        self.completeness = sum(weight for name, weight in _COMPLETENESS.items() if getattr(self, name))

    def check_settled(self) -> None:
        """ACCOUNT_MERGING while references are on their way."""
        if self.merging:
            raise FailedPrecondition("ACCOUNT_MERGING")

    def protect(self, until: datetime, reason: str, call: Call) -> None:
        """Keeps it out of the sea until then; a time that has passed ends the protection."""
        from customer.sea.states import watch

        if until - call.now > PROTECTION:
            raise FailedPrecondition("PROTECTION_TOO_LONG", limit=PROTECTION.days)
        self.protected_until_time = until if until > call.now else None
        self.protection_reason = reason if until > call.now else ""
        watch(self, call)

    async def pass_on(self, to: str, department: str, cause: str, call: Call) -> None:
        """Goes to another owner in a handover; without one `department` is the pool that takes it."""
        from customer import ownership

        await ownership.hand_over(self, to, department, cause, call)

    async def archive(self, call: Call) -> None:
        """Takes the account out of daily work; ACCOUNT_IN_USE while other services have open business with it."""
        self.check_state("ACTIVE", "POOLED")
        if await business(self, call, over=False):
            raise FailedPrecondition("ACCOUNT_IN_USE")
        self.state = "ARCHIVED"

    def unarchive(self) -> None:
        """Takes it back to where it was."""
        self.check_state("ARCHIVED")
        self.state = "POOLED" if self.pool and not self.owner else "ACTIVE"

    def copied(self, display_name: str) -> "Account":
        """A new account like this one, without what belongs to this one alone."""
        left_out = {"name", "distinction", "service_tier",
                    "display_name", "legal_name", "tax_id", "tax_id_status", "aliases", "phones", "emails",
                    "website", "pin", "state", "last_interaction_time", "completeness", "pool", "sea_due_time", "sea_clause",
                    "sea_exemption", "protected_until_time", "protection_reason", "level_until_date", "owner_time", "owner_how",
                    "collaborations", "merged_into"}  # fmt: skip
        from crmkit.describe import COMMON

        copy = Account(display_name=display_name, custom=dict(self.custom))
        for name in self.described.fields:
            if name not in left_out and name not in COMMON:
                setattr(copy, name, getattr(self, name))
        return copy

    def identity(self, public_domains: Collection[str] = PUBLIC_MAIL_DOMAINS) -> Identity:
        """What tells who the account is; mail at public domains says nothing of it."""
        return identity_of(self, public_domains)

    def hold_keys(self, identity: Identity, call: Call) -> None:
        """Writes the match keys of a new account along with it."""
        keys = sorted(identity.keys)
        call.along(_HOLD, self.id, [key.kind.value for key in keys], [key.value for key in keys])

    async def write_keys(self, identity: Identity, call: Call) -> None:
        """Replaces the account's match keys."""
        connection, keys = await driver(call.db), sorted(identity.keys)
        await connection.execute("DELETE FROM match_keys WHERE account = $1", self.id)
        await connection.execute(
            _HOLD, self.id, [key.kind.value for key in keys], [key.value for key in keys]
        )

    async def deleting(self, call: Call) -> None:
        """Goes with its match keys; ACCOUNT_IN_USE where other services have ever done business with it."""
        if await business(self, call, over=True):
            raise FailedPrecondition("ACCOUNT_IN_USE")
        await super().deleting(call)
        await (await driver(call.db)).execute("DELETE FROM match_keys WHERE account = $1", self.id)

    def search_phones(self) -> list[str]:
        """Numbers that `q` finds."""
        return [phone.number for phone in self.phones if phone.valid]


async def business(account: Account, call: Call, *, over: bool) -> bool:
    """Whether other services have something open with the account, or ever had where it may be `over`."""
    return bool(await (await driver(call.db)).fetchval(_BUSINESS, account.id, over))


_BUSINESS = (
    "SELECT EXISTS (SELECT FROM sea_records WHERE account = $1 AND"
    " (live OR pending OR amount <> 0 OR ($2 AND (time IS NOT NULL OR day IS NOT NULL))))"
)


def normal_phones(person: Any) -> list[Any]:
    """The phones in their normal form; a number that a call has shown to be wrong stays marked."""
    return keep_marks(person, [normal_phone(phone) for phone in person.phones])


def normal_phone(phone: Any) -> Any:
    """The phone in E.164 where it can be read, else as typed and marked."""
    if phone.number.startswith("+") and phone.valid:
        return phone
    parsed = Phone.parse(phone.number)
    normal = type(phone)()
    normal.CopyFrom(phone)
    normal.number = parsed.number or phone.number
    normal.extension = parsed.extension or phone.extension
    normal.valid = parsed.valid
    return normal


def identity_of(account: Any, public_domains: Collection[str] = PUBLIC_MAIL_DOMAINS) -> Identity:
    """Of an account, or of a row that has the fields which tell who it is."""
    return Identity.of(
        [account.display_name, account.legal_name, *(alias.text for alias in account.aliases)],
        person=account.kind == "INDIVIDUAL",
        tax_id=TaxId.parse(account.tax_id) if account.tax_id else None,
        phones=[Phone(phone.number, phone.number) for phone in account.phones if phone.valid],
        emails=[email.address for email in account.emails],
        website=account.website,
        public_domains=public_domains,
    )
