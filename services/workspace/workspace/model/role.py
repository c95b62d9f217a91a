"""The role: a combination of permissions that many people hold."""

import re

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.resource import Resource
from sqlalchemy import Index, func, inspect, select
from sqlalchemy.orm import Mapped

from workspace.model.base import Base
from workspace.permissions import check_grant, check_known

CODE = re.compile(r"[a-z][a-z0-9_]*")


class Role(Resource, Base):
    """A combination of permissions. Nobody puts into it what he does not have."""

    __message__ = pb.Role
    __table_args__ = (Index("roles_code_key", "code", unique=True),)

    code: Mapped[str]
    display_name: Mapped[str]
    english_name: Mapped[str]
    permissions: Mapped[list[str]]
    scope: Mapped[str]
    kind: Mapped[str]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Completes the role; what comes with the platform may name services that are not installed."""
        if not CODE.fullmatch(self.code):
            raise Validation(
                Violation(
                    "role.code",
                    "WRONG_FORMAT",
                    "只能使用小写字母、数字和下划线",
                    "Lower-case letters, digits, _.",
                )
            )
        self.state = "ACTIVE"
        self.kind = self.kind or "USER"
        self.scope = self.scope or "OWN"
        if not call.caller.is_system:
            check_known(self.permissions)
            check_grant(self.permissions, call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only what is added must be known and held; the last administrator stays one."""
        self._check_free()
        self.check_state("ACTIVE")
        if "permissions" in changed:
            history = inspect(self).attrs.permissions.history
            added = set(self.permissions) - set(history.deleted[0] if history.deleted else ())
            check_known(added)
            check_grant(added, call)
            from workspace.model.employee import check_administrator_left

            await check_administrator_left(call)

    async def deleting(self, call: Call) -> None:
        """A role that somebody holds stays."""
        self._check_free()
        await self._check_unused(call)

    async def retire(self, call: Call) -> None:
        """Takes it out of use."""
        self._check_free()
        self.check_state("ACTIVE")
        await self._check_unused(call)
        self.state = "RETIRED"

    def _check_free(self) -> None:
        if self.kind == "SYSTEM":
            raise FailedPrecondition("ROLE_IS_SYSTEM")

    async def _check_unused(self, call: Call) -> None:
        from workspace.model.employee import Employee

        held = select(func.count()).where(
            Employee.roles.contains([self.code]), Employee.state != "OFFBOARDED"
        )
        if count := await call.db.scalar(held):
            raise FailedPrecondition("ROLE_IN_USE", count=count)
