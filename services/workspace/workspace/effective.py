"""What roles amount to: two of them beside each other, and what a person may do by all that count."""

from collections.abc import Iterable, Sequence

from crm.workspace.v1 import pb
from crmkit import access
from crmkit.access import action_of
from crmkit.call import Call
from crmkit.catalog import permissions, resources
from crmkit.company import today
from sqlalchemy import select

from workspace.model.employee import Employee
from workspace.model.role import Role, level
from workspace.permissions import expand


def compare(first: Role, second: Role) -> pb.CompareRolesResponse:
    """What both give, what one gives alone, and where they reach differently with what both give."""
    one, other = _counted(first), _counted(second)
    common = one.permissions & other.permissions
    answer = pb.CompareRolesResponse(
        both=sorted(common),
        only_first=sorted(one.permissions - common),
        only_second=sorted(other.permissions - common),
    )
    for area, collection in _scoped():
        verbs = [name.rpartition(".")[2] for name in common if name.startswith(f"{area}.{collection}.")]
        for action in sorted({action_of(verb) for verb in verbs}):
            reaches = [_words(role.levels(area, collection, action)) for role in (one, other)]
            if reaches[0] != reaches[1]:
                answer.reaches.add(
                    collection=f"{area}.{collection}",
                    action=pb.Role.Action.Value(action),
                    first=reaches[0],
                    second=reaches[1],
                )
    return answer


async def effective(person: Employee, call: Call) -> pb.ListEmployeePermissionsResponse:
    """What the person may do now, from the tables: the services follow within seconds."""
    answer = pb.ListEmployeePermissionsResponse(active=person.state == "ACTIVE")
    if not answer.active:
        return answer
    brought = Role.positions.contains([person.position]) if person.position else Role.code == ""
    counting = Role.code.in_(person.held(call.now)) | brought
    found = await call.db.scalars(select(Role).where(Role.state == "ACTIVE", counting).order_by(Role.code))
    roles = {role.code: role for role in found if person.certified(role.requires_certificate, today(call))}
    timed = {one.role: one for one in person.temporary_roles}
    for code in roles:
        held = answer.roles.add(role=code, source="GIVEN" if code in person.roles else "POSITION")
        if code not in person.roles and code in person.held(call.now):
            held.source = "TEMPORARY" if code in timed else "IDENTITY"
            if code in timed and timed[code].HasField("until_time"):
                held.until_time.CopyFrom(timed[code].until_time)
    counted = [_counted(role) for role in roles.values()]
    scoped = set(_scoped())
    for permission in permissions():
        giving = [role for role in counted if role.may(permission)]
        if not giving:
            continue
        area, collection, verb = (*permission.split(".", 2), "", "")[:3]
        levels = (
            {word for role in giving for word in _words(role.levels(area, collection, action_of(verb)))}
            if (area, collection) in scoped
            else set[str]()
        )
        answer.permissions.add(
            permission=permission, roles=[role.code for role in giving], levels=sorted(levels)
        )
    return answer


def _counted(role: Role) -> access.Role:
    """The role as the services count it, with every permission by name."""
    grants = tuple(
        access.Grant(
            access.Scope(level(grant)),
            grant.collection or "*",
            pb.Role.Action.Name(grant.action) if grant.action else "",
            tuple(grant.departments),
            grant.rule,
        )
        for grant in role.grants
    )
    known = expand(role.permissions) - {"*"}
    return access.Role(role.code, frozenset(known), access.Scope(role.scope), grants)


def _scoped() -> Sequence[tuple[str, str]]:
    """Area and collection of everything that belongs to somebody."""
    return sorted((one.area, one.collection) for one in resources().values() if one.scope == "OWNED")


def _words(grants: Iterable[access.Grant]) -> list[str]:
    """Levels as text: `DEPARTMENTS departments/… WHERE level = "A"`."""
    return sorted(
        " ".join([grant.level.value, *grant.departments, *([f"WHERE {grant.rule}"] if grant.rule else [])])
        for grant in grants
    )
