"""Public seas, what is in them, and the only history of owners."""

from datetime import datetime
from typing import Any

from crm.customer.v1 import pb
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.company import with_beneath
from crmkit.errors import FailedPrecondition, PermissionDenied, Validation, Violation
from crmkit.resource import Resource
from customer.model.base import Base
from sqlalchemy import ColumnElement, Index, Text, and_, exists, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

HIDEABLE = frozenset(
    ["displayName", "legalName", "phone", "email", "website", "address", "industry", "level", "source"]
)
MANAGE = "customer.pools.manage"
ACROSS = "customer.accounts.across"


class Pool(Resource, Base):
    """Customers without owner that the members may claim."""

    __message__ = pb.Pool

    display_name: Mapped[str]
    member_departments: Mapped[list[str]]
    member_roles: Mapped[list[str]]
    member_employees: Mapped[list[str]]
    managers: Mapped[list[str]]
    hidden_fields: Mapped[list[str]]
    parent: Mapped[str]
    parent_after_days: Mapped[int]
    state: Mapped[str]
    segment: Mapped[str]
    # The members as a caller names itself: departments with all below, people, "roles/<code>".
    audience: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")

    async def creating(self, call: Call) -> None:
        """A new pool is open; it is of the segment of whoever makes it, unless that is head office."""
        self.state = "OPEN"
        across = call.caller.may(ACROSS)
        mine = call.running.directory.organisation.segment(call.caller.department)
        self.segment = self.segment or ("" if across else mine)
        if self.segment and call.running.directory.organisation.segment(self.segment) != self.segment:
            zh, en = "该部门不是业务板块。", "This department is no segment."
            raise Validation(Violation("pool.segment", "UNKNOWN_VALUE", zh, en))
        if self.segment != mine and not across:
            raise PermissionDenied("PERMISSION_DENIED", permission=ACROSS)
        self._check(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Keeps the members as they are found by."""
        self._check(call)

    def _check(self, call: Call) -> None:
        if not call.caller.may(MANAGE):
            raise PermissionDenied("PERMISSION_DENIED", permission=MANAGE)
        if wrong := sorted(set(self.hidden_fields) - HIDEABLE):
            zh, en = f"不能隐藏字段“{wrong[0]}”。", f"The field {wrong[0]} cannot be hidden."
            raise Validation(Violation("pool.hidden_fields", "UNKNOWN_FIELD", zh, en))
        if self.parent == self.name:
            raise Validation(
                Violation("pool.parent", "CYCLE", "上级公海不能是自己。", "A pool is not its own parent.")
            )
        self.spread(call)

    def spread(self, call: Call) -> None:
        """Reckons whom the members' departments take in now."""
        audience = {
            *with_beneath(self.member_departments, call),
            *self.member_employees,
            *(f"roles/{role}" for role in self.member_roles),
        }
        if set(self.audience or ()) != audience:
            self.audience = sorted(audience)

    def has_member(self, caller: Caller) -> bool:
        """Whether the caller may claim here."""
        wall = caller.reach("accounts").wall
        if self.segment and wall is not None and self.segment not in wall:
            return False
        return bool(set(self.audience) & {caller.employee, caller.department, *roles_of(caller)})

    def managed_by(self, caller: Caller) -> bool:
        """Whether the caller may assign out of it and sees what it hides."""
        return (
            caller.is_system
            or caller.employee in self.managers
            or (caller.may(MANAGE) and caller.reach("accounts").everything)
        )

    def takes_from(self, account: Any, call: Call) -> bool:
        """Whether an owner may release into it: where the owner's department or the owner is a member."""
        entry = call.entry(account.owner)
        roles = {f"roles/{role}" for role in entry.get("roles", ())}
        return not self.audience or bool(set(self.audience) & {account.owner, account.department, *roles})

    def check_segment(self, department: str, call: Call) -> None:
        """Refuses a customer of another segment, but from head office."""
        of = call.running.directory.organisation.segment(department)
        if self.segment not in ("", of) and not call.caller.may(ACROSS):
            raise FailedPrecondition("POOL_NOT_ALLOWED")

    def check_open(self) -> None:
        """Refuses a pool out of use."""
        if self.state != "OPEN":
            raise FailedPrecondition("POOL_CLOSED")


class PoolItem(Resource, Base):
    """A customer's stay in a pool as the members see it; what the pool hides is not in the row."""

    __message__ = pb.PoolItem
    follows_merges = False
    __table_args__ = (
        Index("pool_items_pooled_time_index", "pool", "pooled_time"),
        Index("pool_items_account_key", "account", unique=True),
    )

    display_name: Mapped[str]
    account: Mapped[str]
    account_number: Mapped[str]
    pool: Mapped[str]
    legal_name: Mapped[str]
    industry: Mapped[str]
    level: Mapped[str]
    source: Mapped[str]
    phone: Mapped[str]
    email: Mapped[str]
    website: Mapped[str]
    address: Mapped[str]
    pooled_time: Mapped[datetime]
    how: Mapped[str]
    last_interaction_time: Mapped[datetime | None]

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """Members and managers see their pools; portal callers none."""
        if caller.is_system or (caller.may(MANAGE) and caller.reach("accounts").everything):
            return None
        names = [n for n in (caller.employee, caller.department, *caller.departments, *roles_of(caller)) if n]
        row: Any = cls
        members: Any = Pool.audience
        mine = or_(members.op("&&")(names), func.array_position(Pool.managers, caller.employee).is_not(None))
        if (wall := caller.reach("accounts").wall) is not None:
            mine = and_(mine, Pool.segment.in_(["", *wall]))
        return exists(select(Pool.id).where(Pool.sql_name() == row.pool, mine))

    def show(self, account: Any, pool: Pool) -> None:
        """Takes over from the account what the pool does not hide."""
        first = {
            "displayName": account.display_name,
            "legalName": account.legal_name,
            "phone": next((phone.number for phone in account.phones), ""),
            "email": next((email.address for email in account.emails), ""),
            "website": account.website,
            "address": next((address.line for address in account.addresses), ""),
            "industry": account.industry,
            "level": account.level,
            "source": account.source,
        }
        hidden = dict.fromkeys(pool.hidden_fields, "") | (
            {"displayName": account.number or "＊"} if "displayName" in pool.hidden_fields else {}
        )
        for name, value in (first | hidden).items():
            attribute = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
            if getattr(self, attribute) != value:
                setattr(self, attribute, value)
        self.account_number = account.number
        self.last_interaction_time = account.last_interaction_time


class PoolClaim(Resource, Base):
    """One change of a customer's owner. Its owner is the person who got or lost the customer."""

    __message__ = pb.PoolClaim
    __table_args__ = (
        Index("pool_claims_account_time_index", "account", "time"),
        Index("pool_claims_employee_kind_index", "employee", "kind", "time"),
        Index("pool_claims_from_kind_index", "from", "kind", "time"),
        Index("pool_claims_kind_time_index", "kind", "time"),
    )

    account: Mapped[str]
    kind: Mapped[str]
    employee: Mapped[str]
    pool: Mapped[str]
    rule: Mapped[str]
    clause: Mapped[str]
    time: Mapped[datetime]
    reason: Mapped[str]
    evidence: Mapped[str]
    cause: Mapped[str]
    actor: Mapped[str]
    from_department: Mapped[str]


class PoolView(Base):
    """That a person opened a customer of a pool on a day of hers."""

    __tablename__ = "pool_views"

    employee: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[str] = mapped_column(Text, primary_key=True)
    account: Mapped[str] = mapped_column(Text, primary_key=True)
    pool: Mapped[str] = mapped_column(Text)


def roles_of(caller: Caller) -> list[str]:
    """The caller's roles as members are written."""
    return [f"roles/{role}" for role in caller.roles]
