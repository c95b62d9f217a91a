"""Keys with which other systems call."""

import ipaddress
from datetime import datetime, timedelta

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import keys
from crmkit.access import Role
from crmkit.auth import Scope
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied
from crmkit.listing import ZONE
from crmkit.resource import Resource
from sqlalchemy import Index, Text, func, select
from sqlalchemy.orm import Mapped, mapped_column

from workspace.exceeding import check_key
from workspace.model.base import Base
from workspace.permissions import check_grant, check_known, expand
from workspace.telling import notify

LONGEST_DAYS = 400
USUAL_DAYS = 365
MOST_KEYS = 20
# Days before the end of a key at which its people are told.
WARNINGS = (30, 7, 1)


class ApiKey(Resource, Base):
    """A key. Its secret is shown once and kept as a hash; it never reaches further than its maker."""

    __message__ = pb.ApiKey
    handed_over = False
    __table_args__ = (Index("api_keys_key_id_key", "key_id", unique=True),)

    display_name: Mapped[str]
    key_id: Mapped[str]
    permissions: Mapped[list[str]]
    scope: Mapped[str]
    account: Mapped[str]
    expire_time: Mapped[datetime | None]
    cidrs: Mapped[list[str]]
    rate: Mapped[int]
    state: Mapped[str]
    # No field of the message, so that no answer and no fact can hold it.
    secret_hash: Mapped[str] = mapped_column(Text)

    # Set while the key is being made, and shown by the answer to that alone.
    secret = ""
    shown = ""

    async def creating(self, call: Call) -> None:
        """Checks reach and lifetime."""
        self.state = "ACTIVE"
        self.owner = self.owner or call.caller.employee
        self.scope = self.scope or ("OWN" if self.account else "DEPARTMENT")
        check_known(self.permissions)
        check_grant(self.permissions, call)
        order = list(Scope)
        if not call.caller.is_system and order.index(Scope(self.scope)) > order.index(call.caller.scope):
            raise PermissionDenied("SCOPE_EXCEEDS_OWNER")
        if not self.account:
            owner = call.running.directory.explained(self.owner) if self.owner else None
            check_key(Role("", expand(self.permissions), Scope(self.scope)), owner, call)
        expires = self.expire_time or call.now + timedelta(days=USUAL_DAYS)
        self.expire_time = expires
        if not call.now < expires <= call.now + timedelta(days=LONGEST_DAYS):
            raise FailedPrecondition("KEY_LIFETIME", limit=LONGEST_DAYS)
        self._check_networks()
        await call.one_at_a_time([f"keys:{self.owner}"])
        mine = (ApiKey.owner == self.owner, ApiKey.state == "ACTIVE", ApiKey.expire_time > call.now)
        working = select(func.count()).where(*mine)
        async with call.everybody():
            if (await call.db.scalar(working) or 0) >= MOST_KEYS:
                raise FailedPrecondition("KEY_LIMIT", limit=MOST_KEYS)
        settings = call.running.settings
        key = keys.ApiKey.make(settings.environment)
        self.key_id, self.secret_hash, self.shown = key.id, key.digest(settings.secret_key), str(key)
        call.emit(events.ApiKeyChanged, api_key=self)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Networks and rate may change while it works."""
        self.check_state("ACTIVE")
        self._check_networks()

    def revoke(self, call: Call) -> None:
        """Ends it."""
        self.check_state("ACTIVE")
        self.state = "REVOKED"
        call.emit(events.ApiKeyChanged, api_key=self)

    def _check_networks(self) -> None:
        for network in self.cidrs:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                raise FailedPrecondition("CIDR_INVALID", network=network[:50]) from None


async def warn_of_keys(as_of: datetime, call: Call) -> None:
    """Tells owner and maker 30, 7 and 1 days before a key ends, once for each end; late only of the last step."""
    soon = select(ApiKey).where(
        ApiKey.state == "ACTIVE", ApiKey.expire_time > as_of, ApiKey.expire_time <= as_of + timedelta(days=max(WARNINGS))
    )  # fmt: skip
    for key in await call.db.scalars(soon.order_by(ApiKey.id).limit(1000)):
        end = key.expire_time or as_of
        step = min(days for days in WARNINGS if end <= as_of + timedelta(days=days))
        day = end.astimezone(ZONE).date()
        zh = f"接口密钥“{key.display_name}”将于 {day} 到期，到期后使用它的系统将无法访问"
        en = f"The API key {key.display_name} ends on {day}; what calls with it will be refused then"
        people = [one for one in dict.fromkeys([key.owner, key.creator]) if one.startswith("employees/")]
        await notify(call, people, "key", f"key:{key.name}:{day}:{step}", key.name, zh, en)
