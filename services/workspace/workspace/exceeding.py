"""Nobody gives more than he has: permissions, how far they reach, and the fields that are not taken.

What a role would give is compared with what whoever gives it reaches. Levels are compared as such: who reaches his
own department may give that to others, who then reach theirs; departments by name must be within his own reach.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from crmkit.access import Access, Grant, Role, Scope, action_of
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.errors import PermissionDenied
from crmkit.fieldlevels import NONE, FieldLevel, Levels
from crmkit.fieldlevels import ORDER as STRENGTH

from workspace.permissions import expand

# How far levels reach that name no departments, the least first.
RANK = [Scope.OWN, Scope.REPORTS, Scope.DEPARTMENT, Scope.BELOW, Scope.SEGMENT, Scope.ALL]


@dataclass(frozen=True)
class Excess:
    """Something of a role that its giver does not have: the permission or field, and how much of it."""

    what: str
    how: str = ""


def check_given(role: Role, call: Call, before: Role | None = None) -> None:
    """GRANT_EXCEEDS_GRANTER where the role has something that the caller lacks and the role had not before."""
    if call.caller.is_system or _has_everything(call.caller):
        return
    old = excess(before, call.caller) if before is not None else frozenset[Excess]()
    new = sorted((one.what, one.how) for one in excess(role, call.caller) - old)
    if new:
        what, how = new[0]
        raise PermissionDenied("GRANT_EXCEEDS_GRANTER", permission=f"{what} {how}".strip())


def check_key(key: Role, owner: Caller | None, call: Call) -> None:
    """SCOPE_EXCEEDS_OWNER where the key would reach rows or show fields that its maker does not.

    Row rules and field levels of its owner bind it at every call; another owner must be bound as much as the maker.
    """
    if call.caller.is_system or _has_everything(call.caller):
        return
    if owner is not None and owner.employee == call.caller.employee:
        beyond = any(_reaches(key, call.caller, ruled=False))
    else:
        beyond = any(_beyond(key, owner, call.caller))
    if beyond:
        raise PermissionDenied("SCOPE_EXCEEDS_OWNER")


def _beyond(key: Role, owner: Caller | None, maker: Caller) -> Iterable[Excess]:
    """What a key made for another one would have beyond its maker, where that one works and is shown what he is."""
    yield from _reaches(key, maker)
    if owner is not None and key.scope is not Scope.OWN:
        there = Grant(Scope.DEPARTMENTS, departments=(owner.department,))
        yield from _reaches(replace(key, grants=(there,)), maker)
    taken = {one.collection: owner.fields(one.collection) if owner else NONE for one in resources().values()}
    yield from _fields(replace(key, fields=taken), maker)


def excess(role: Role, caller: Caller) -> frozenset[Excess]:
    """What the role gives beyond what the caller has."""
    return frozenset([*_permissions(role, caller), *_reaches(role, caller), *_fields(role, caller)])


def _has_everything(caller: Caller) -> bool:
    """True for who reads and does everything everywhere, by a role that nothing is taken from."""
    access = caller.access
    return isinstance(access, Access) and (
        not any(role.fields for role in access.roles)
        and not any(role.grants for role in access.roles)
        and any("*" in role.permissions and role.scope is Scope.ALL for role in access.roles)
    )


def _permissions(role: Role, caller: Caller) -> Iterable[Excess]:
    return (Excess(one) for one in expand(role.permissions) if not caller.may(one))


def _reaches(role: Role, caller: Caller, *, ruled: bool = True) -> Iterable[Excess]:
    """Levels, departments and row rules: for each permission on a collection that lies in somebody's scope."""
    owned = {(one.area, one.collection) for one in resources().values() if one.scope == "OWNED"}
    for permission in expand(role.permissions):
        area, _, rest = permission.partition(".")
        collection, _, verb = rest.partition(".")
        if (area, collection) not in owned or not verb or not caller.may(permission):
            continue
        for grant in role.levels(area, collection, action_of(verb)):
            if not _covers(caller, grant, collection, verb, ruled=ruled):
                yield Excess(permission, grant.level.value)


def _covers(caller: Caller, grant: Grant, collection: str, verb: str, *, ruled: bool) -> bool:
    reach = caller.reach(collection, verb)
    if ruled and not {*reach.rules} <= {grant.rule}:
        return False
    held = _highest(caller, collection, verb)
    if held is Scope.ALL:
        return True
    if grant.level is Scope.DEPARTMENTS:
        access = caller.access
        named = access.organisation.below(grant.departments) if isinstance(access, Access) else ()
        return bool(named) and {*named} <= {*reach.departments}
    return RANK.index(grant.level) <= RANK.index(held)


def _highest(caller: Caller, collection: str, verb: str) -> Scope:
    access = caller.access
    levels = (
        [ground.level for ground in access.grounds(collection, verb)]
        if isinstance(access, Access)
        else [caller.scope]
    )
    return max((one for one in levels if one in RANK), key=RANK.index, default=Scope.OWN)


def _fields(role: Role, caller: Caller) -> Iterable[Excess]:
    """Fields of collections that the role has to do with, which are taken from the caller and less so by the role."""
    for described in resources().values():
        held: Levels = caller.fields(described.collection)
        if held and role.touches(described.area, described.collection):
            leaves = role.fields.get(described.collection, NONE)
            for name, level in held.items():
                if _weaker(leaves.get(name), level):
                    yield Excess(f"{described.area}.{described.collection}.{name}", f"not {level.value}")


def _weaker(given: FieldLevel | None, level: FieldLevel) -> bool:
    return given is None or STRENGTH.index(given) < STRENGTH.index(level)
