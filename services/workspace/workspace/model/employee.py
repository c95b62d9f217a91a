"""The employee: a person who works with the platform, or a service account."""

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.approvals import matching
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.company import today
from crmkit.dictionaries import check_choices
from crmkit.errors import FailedPrecondition, PermissionDenied, Validation, Violation, check_reason, required
from crmkit.mapping import read_date, to_timestamp
from crmkit.resource import Resource
from sqlalchemy import Index, cast, exists, func, inspect, select, text, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped

from workspace.exceeding import check_given
from workspace.model.base import Base
from workspace.model.department import Department
from workspace.model.role import Role
from workspace.model.session import Session, end_all
from workspace.permissions import ADMINISTRATION, check_known, expand

USERNAME = re.compile(r"[a-z0-9][a-z0-9._@-]*")
MOST_POSTS, MOST_SKILLS = 5, 20
REINSTATE_DAYS = 90
EMERGENCY_ACCOUNTS = 2
# Who gives roles; where a policy holds that, they are given in no other way.
ASSIGN = "workspace.employees.assignRole"


class Employee(Resource, Base):
    """A person, or a service account. What the person may do comes from the roles, at once."""

    __message__ = pb.Employee
    kept_in = "department"
    made_together = True
    __table_args__ = (
        Index("employees_username_key", "username", unique=True, postgresql_where=text("username <> ''")),
        Index(
            "employees_email_key",
            "email",
            unique=True,
            postgresql_where=text("email <> '' AND state <> 'OFFBOARDED'"),
        ),
        Index("employees_roles_index", "roles", postgresql_using="gin"),
    )

    display_name: Mapped[str]
    english_name: Mapped[str]
    username: Mapped[str]
    email: Mapped[str]
    phone: Mapped[str]
    kind: Mapped[str]
    posts: Mapped[list[str]]
    superior: Mapped[str]
    roles: Mapped[list[str]]
    account: Mapped[str]
    locale: Mapped[str]
    time_zone: Mapped[str]
    subject: Mapped[str]
    state: Mapped[str]
    state_reason: Mapped[str]
    successor: Mapped[str]
    identity_error: Mapped[str]
    position: Mapped[str]
    identity_roles: Mapped[list[str]]
    emergency: Mapped[bool]
    temporary_roles: Mapped[Any]
    delegations: Mapped[Any]
    certificates: Mapped[Any]
    skills: Mapped[list[str]]
    leave_time: Mapped[datetime | None]
    sessions_end_time: Mapped[datetime | None]

    async def creating(self, call: Call) -> None:
        """Completes the record. Without an identity provider to wait for, the person may begin at once."""
        self.kind = self.kind or "STAFF"
        self.locale = self.locale or "zh-CN"
        self.time_zone = self.time_zone or "Asia/Shanghai"
        self.subject = str(self.id)
        self.state = self.state or self._begins(call)
        await self._check(frozenset(["username", "department", "posts", "superior"]), call)
        if self.emergency:
            # Of those who come together, the earlier ones count.
            await call.flush()
            await self._check_emergency(call)
        if self.roles:
            check_may_assign(self, call)
        await check_roles(self.roles, self, call)
        await check_brought(self, call)
        await check_duties(self, call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Grants only what the granter has; the last administrator stays one."""
        self.check_state("INVITED", "ACTIVE", "FROZEN")
        await self._check(changed, call)
        if "position" in changed:
            await check_brought(self, call)
            await check_duties(self, call)
        if "emergency" in changed:
            await self._check_emergency(call)
        if "roles" in changed:
            check_may_assign(self, call)
            history = inspect(self).attrs.roles.history
            added = set(self.roles) - set(history.deleted[0] if history.deleted else ())
            await check_roles(added, self, call)
            await check_duties(self, call)
            await check_administrator_left(call)

    async def deleting(self, call: Call) -> None:
        """Only who has left no trace is taken out; offboarding is the way for everybody else."""
        # Both read facts and tell their own stories of employees.
        from workspace.model.audit import AuditEntry
        from workspace.model.known_record import belongings

        acted = select(exists().where(AuditEntry.actor == self.name))
        if self.state == "OFFBOARDED" or await call.db.scalar(acted) or await belongings(self.name, call):
            raise FailedPrecondition("EMPLOYEE_HAS_HISTORY")
        await check_administrator_left(call, without=self)

    def search_phones(self) -> list[str]:
        """Numbers that `q` finds."""
        return [self.phone] if self.phone else []

    async def assign_role(self, request: Any, call: Call) -> None:
        """Gives a role, for good or for a time."""
        self.check_state("INVITED", "ACTIVE", "FROZEN")
        await check_roles([request.role], self, call)
        starts = request.from_time.ToDatetime(UTC) if request.HasField("from_time") else call.now
        ends = request.until_time.ToDatetime(UTC) if request.HasField("until_time") else None
        if ends is not None and (ends <= starts or ends <= call.now):
            raise FailedPrecondition("PERIOD_INVALID")
        if ends is None and starts <= call.now:
            self.roles = [*self.roles, request.role] if request.role not in self.roles else self.roles
        else:
            given = pb.Employee.TemporaryRole(
                role=request.role, reason=request.reason, granter=call.caller.actor
            )
            given.from_time.CopyFrom(to_timestamp(starts))
            if ends is not None:
                given.until_time.CopyFrom(to_timestamp(ends))
            kept = [one for one in self.temporary_roles if one.role != request.role]
            self.temporary_roles = [*kept, given]
        await check_duties(self, call)

    async def delegate(self, request: Any, call: Call) -> None:
        """Lets somebody decide in the person's place for a time, or nobody any more."""
        from workspace.model.deciders import check_delegation

        self.check_state("ACTIVE", "FROZEN")
        if not request.delegate:
            self.delegations = []
            return
        given = pb.Employee.Delegation(delegate=request.delegate, reason=request.reason)
        starts = request.from_time.ToDatetime(UTC) if request.HasField("from_time") else call.now
        given.from_time.CopyFrom(to_timestamp(starts))
        if request.HasField("until_time"):
            if request.until_time.ToDatetime(UTC) <= max(starts, call.now):
                raise FailedPrecondition("PERIOD_INVALID")
            given.until_time.CopyFrom(request.until_time)
        await check_delegation(self, request.delegate, call)
        self.delegations = [given]

    def set_skills(self, skills: list[str], call: Call) -> None:
        """What the person knows, as the person says. NOT_THE_OWNER."""
        if call.caller.employee != self.name:
            raise PermissionDenied("NOT_THE_OWNER")
        self.skills = list(dict.fromkeys(skills))
        self._check_skills()
        check_choices(self, ["skills"], call)

    async def revoke_role(self, role: str, call: Call) -> None:
        """Takes a role away, however it was given."""
        if role not in (*self.roles, *(one.role for one in self.temporary_roles)):
            raise FailedPrecondition("ROLE_UNKNOWN", role=role)
        self.roles = [one for one in self.roles if one != role]
        self.temporary_roles = [one for one in self.temporary_roles if one.role != role]
        await check_administrator_left(call)

    def held(self, at: datetime) -> list[str]:
        """The roles that were given to the person and count at that time."""
        now = [one.role for one in self.temporary_roles if _covers(one, at)]
        return list(dict.fromkeys([*self.roles, *now, *self.identity_roles]))

    def holds(self, role: Role, at: datetime) -> bool:
        """Whether the role counts for the person at that time, however it came."""
        return role.code in self.held(at) or self.position in role.positions

    async def in_groups(self, groups: Collection[str], call: Call) -> None:
        """Gives exactly the roles of those groups of the identity provider; what was given here stays."""
        mapped = select(Role.code).where(
            Role.state == "ACTIVE", Role.identity_group.in_([*groups]), Role.identity_group != ""
        )
        codes = list(await call.db.scalars(mapped.order_by(Role.code)))
        if codes != list(self.identity_roles):
            self.identity_roles = codes

    def _check_skills(self) -> None:
        if len(self.skills) > MOST_SKILLS:
            zh, en = f"最多 {MOST_SKILLS} 项", f"At most {MOST_SKILLS}."
            raise Validation(Violation("skills", "TOO_MANY", zh, en))

    async def _check_emergency(self, call: Call) -> None:
        """Only who holds everything makes one of the two accounts that bring everything back, or makes it none."""
        if not call.caller.may("*"):
            raise PermissionDenied("GRANT_EXCEEDS_GRANTER", permission="*")
        call.caller.check_step_up()
        await call.one_at_a_time(["employees.emergency"])
        others = select(func.count()).where(
            Employee.emergency, Employee.id != self.id, Employee.state != "OFFBOARDED"
        )
        if self.emergency and (await call.db.scalar(others) or 0) >= EMERGENCY_ACCOUNTS:
            raise FailedPrecondition("EMERGENCY_LIMIT", limit=EMERGENCY_ACCOUNTS)

    def certified(self, item: str, day: date) -> bool:
        """True where a certificate counts on the day, or none is asked for."""
        ends = [read_date(one.expires) for one in self.certificates if one.item == item]
        return not item or any(end is None or end >= day for end in ends)

    async def reinstate(self, call: Call) -> None:
        """Takes the person back, without the roles of before."""
        self.check_state("OFFBOARDED")
        if self.leave_time is None or call.now - self.leave_time > timedelta(days=REINSTATE_DAYS):
            raise FailedPrecondition("REINSTATE_TOO_LATE", limit=REINSTATE_DAYS)
        self.roles, self.temporary_roles, self.identity_roles = [], [], []
        self.successor, self.leave_time = "", None
        self.state = self._begins(call)

    async def freeze(self, reason: str, call: Call) -> None:
        """Takes access away."""
        self.check_state("ACTIVE", "INVITED")
        self.state, self.state_reason = "FROZEN", check_reason(reason)
        await end_all([Session.owner == self.name], "ACCESS_LOST", call)
        await check_administrator_left(call)
        call.emit(events.EmployeeFrozen, employee=self, time=call.now)

    async def end_sessions(self, call: Call) -> None:
        """Ends what the person has open: tokens of before count no more, sessions are not renewed."""
        self.check_state("ACTIVE")
        self.sessions_end_time = call.now
        await end_all([Session.owner == self.name], "ENDED_BY_HAND", call)

    def unfreeze(self) -> None:
        """Gives it back."""
        self.check_state("FROZEN")
        self.state, self.state_reason = "ACTIVE", ""

    async def offboard(self, successor: str, successions: list[Any], call: Call) -> None:
        """Ends the employment. Listeners move what is open to the successor, or to those of single collections."""
        self.check_state("INVITED", "ACTIVE", "FROZEN")
        known, named = {one.collection for one in resources().values()}, set[str]()
        for index, one in enumerate(successions):
            wrong = [name for name in one.collections if name not in known or name in named]
            if wrong:
                path = f"successions[{index}].collections"
                raise Validation(
                    Violation(
                        path,
                        "UNKNOWN_REFERENCE",
                        f"没有该对象或重复：{wrong[0]}",
                        f"Not one collection: {wrong[0]}.",
                    )
                )
            named |= {*one.collections}
        for heir in (successor, *(one.successor for one in successions)):
            if not heir or heir == self.name:
                raise FailedPrecondition("SUCCESSOR_REQUIRED")
            found = await call.named(Employee, heir)
            if found is None or found.state != "ACTIVE":
                raise FailedPrecondition("EMPLOYEE_INACTIVE")
        self.state, self.successor, self.leave_time = "OFFBOARDED", successor, call.now
        await end_all([Session.owner == self.name], "ACCESS_LOST", call)
        await check_administrator_left(call)
        call.emit(
            events.EmployeeOffboarded,
            employee=self,
            successor=successor,
            successions=successions,
            time=call.now,
        )

    async def ask_for_account(self, call: Call) -> None:
        """Asks the identity provider once more to make the account."""
        from workspace import identity

        self.check_state("INVITED")
        self.identity_error = ""
        await identity.queue([{"name": self.name}], call)

    def has_account(self, subject: str) -> None:
        """The identity provider has made or changed the account; who was invited may begin."""
        self.subject, self.identity_error = subject, ""
        if self.state == "INVITED":
            self.state = "ACTIVE"

    def _begins(self, call: Call) -> str:
        """People wait for their account, where there is a provider; machines call by keys and have none."""
        return "INVITED" if call.running.settings.keeps_accounts and self.kind != "SERVICE" else "ACTIVE"

    async def _check(self, changed: Collection[str], call: Call) -> None:
        self._check_skills()
        self.username, self.email = self.username.strip().lower(), self.email.strip().lower()
        violations: list[Violation] = []
        if "username" in changed and self.username and not USERNAME.fullmatch(self.username):
            violations.append(
                Violation(
                    "employee.username", "WRONG_FORMAT", "登录名格式不正确", "Letters, digits and . _ @ -."
                )
            )
        if not self.department:
            violations.append(required("employee.department"))
        if len(self.posts) > MOST_POSTS:
            violations.append(
                Violation("employee.posts", "TOO_MANY", f"最多 {MOST_POSTS} 个", f"At most {MOST_POSTS}.")
            )
        if "superior" in changed and await self._leads(self.superior, call):
            violations.append(
                Violation(
                    "employee.superior",
                    "CYCLE",
                    "上级不能是本人或其下属",
                    "The superior reports to the person.",
                )
            )
        if violations:
            raise Validation(*violations)
        if {"department", "posts"} & set(changed):
            call.check_kept(Employee, [self.department, *self.posts])
        for name in {self.department, *self.posts} if {"department", "posts"} & set(changed) else ():
            department = await call.named(Department, name)
            if department is not None and department.state == "CLOSED":
                raise FailedPrecondition("DEPARTMENT_CLOSED")

    async def _leads(self, superior: str, call: Call) -> bool:
        return any(person.id == self.id for person in await superiors(superior, call))


async def superiors(name: str, call: Call) -> list[Employee]:
    """The employee of the name and all superiors, nearest first; an old cycle ends the walk."""
    found: list[Employee] = []
    while name and len(found) < 50:
        person = await call.named(Employee, name)
        if person is None or person in found:
            break
        found.append(person)
        name = person.superior
    return found


def check_may_assign(person: Employee, call: Call) -> None:
    """Refuses roles that come with something else from who may not give any, and where giving them waits for approval."""
    if call.caller.is_system:
        return
    if not call.caller.may(ASSIGN):
        raise PermissionDenied("PERMISSION_DENIED", permission=ASSIGN)
    call.caller.check_step_up()
    check_roles_not_held(person, call)


def check_roles_not_held(person: Employee, call: Call) -> None:
    """Refuses to give roles beside what a policy holds: what was agreed to then was another action, by others."""
    policies = call.running.policies.over(ASSIGN)
    if policies and matching(policies, call.message_of(person), call) is not None:
        raise FailedPrecondition("ROLE_NEEDS_APPROVAL")


async def check_roles(codes: Collection[str], person: Employee, call: Call) -> None:
    """Refuses roles that do not exist, are not for such a person, or reach further than whoever gives them."""
    if not codes:
        return
    roles = {
        role.code: role for role in await call.db.scalars(select(Role).where(Role.code.in_(list(codes))))
    }
    for code in codes:
        if code not in roles or roles[code].state != "ACTIVE":
            raise FailedPrecondition("ROLE_UNKNOWN", role=code)
        if person.account and not roles[code].portal:
            raise FailedPrecondition("ROLE_NOT_FOR_PORTAL", role=code)
        if not person.certified(wanted := roles[code].requires_certificate, today(call)):
            raise FailedPrecondition("CERTIFICATE_EXPIRED", certificate=wanted, role=code)
        check_given(roles[code].given(), call)


async def check_brought(person: Employee, call: Call) -> None:
    """Roles that the position brings are given roles: by who may give them, and in no other way where that waits."""
    if call.caller.is_system or not person.position:
        return
    brought = select(Role).where(Role.state == "ACTIVE", Role.positions.contains([person.position]))
    held = set(person.held(call.now))
    for role in [one for one in await call.db.scalars(brought) if one.code not in held]:
        check_may_assign(person, call)
        check_given(role.given(), call)


async def check_holders(role: Role, positions: Collection[str], call: Call, by_group: bool = False) -> None:
    """The same for everybody in positions that a role is to come with, or in a group of the identity provider."""
    if call.caller.is_system or not (positions or by_group):
        return
    if not call.caller.may(ASSIGN):
        raise PermissionDenied("PERMISSION_DENIED", permission=ASSIGN)
    check_given(role.given(), call)
    if positions and call.running.policies.over(ASSIGN):
        holders = select(Employee).where(Employee.position.in_(positions), Employee.state != "OFFBOARDED")
        for person in await call.db.scalars(holders):
            if role.code not in person.held(call.now):
                check_may_assign(person, call)


async def check_duties(person: Employee, call: Call) -> None:
    """Refuses roles that nobody holds together, whatever their period."""
    held = {*person.roles, *(one.role for one in person.temporary_roles)}
    if not held and not person.position:
        return
    given = Role.code.in_(sorted(held)) | Role.positions.contains([person.position])
    roles = list(await call.db.scalars(select(Role).where(given, Role.state == "ACTIVE")))
    codes = {role.code for role in roles}
    for role in roles:
        for other in sorted(codes & set(role.conflicts_with) - {role.code}):
            raise FailedPrecondition("DUTY_CONFLICT", role=role.code, other=other)


async def holders(role: Role, call: Call) -> list[Employee]:
    """Who holds the role now: given for good or for a time, by a group of the identity provider, or by position."""
    given = Employee.roles.contains([role.code]) | Employee.identity_roles.contains([role.code])
    given |= Employee.position.in_(role.positions)
    given |= cast(Employee.temporary_roles, JSONB).contains([{"role": role.code}])
    found = select(Employee).where(given, Employee.state != "OFFBOARDED").order_by(Employee.display_name)
    return [person for person in await call.db.scalars(found) if person.holds(role, call.now)]


def _covers(given: Any, at: datetime) -> bool:
    starts = given.from_time.ToDatetime(UTC)
    return starts <= at and (not given.HasField("until_time") or at < given.until_time.ToDatetime(UTC))


async def check_administrator_left(call: Call, without: Employee | None = None) -> None:
    """Refuses the change, or the going of somebody, after which nobody could undo it."""
    # Two administrators who freeze each other at the same moment: the second one waits here.
    await call.one_at_a_time(["employees.administrators"])
    await call.flush()
    # What counts in some networks alone, or only while a certificate does, is nothing to rely on.
    always = select(Role).where(
        Role.state == "ACTIVE", Role.requires_certificate == "", func.cardinality(Role.ip_ranges) == 0
    )
    roles = await call.db.scalars(always)
    codes = [role.code for role in roles if expand(role.permissions) >= ADMINISTRATION]
    stays = Employee.id != without.id if without is not None else true()
    # A machine has keys, and no more in them than somebody gives it.
    person = (Employee.state == "ACTIVE", Employee.kind != "SERVICE", Employee.roles.overlap(codes))
    left = select(exists().where(*person, stays))
    if not await call.db.scalar(left):
        raise FailedPrecondition("LAST_ADMINISTRATOR")


async def simulate(role: Role, patterns: list[str], call: Call) -> pb.SimulateRoleResponse:
    """Who would gain and lose what if the role had these permissions."""
    check_known(patterns)
    answer = pb.SimulateRoleResponse()
    roles = {one.code: one for one in await call.db.scalars(select(Role).where(Role.state == "ACTIVE"))}
    before, after = expand(role.permissions), expand(patterns)
    for person in await holders(role, call):
        others = [roles[code] for code in person.held(call.now) if code != role.code and code in roles]
        kept = frozenset[str]().union(*(expand(one.permissions) for one in others))
        gained, lost = sorted(after - before - kept), sorted(before - after - kept)
        if gained or lost:
            answer.changes.add(
                employee=person.name, display_name=person.display_name, gained=gained, lost=lost
            )
    return answer
