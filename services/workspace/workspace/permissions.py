"""The fixed list of permissions, and what patterns of them mean."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

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
