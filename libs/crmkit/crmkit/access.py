"""How far somebody reaches: for each collection and action, which rows beyond the own and the shared ones.

A role has a level for everything that it permits, and grants that say otherwise for a collection, an area or an action.
Only roles that give the permission itself count, so that one may see all tickets and still only the own customers:

    levels of all these roles together (union), then the wall between segments, then the row rules of the grants

The one answer, a `Reach`, is rendered three times: `crmkit.scope` (SQL), `crmkit.auth.visible` (a record in memory)
and `Access.grounds` (words).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from crmkit.fieldlevels import NONE, FieldLevel, Levels, together


class Scope(StrEnum):
    """How far a grant reaches beyond what one owns and collaborates on, the least first."""

    OWN = "OWN"
    REPORTS = "REPORTS"
    DEPARTMENT = "DEPARTMENT"
    DEPARTMENTS = "DEPARTMENTS"
    BELOW = "BELOW"
    SEGMENT = "SEGMENT"
    ALL = "ALL"


ORDER = list(Scope)
# What the last part of a permission does to a row; every other verb writes.
ACTIONS = {
    "read": "READ",
    "delete": "DELETE",
    "export": "EXPORT",
    "assign": "ASSIGN",
    "transfer": "ASSIGN",
}


def action_of(verb: str) -> str:
    """READ, WRITE, DELETE, EXPORT or ASSIGN."""
    return ACTIONS.get(verb, "WRITE")


@dataclass(frozen=True)
class Reach:
    """Which rows of one collection are reached beside the own ones. `wall`: the departments beyond which nothing is,
    the own rows included; None where there is no wall. `rules`: filters that every row must pass."""

    everything: bool = False
    departments: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    wall: tuple[str, ...] | None = None
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grant:
    """A level that a role gives: for a collection (`accounts`), an area (`customer.*`) or all, and one action or all."""

    level: Scope
    collection: str = "*"
    action: str = ""
    departments: tuple[str, ...] = ()
    rule: str = ""

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> "Grant":
        """A grant as the configuration bucket has it."""
        return cls(
            Scope(entry.get("level") or "OWN"),
            str(entry.get("collection") or "*"),
            str(entry.get("action") or ""),
            tuple(entry.get("departments", ())),
            str(entry.get("rule") or ""),
        )

    def weight(self, area: str, collection: str, action: str) -> int:
        """How exactly it speaks of the action on the collection; -1 where it does not."""
        if self.action not in ("", action):
            return -1
        exact = self.collection in (collection, f"{area}.{collection}")
        if not exact and not fnmatchcase(f"{area}.{collection}", self.collection):
            return -1
        return 4 * exact + 2 * (self.collection != "*") + bool(self.action)


@dataclass(frozen=True)
class Role:
    """What of a role counts here."""

    code: str
    permissions: frozenset[str]
    scope: Scope = Scope.OWN
    grants: tuple[Grant, ...] = ()
    # What it takes from single fields, by collection.
    fields: Mapping[str, Levels] = field(default_factory=dict[str, Levels])
    # The networks from which alone it is used; none: from everywhere.
    networks: tuple[str, ...] = ()
    # Whether who signed in without a second factor may not use it.
    second_factor: bool = False

    def may(self, permission: str) -> bool:
        """True where the role gives the permission."""
        return permission in self.permissions or "*" in self.permissions

    def touches(self, area: str, collection: str) -> bool:
        """True where the role gives any permission on the collection."""
        prefix = f"{area}.{collection}."
        return "*" in self.permissions or any(one.startswith(prefix) for one in self.permissions)

    def levels(self, area: str, collection: str, action: str) -> list[Grant]:
        """The grants that speak of the action most exactly; the role's own level where none does."""
        weights = [(grant.weight(area, collection, action), grant) for grant in self.grants]
        best = max((weight for weight, _ in weights), default=-1)
        return [grant for weight, grant in weights if weight == best >= 0] or [Grant(self.scope)]


class Organisation:
    """The tree of departments and the lines of superiors, as the bucket tells them."""

    def __init__(self, departments: Mapping[str, Mapping[str, Any]], people: "People") -> None:
        self._people = people
        self.parents: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        for key, entry in departments.items():
            name = f"departments/{key.removeprefix('department.')}"
            self.parents[name] = entry.get("parent") or ""
            self._kinds[name] = entry.get("kind") or ""
        self._children: dict[str, list[str]] = {}
        for name, parent in self.parents.items():
            self._children.setdefault(parent, []).append(name)

    def below(self, tops: Iterable[str]) -> tuple[str, ...]:
        """These departments and all beneath."""
        seen, waiting = set(tops), list(tops)
        while waiting:
            for child in self._children.get(waiting.pop(), ()):
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)
        return tuple(sorted(seen))

    def segment(self, department: str) -> str:
        """The nearest segment that the department is or lies in; empty outside of any."""
        seen: set[str] = set()
        while department and department not in seen:
            if self._kinds.get(department) == "SEGMENT":
                return department
            seen.add(department)
            department = self.parents.get(department, "")
        return ""

    @cached_property
    def _segments(self) -> Mapping[str, str]:
        return {name: self.segment(name) for name in self.parents}

    def within(self, segments: Iterable[str]) -> tuple[str, ...]:
        """Every department of these segments."""
        wanted = set(segments)
        return tuple(sorted(name for name, segment in self._segments.items() if segment in wanted))

    def reports(self, employee: str) -> tuple[str, ...]:
        """Everybody who reports to the employee, directly or not."""
        return self._people.beneath(employee)


class People:
    """Who reports to whom; read only where somebody's level asks for it."""

    def __init__(self, employees: Mapping[str, Mapping[str, Any]]) -> None:
        self._employees = employees

    @cached_property
    def _reports(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key, entry in self._employees.items():
            if superior := entry.get("superior"):
                found.setdefault(superior, []).append(f"employees/{key.removeprefix('employee.')}")
        return found

    def beneath(self, employee: str) -> tuple[str, ...]:
        """Everybody beneath the employee."""
        seen, waiting = {employee}, [employee]
        while waiting:
            for one in self._reports.get(waiting.pop(), ()):
                if one not in seen:
                    seen.add(one)
                    waiting.append(one)
        return tuple(sorted(seen - {employee}))


@dataclass(frozen=True)
class Ground:
    """Why rows are reached: the role, its level, and the rule that narrows it."""

    role: str
    level: Scope
    departments: tuple[str, ...] = ()
    rule: str = ""


@dataclass(frozen=True)
class Given:
    """One reach for everything: a caller whose reach is already known."""

    known: Reach

    def reach(self, collection: str, verb: str = "read") -> Reach:
        """The reach."""
        return self.known

    def grounds(self, collection: str, verb: str = "read") -> list[Ground]:
        """None that has a name."""
        return []

    def fields(self, collection: str) -> Levels:
        """Nothing is taken from any field."""
        return NONE


@dataclass(eq=False)
class Access:
    """What the roles of one person, at the person's posts, reach. It is valid until the configuration changes."""

    employee: str
    posts: tuple[str, ...]
    roles: Sequence[Role]
    organisation: Organisation
    areas: Mapping[str, str]
    # What the roles hold beside the permissions that the protos declare: of custom fields.
    further: frozenset[str] = frozenset()
    # What this access acts for: an API key's owner, whose row rules and field levels bind the key.
    behind: "Access | None" = None
    _known: dict[tuple[str, str], Reach] = field(default_factory=dict[tuple[str, str], Reach])
    _fields: dict[str, Levels] = field(default_factory=dict[str, Levels])
    # What the database is told of the reaches, by who asks and for which collections.
    told: dict[tuple[str, str, tuple[str, ...]], str] = field(
        default_factory=dict[tuple[str, str, tuple[str, ...]], str]
    )

    def reach(self, collection: str, verb: str = "read") -> Reach:
        """How far the permission `<area>.<collection>.<verb>` reaches."""
        key = (collection, verb)
        if key not in self._known:
            self._known[key] = self._reach(collection, verb)
        return self._known[key]

    def fields(self, collection: str) -> Levels:
        """What the roles take from single fields of the collection."""
        found = self._fields.get(collection)
        if found is None:
            own = [role.fields[collection] for role in self.roles if collection in role.fields]
            found = together([*own, self.behind.fields(collection)] if self.behind else own)
            self._fields[collection] = found
        return found

    def hiding(self, collection: str, name: str) -> str:
        """The code of a role that takes the most from the field; empty where none takes anything."""
        level = self.fields(collection).get(name)
        if self.behind and level and self.behind.fields(collection).get(name) is level:
            return self.behind.hiding(collection, name)
        return next(
            (one.code for one in self.roles if level and one.fields.get(collection, NONE).get(name) is level),
            "",
        )

    @cached_property
    def takes_fields(self) -> bool:
        """True where any field of any collection is hidden or masked."""
        return (self.behind is not None and self.behind.takes_fields) or any(
            level is not FieldLevel.READ_ONLY
            for role in self.roles
            for levels in role.fields.values()
            for level in levels.values()
        )

    def grounds(self, collection: str, verb: str = "read") -> list[Ground]:
        """Every level of every role that gives the permission."""
        return [
            Ground(role.code, grant.level, self._departments(grant), grant.rule)
            for role, grant in self._grants(collection, verb)
        ]

    @cached_property
    def permissions(self) -> frozenset[str]:
        """What any of the roles permits."""
        return self.further.union(*(role.permissions for role in self.roles))

    @property
    def scope(self) -> Scope:
        """The widest level of the roles, where no grant says otherwise."""
        return max((role.scope for role in self.roles), key=ORDER.index, default=Scope.OWN)

    @property
    def departments(self) -> tuple[str, ...]:
        """The departments of the widest level."""
        return self._departments(Grant(self.scope))

    def _grants(self, collection: str, verb: str) -> list[tuple[Role, Grant]]:
        area = self.areas.get(collection, "")
        giving = [role for role in self.roles if role.may(f"{area}.{collection}.{verb}")]
        if not giving and verb == "export":
            # Where nothing is said of exports, whoever may read may take out what he reads.
            giving = [role for role in self.roles if role.may(f"{area}.{collection}.read")]
        if not giving and verb == "read":
            # Who may do something to rows that he may not read is shown by it those that the doing reaches.
            giving = [role for role in self.roles if role.touches(area, collection)]
        action = action_of(verb)
        return [(role, grant) for role in giving for grant in role.levels(area, collection, action)]

    def _reach(self, collection: str, verb: str) -> Reach:
        everything, departments, owners, rules = False, set[str](), set[str](), list[str]()
        for _, grant in self._grants(collection, verb):
            everything = everything or grant.level is Scope.ALL
            departments.update(self._departments(grant))
            if grant.level is Scope.REPORTS and self.employee:
                owners.update(self.organisation.reports(self.employee))
            if grant.rule:
                rules.append(grant.rule)
        if self.behind is not None:
            rules += self.behind.reach(collection, verb).rules
        wall = self._wall
        if wall is not None:
            departments = set(wall) if everything else departments & set(wall)
            everything = False
        if everything:
            departments, owners = set[str](), set[str]()
        return Reach(
            everything,
            tuple(sorted(departments)),
            tuple(sorted(owners)),
            wall,
            tuple(dict.fromkeys(rules)),
        )

    @cached_property
    def _segments(self) -> frozenset[str]:
        return frozenset(self.organisation.segment(post) for post in self.posts)

    @cached_property
    def _wall(self) -> tuple[str, ...] | None:
        """Who works in segments alone sees nothing of the other segments; head office has no wall."""
        if not self.posts or "" in self._segments:
            return None
        return tuple(sorted({"", *self.organisation.within({"", *self._segments})}))

    def _departments(self, grant: Grant) -> tuple[str, ...]:
        match grant.level:
            case Scope.DEPARTMENT:
                return self.posts
            case Scope.BELOW:
                return self.organisation.below(self.posts)
            case Scope.DEPARTMENTS:
                return self.organisation.below(grant.departments)
            case Scope.SEGMENT:
                return self.organisation.within(self._segments - {""})
            case _:
                return ()
