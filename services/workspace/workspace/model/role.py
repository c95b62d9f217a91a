"""The role: a combination of permissions that many people hold."""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import Any

from crm.workspace.v1 import pb
from crmkit import access, filters
from crmkit.auth import ZONE
from crmkit.call import Call
from crmkit.catalog import record_fields, resources
from crmkit.describe import Described
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.fieldlevels import CUSTOM, TEXTS, FieldLevel, Levels, always_shown, together
from crmkit.resource import Resource
from sqlalchemy import Index, inspect
from sqlalchemy.orm import Mapped

from workspace.exceeding import check_given
from workspace.model.base import Base
from workspace.permissions import check_known, check_portal, expand

# Only a grant can say which departments.
BY_GRANT = frozenset(["DEPARTMENTS"])
# What nobody sets, or what is set key by key.
FIXED = frozenset(["name", "number", "etag", "custom"])
# What a role gives is made of these.
GIVES = frozenset(["permissions", "scope", "grants", "fields"])
# Whether it counts, and for what.
COUNTS = frozenset(["permissions", "ip_ranges", "requires_certificate"])
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
    grants: Mapped[Any]
    fields: Mapped[Any]
    ip_ranges: Mapped[list[str]]
    second_factor: Mapped[bool]
    identity_group: Mapped[str]
    conflicts_with: Mapped[list[str]]
    requires_certificate: Mapped[str]
    positions: Mapped[list[str]]
    kind: Mapped[str]
    portal: Mapped[bool]
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
        check_levels(self.grants, self.scope)
        check_fields(self.fields, self.permissions, call)
        check_networks(self.ip_ranges)
        if self.portal:
            check_portal(self.permissions)
        if not call.caller.is_system:
            check_known(self.permissions)
            check_given(self.given(), call)
            await self._check_holders(self.positions, call, by_group=bool(self.identity_group))

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only what is added must be known and held; the last administrator stays one."""
        self._check_free()
        self.check_state("ACTIVE")
        check_levels(self.grants, self.scope)
        check_fields(self.fields, self.permissions, call)
        if "positions" in changed:
            history = inspect(self).attrs.positions.history
            before = set(history.deleted[0] if history.deleted else ())
            await self._check_holders(set(self.positions) - before, call)
        check_networks(self.ip_ranges)
        if GIVES & changed:
            check_given(self.given(), call, before=self.given(**_before(self)))
        if "identity_group" in changed and self.identity_group:
            # Whoever is in the group gets the role.
            await self._check_holders([], call, by_group=True)
        if "permissions" in changed:
            history = inspect(self).attrs.permissions.history
            added = set(self.permissions) - set(history.deleted[0] if history.deleted else ())
            check_known(added)
            if self.portal:
                check_portal(self.permissions)
        if COUNTS & changed:
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

    async def copy(self, code: str, display_name: str, call: Call) -> "Role":
        """Another role that may do the same, to be changed."""
        made = Role(
            code=code,
            display_name=display_name,
            permissions=list(self.permissions),
            scope=self.scope,
            grants=list(self.grants),
            fields=list(self.fields),
            ip_ranges=list(self.ip_ranges),
            second_factor=self.second_factor,
            conflicts_with=list(self.conflicts_with),
            portal=self.portal,
        )
        await call.add(made)
        await call.flush()
        return made

    def given(self, **other: Any) -> access.Role:
        """What the role gives, as the kit reads it; with `other` values in the place of its own."""
        values = {name: other.get(name, getattr(self, name)) for name in GIVES}
        fields: dict[str, list[Levels]] = {}
        for taken in values["fields"]:
            one = {taken.field: FieldLevel(pb.Role.FieldLevel.Name(taken.level))}
            fields.setdefault(taken.collection.rpartition(".")[2], []).append(one)
        return access.Role(
            self.code, expand(values["permissions"]), access.Scope(values["scope"] or "OWN"),
            tuple(
                access.Grant(
                    access.Scope(level(grant)), grant.collection or "*",
                    pb.Role.Action.Name(grant.action) if grant.action else "", tuple(grant.departments), grant.rule,
                )
                for grant in values["grants"]
            ),
            {collection: together(levels) for collection, levels in fields.items()},
        )  # fmt: skip

    async def _check_holders(self, positions: Collection[str], call: Call, by_group: bool = False) -> None:
        from workspace.model.employee import check_holders

        await check_holders(self, positions, call, by_group)

    def _check_free(self) -> None:
        if self.kind == "SYSTEM":
            raise FailedPrecondition("ROLE_IS_SYSTEM")

    async def _check_unused(self, call: Call) -> None:
        from workspace.model.employee import holders

        if self.positions:
            raise FailedPrecondition("ROLE_IN_USE", count=len(self.positions))
        if held := await holders(self, call):
            raise FailedPrecondition("ROLE_IN_USE", count=len(held))


def _before(role: Role) -> dict[str, Any]:
    """The values that a change has replaced."""
    histories = {name: getattr(inspect(role).attrs, name).history for name in GIVES}
    return {name: history.deleted[0] for name, history in histories.items() if history.deleted}


def level(grant: Any) -> str:
    """The level's name."""
    return pb.Role.Scope.Name(grant.level) if grant.level else "OWN"


def check_levels(grants: Iterable[Any], scope: str) -> None:
    """Refuses a grant that speaks of nothing, names no departments, or has a rule that cannot be read."""
    violations: list[Violation] = []
    if scope in BY_GRANT:
        violations.append(
            Violation("role.scope", "WRONG_FORMAT", "指定部门须在细则中给出", "Name departments in a grant.")
        )
    known = {f"{one.area}.{one.collection}": one for one in resources().values()}
    for index, grant in enumerate(grants):
        at = f"role.grants[{index}]"
        pattern = grant.collection or "*"
        speaks = [
            one for name, one in known.items() if pattern == one.collection or fnmatchcase(name, pattern)
        ]
        if not speaks:
            violations.append(
                Violation(f"{at}.collection", "UNKNOWN_REFERENCE", "没有这样的对象", "No such collection.")
            )
        if (level(grant) in BY_GRANT) != bool(grant.departments):
            violations.append(
                Violation(f"{at}.departments", "REQUIRED", "“指定部门”须列出部门", "DEPARTMENTS names them.")
            )
        if grant.rule and (len(speaks) != 1 or not _readable(grant.rule, speaks[0])):
            violations.append(
                Violation(
                    f"{at}.rule",
                    "FILTER_INVALID",
                    "行规则须针对一个对象，且为有效的筛选条件",
                    "A row rule is a filter over the one collection that its grant names.",
                )
            )
    if violations:
        raise Validation(*violations)


def check_networks(ranges: Iterable[str]) -> None:
    """Refuses what is no network."""
    violations: list[Violation] = []
    for index, network in enumerate(ranges):
        try:
            ip_network(network)
        except ValueError:
            path = f"role.ip_ranges[{index}]"
            violations.append(Violation(path, "WRONG_FORMAT", "不是有效的网络地址段", "This is no network."))
    if violations:
        raise Validation(*violations)


def check_fields(fields: Iterable[Any], permissions: Iterable[str], call: Call) -> None:
    """Refuses a field that is not there, that a record is not without, or that cannot be taken in that way."""
    violations: list[Violation] = []
    held = expand(permissions)
    for index, taken in enumerate(fields):
        at = f"role.fields[{index}]"
        known = (one for one in resources().values() if taken.collection == f"{one.area}.{one.collection}")
        described = next(known, None)
        if described is None:
            violations.append(
                Violation(f"{at}.collection", "UNKNOWN_REFERENCE", "没有这样的对象", "No such collection.")
            )
            continue
        wrong = _field_problem(described, taken, held, call)
        if wrong is not None:
            violations.append(Violation(f"{at}.field", *wrong))
    if violations:
        raise Validation(*violations)


def _field_problem(
    described: Described, taken: Any, held: Collection[str], call: Call
) -> tuple[str, str, str] | None:
    masked = taken.level == pb.Role.MASKED
    if taken.field.startswith(CUSTOM):
        key = taken.field.removeprefix(CUSTOM)
        definition = call.running.directory.custom.of(described.collection).get(key)
        if definition is None:
            return "UNKNOWN_FIELD", "没有这个自定义字段", "There is no such custom field."
        textual, needed = definition.kind in {"TEXT", "LONG_TEXT"}, definition.required
    else:
        field = described.fields.get(taken.field)
        if field is None:
            return "UNKNOWN_FIELD", "没有这个字段", "There is no such field."
        if taken.field in always_shown(described) and (
            taken.level != pb.Role.READ_ONLY or taken.field in FIXED
        ):
            return "FIELD_ALWAYS_SHOWN", "该字段不能隐藏或限制", "A record is not without this field."
        textual, needed = field.kind in TEXTS, field.required
    if masked and not textual:
        return "WRONG_FORMAT", "只有文本可以脱敏", "Only texts can be masked."
    if needed and described.permission("create") in held:
        return (
            "REQUIRED",
            "可新建该对象的角色须能填写必填字段",
            "Who creates these must be able to fill it in.",
        )
    return None


def _readable(rule: str, described: Described) -> bool:
    """True for a filter over the fields of the collection."""
    try:
        node = filters.bind(filters.parse(rule), record_fields(described))
        filters.matches(node, {}, me="", now=datetime.now(UTC), zone=ZONE)
    except filters.FilterError:
        return False
    return True
