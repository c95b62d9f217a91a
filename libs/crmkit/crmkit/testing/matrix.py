"""Figures A-1 and A-6: every operation and guarded field, and what each role may do, from protos and shipped roles.

`python -m crmkit.testing.matrix` writes `docs/access-matrix.csv`, the one reviewed table; a test compares, so that an
operation without a row, or a role that has come to reach further, is seen in a review and not later.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import crmprotos
import yaml
from crm.options.v1 import options_pb2

from crmkit.access import Grant, Role, Scope, action_of
from crmkit.catalog import resources
from crmkit.options import option
from crmkit.testing import ROLES

TABLE = Path(__file__).parents[4] / "docs" / "access-matrix.csv"


def shipped() -> Mapping[str, Any]:
    """The shipped roles by code."""
    return yaml.safe_load(ROLES.read_text())


def operations() -> Iterator[tuple[str, str]]:
    """Every RPC and the permission that it asks for."""
    for file in crmprotos.load().file:
        for service in file.service:
            for method in service.method:
                if permission := option(method, options_pb2.permission):
                    yield f"{file.package}.{service.name}/{method.name}", permission


def fields() -> Iterator[tuple[str, str]]:
    """Every field that not every reader of its record sees (A-6), and the permission that it asks for."""
    for described in resources().values():
        for field in described.fields.values():
            if field.rule.read_permission:
                yield f"{described.message.full_name}.{field.json_name}", field.rule.read_permission


def holds(role: Mapping[str, Any], permission: str) -> bool:
    """True where a pattern of the role matches the permission."""
    return any(fnmatchcase(permission, pattern) for pattern in role["permissions"])


def cell(role: Mapping[str, Any], permission: str) -> str:
    """The levels by which the role has the permission; "-" where it has it not."""
    if permission in ("*", "public"):
        return "yes"
    if not holds(role, permission):
        return "-"
    area, collection, *_, verb = permission.split(".")
    grants = tuple(Grant.read(grant) for grant in role.get("grants", ()))
    known = Role("", frozenset(), Scope(role["scope"]), grants)
    return "+".join(sorted(grant.level.value for grant in known.levels(area, collection, action_of(verb))))


def table() -> str:
    """The matrix as CSV."""
    roles = shipped()
    written = io.StringIO()
    out = csv.writer(written, lineterminator="\n")
    out.writerow(["operation", "permission", "anonymous", "frozen", *roles])
    for name, permission in sorted([*operations(), *fields()]):
        nobody = "yes" if permission == "public" else "401"
        cells = [cell(role, permission) for role in roles.values()]
        out.writerow([name, permission, nobody, "401", *cells])
    return written.getvalue()


if __name__ == "__main__":
    TABLE.write_text(table())
