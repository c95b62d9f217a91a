"""The data scope in SQL: the predicate (first wall) and the row-level security policy (second wall).

`crmkit.auth.visible` is the same rule over a JSON-shaped record; a differential test holds them together.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, false, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from crmkit.auth import Caller, Scope
from crmkit.resource import Resource
from crmkit.tables import Collaborator

BRANCHES = 50


def predicate(model: type[Resource], caller: Caller) -> ColumnElement[bool]:
    """True for the rows that the caller may see."""
    branches = branch_predicates(model, caller)
    return true() if branches is None else or_(false(), *branches)


def branch_predicates(model: type[Resource], caller: Caller) -> list[ColumnElement[bool]] | None:
    """The rows that the caller may see, as a union of branches that one index each serves; None means all."""
    further = model.readable(caller)
    branches = _branches(model, caller)
    if further is None:
        return branches
    return [further] if branches is None else [and_(branch, further) for branch in branches]


def _branches(model: type[Resource], caller: Caller) -> list[ColumnElement[bool]] | None:
    if model.described.scope == "PRIVATE":
        return None if caller.is_system else _own_branches(model, caller)
    if caller.account:
        return _account_branches(model, caller)
    if model.described.scope == "SHARED" or caller.scope is Scope.ALL:
        return None
    branches = _own_branches(model, caller)
    row: Any = model
    if len(caller.departments) <= BRANCHES:
        branches.extend(row.department == department for department in caller.departments)
    else:
        branches.append(row.department.in_(caller.departments))
    return branches


def _own_branches(model: type[Resource], caller: Caller) -> list[ColumnElement[bool]]:
    """The rows that the caller owns or collaborates on."""
    if not caller.employee:
        return []
    row: Any = model
    shared = select(Collaborator.id).where(
        Collaborator.employee == caller.employee,
        Collaborator.collection == model.described.collection,
        Collaborator.id == row.id,
    )
    return [row.owner == caller.employee, exists(shared)]


def _account_branches(model: type[Resource], caller: Caller) -> list[ColumnElement[bool]] | None:
    """Portal customers and partners see shared records and those of their own account."""
    described = model.described
    row: Any = model
    if described.scope == "SHARED":
        return None
    if described.collection == "accounts":
        return [row.id == caller.account.rpartition("/")[2]]
    if described.rule.account_field:
        return [getattr(row, described.rule.account_field) == caller.account]
    return []


def settings(caller: Caller) -> tuple[str, str, str, str]:
    """What the policies read: scope, employee, departments, account. Only a service itself is `SYSTEM`."""
    departments = "{" + ",".join(f'"{name}"' for name in caller.departments) + "}"
    scope = "SYSTEM" if caller.is_system else "ACCOUNT" if caller.account else caller.scope.value
    return scope, caller.employee, departments, caller.account


async def enter(session: AsyncSession, caller: Caller, read_only: bool = False) -> Any:
    """Tells the database who asks, for this transaction only; returns the database's time."""
    connection = await session.connection()
    found = await connection.exec_driver_sql(_ENTER_READ_ONLY if read_only else _ENTER, settings(caller))
    return found.one()[0]


_ENTER = (
    "SELECT now(), set_config('crm.scope', $1, true), set_config('crm.employee', $2, true), "
    "set_config('crm.departments', $3, true), set_config('crm.account', $4, true)"
)
_ENTER_READ_ONLY = _ENTER + ", set_config('transaction_read_only', 'on', true)"


def policy_statements(model: type[Resource]) -> list[str]:
    """DDL that forces row-level security on the model's table. Unset settings see nothing."""
    table, described = model.__table__.name, model.described  # type: ignore[attr-defined]
    scope = "(SELECT current_setting('crm.scope', true))"
    if described.scope == "SHARED":
        using = f"{scope} IS NOT NULL AND {scope} <> ''"
    elif described.scope == "PRIVATE":
        employee = "(SELECT nullif(current_setting('crm.employee', true), ''))"
        using = f"{scope} = 'SYSTEM' OR owner = {employee} OR collaborators @> ARRAY[{employee}]"
    else:
        account = "id::text" if described.collection == "accounts" else described.rule.account_field
        prefix = "'accounts/' || " if described.collection == "accounts" else ""
        own = (
            f"({scope} = 'ACCOUNT' AND {prefix}{_quoted(account)} = (SELECT current_setting('crm.account', true)))"
            if account
            else "false"
        )
        using = (
            f"{scope} IN ('ALL', 'SYSTEM') OR {own} OR ({scope} IN ('OWN', 'DEPARTMENT', 'BELOW') AND ("
            "owner = (SELECT nullif(current_setting('crm.employee', true), '')) "
            "OR department = ANY ((SELECT current_setting('crm.departments', true)::text[])::text[]) "
            "OR collaborators @> ARRAY[(SELECT nullif(current_setting('crm.employee', true), ''))]))"
        )
    return [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        f"DROP POLICY IF EXISTS data_scope ON {table}",
        # Writes are checked by the first wall on old and new values: handing a record over leaves one's scope.
        f"CREATE POLICY data_scope ON {table} USING ({using}) WITH CHECK (true)",
    ]


def _quoted(column: str) -> str:
    return column if "::" in column else f'"{column}"'
