"""Nine kinds of callers, where a record may lie, and by a model of few lines who of them sees it there.

    head ─┬─ east (segment) ── sales ── team
          └─ west (segment) ── shop

Seven work in `sales`, but for the one who sees everything, who is of the head office; a partner's key and a customer
see what is their account's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from uuid import UUID, uuid5

from crmkit.access import Access, Organisation, People, Role, Scope
from crmkit.auth import Caller

_SPACE = UUID("0d6f2f4e-6b07-4c26-9a86-7a0f6d3a9f10")


def _named(kind: str, what: str) -> str:
    return f"{kind}/{uuid5(_SPACE, what)}"


HEAD, EAST, SALES, TEAM, WEST, SHOP = (
    _named("departments", one) for one in ("head", "east", "sales", "team", "west", "shop")
)
PARENTS = {HEAD: "", EAST: HEAD, SALES: EAST, TEAM: SALES, WEST: HEAD, SHOP: WEST}
ME, REPORT, HELPER, OTHER = (_named("employees", one) for one in ("me", "report", "helper", "other"))
STRANGE_ACCOUNT = _named("accounts", "strange")
LEVELS = {
    "own": Scope.OWN,
    "reports": Scope.REPORTS,
    "department": Scope.DEPARTMENT,
    "below": Scope.BELOW,
    "segment": Scope.SEGMENT,
    "all": Scope.ALL,
}


@dataclass(frozen=True)
class Place:
    """Where a record lies."""

    owner: str
    department: str
    collaborators: tuple[str, ...] = ()


PLACES = (
    Place(ME, SALES),
    Place(ME, SHOP),
    Place(REPORT, EAST),
    Place(OTHER, SALES),
    Place(OTHER, TEAM),
    Place(OTHER, EAST, (HELPER,)),
    Place(OTHER, SHOP),
    Place(OTHER, SHOP, (HELPER,)),
)


def personas(account: str) -> Iterator[tuple[str, Caller]]:
    """Every kind of caller; the last two are of the account, or of a strange one where there is none."""
    for who, level in LEVELS.items():
        yield who, _staff(ME, HEAD if who == "all" else SALES, level)
    yield "collaborator", _staff(HELPER, SALES, Scope.OWN)
    for who, actor in (("partner key", "apiKeys/x"), ("customer", "contacts/x")):
        yield (
            who,
            Caller(
                actor,
                permissions=frozenset("*"),
                account=account or STRANGE_ACCOUNT,
                access=_access("", (), Scope.OWN),
            ),
        )


def sees(who: str, place: Place, own_account: bool) -> bool:
    """The brute force: what the product page says."""
    if who in ("partner key", "customer"):
        return own_account
    if who == "all":
        return True
    if place.department in (WEST, SHOP):
        return False
    me = HELPER if who == "collaborator" else ME
    if me == place.owner or me in place.collaborators:
        return True
    covered = {
        "reports": place.owner == REPORT,
        "department": place.department == SALES,
        "below": place.department in (SALES, TEAM),
        "segment": True,
    }
    return covered.get(who, False)


def _staff(employee: str, post: str, level: Scope) -> Caller:
    access = _access(employee, (post,), level)
    return Caller(
        employee, employee, permissions=frozenset("*"), scope=level, department=post,
        departments=access.departments, access=access,
    )  # fmt: skip


@cache
def organisation() -> Organisation:
    kinds = {EAST: "SEGMENT", WEST: "SEGMENT"}
    departments = {
        name.partition("/")[2]: {"parent": parent or None, "kind": kinds.get(name, "DEPARTMENT")}
        for name, parent in PARENTS.items()
    }
    return Organisation(departments, People({REPORT.partition("/")[2]: {"superior": ME}}))


def _access(employee: str, posts: tuple[str, ...], level: Scope) -> Access:
    return Access(employee, posts, [Role("persona", frozenset("*"), level)], organisation(), {})
