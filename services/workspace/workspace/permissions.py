"""The fixed list of permissions, and what patterns of them mean."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from crmkit.call import Call
from crmkit.catalog import permissions
from crmkit.errors import FailedPrecondition, PermissionDenied

# Nobody grants what he lacks, so only who holds everything can give everything to somebody.
ADMINISTRATION = frozenset(["*"])


def expand(patterns: Iterable[str]) -> frozenset[str]:
    """Every permission that a pattern matches; "*" stands for all that there will ever be, and is kept."""
    patterns = list(patterns)
    found = {known for known in permissions() if any(fnmatchcase(known, pattern) for pattern in patterns)}
    return frozenset(found | ({"*"} if "*" in patterns else set()))


@cache
def shipped() -> dict[str, Any]:
    """The roles that every installation starts with, by their code."""
    return yaml.safe_load((Path(__file__).parent / "roles.yaml").read_text())


@cache
def _of_portals() -> frozenset[str]:
    """The most that partners and customers may do: what their shipped roles may."""
    return expand(
        pattern for role in shipped().values() if role.get("portal") for pattern in role["permissions"]
    )


def check_portal(patterns: Iterable[str]) -> None:
    """Refuses in a role of partners and customers what is for staff."""
    for permission in sorted(expand(patterns) - _of_portals()):
        raise FailedPrecondition("PERMISSION_NOT_FOR_PORTAL", permission=permission)


def check_known(patterns: Iterable[str]) -> None:
    """Refuses a pattern that matches no permission."""
    for pattern in patterns:
        if not expand([pattern]):
            raise FailedPrecondition("PERMISSION_UNKNOWN", permission=pattern)


def check_grant(patterns: Iterable[str], call: Call) -> None:
    """Nobody grants what he does not have."""
    if not call.caller.is_system:
        for permission in sorted(expand(patterns)):
            if not call.caller.may(permission):
                raise PermissionDenied("GRANT_EXCEEDS_GRANTER", permission=permission)
