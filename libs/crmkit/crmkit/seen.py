"""Rows that speak of a record elsewhere are seen by those who may open that record."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, true

from crmkit.access import Reach
from crmkit.auth import Caller
from crmkit.catalog import resources
from crmkit.resource import Resource
from crmkit.scope import KNOWN


@cache
def readings() -> Mapping[str, str]:
    """The permission to read, by collection."""
    return {described.collection: described.permission("read") for described in resources().values()}


@cache
def narrowed() -> tuple[str, ...]:
    """The permissions to read what a service shows to some portal callers only, which these rows cannot tell."""
    return tuple(sorted(one.permission("read") for one in resources().values() if one.rule.narrowed))


class SeenAsSource(Resource):
    """A row with the scope, owner, department, collaborators and account of the record that it speaks of.

    The predicate is the kit's, with scope and collection taken from the row. The policy `source_scope` says the same
    to the database. Where row rules narrow a collection for the caller nothing of it is shown here: the rules speak
    of fields that these rows do not have.
    """

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """The permission to read the record's collection, and the record within the caller's scope."""
        return and_(_permitted(cls, caller), _in_scope(cls, caller))

    @classmethod
    def scoped_as(cls) -> Collection[str]:
        """Every collection; the empty one stands for rows of none."""
        return ("", *readings())

    @classmethod
    def further_policies(cls) -> list[str]:
        """The second wall, by the collection that each row names."""
        table = cls.__table__.name  # type: ignore[attr-defined]
        shown = wall(accounts=cls.described.account_fields)
        return [
            f"DROP POLICY IF EXISTS source_scope ON {table}",
            f"CREATE POLICY source_scope ON {table} AS RESTRICTIVE FOR SELECT USING ({shown})",
        ]


def _permitted(model: type[Any], caller: Caller) -> ColumnElement[bool]:
    if "*" in caller.permissions:
        return true()
    hidden = narrowed() if caller.account else ()
    return model.requires.in_(
        [one for one in caller.permissions if one.endswith(".read") and one not in hidden]
    )


def _in_scope(model: type[Any], caller: Caller) -> ColumnElement[bool]:
    if caller.is_system:
        return true()
    owned, shared = model.source_scope == "OWNED", model.source_scope == "SHARED"
    if caller.account:
        own = [getattr(model, name) == caller.account for name in model.described.account_fields]
        return or_(shared, and_(owned, or_(false(), *own)))
    private = and_(model.source_scope == "PRIVATE", _own(model, caller))
    return or_(shared, private, and_(owned, _reached(model, caller)))


def _own(model: type[Any], caller: Caller) -> ColumnElement[bool]:
    if not caller.employee:
        return false()
    return or_(model.owner == caller.employee, model.collaborators.contains([caller.employee]))


def _reached(model: type[Any], caller: Caller) -> ColumnElement[bool]:
    """The collections together that are reached alike: those of a person are few different ones."""
    alike: dict[Reach, list[str]] = {}
    if "*" in caller.permissions:
        alike[caller.reach("")] = [""]
    for collection, permission in readings().items():
        if caller.may(permission):
            alike.setdefault(caller.reach(collection), []).append(permission)
    parts = [
        within(model, reach, caller)
        if len(alike) == 1
        else and_(model.requires.in_(permissions), within(model, reach, caller))
        for reach, permissions in alike.items()
        if not reach.rules
    ]
    return or_(false(), *parts)


def within(model: type[Any], reach: Reach, caller: Caller) -> ColumnElement[bool]:
    """True for rows whose owner, department and collaborators the reach takes in; its rules are left out."""
    if reach.everything:
        return true()
    mine = or_(_own(model, caller), model.owner.in_(reach.owners))
    if reach.wall is not None:
        mine = and_(mine, model.department.in_(reach.wall))
    return or_(mine, model.department.in_(reach.departments))


_KNOWN = f"(SELECT {KNOWN})"
_EMPLOYEE = "(SELECT nullif(current_setting('crm.employee', true), ''))"


def wall(prefix: str = "", ruled: bool = False, accounts: Sequence[str] = ("account",)) -> str:
    """SQL of the second wall over columns called as those of `SeenAsSource`, behind a prefix.

    Portal callers reach what one of the columns `accounts` ties to the account in their token.

    Rows of collections that row rules narrow are not shown, unless the first wall alone asks these rules (`ruled`).
    """
    of = f"split_part({prefix}requires, '.', 2)"
    staff_only = ", ".join(f"'{one}'" for one in narrowed())
    reach = f"({_KNOWN}->'reaches'->(coalesce({_KNOWN}->'of'->>{of}, {_KNOWN}->'of'->>'*')::int))"
    return f"""
    {prefix}source_scope = 'SHARED' AND (
        (SELECT current_setting('crm.scope', true)) <> 'ACCOUNT' OR {prefix}requires <> ALL (ARRAY[{staff_only}]::text[])
    )
    OR (SELECT current_setting('crm.scope', true)) = 'SYSTEM'
    OR (SELECT current_setting('crm.scope', true)) = 'ACCOUNT' AND {prefix}source_scope = 'OWNED'
        AND (SELECT current_setting('crm.account', true)) IN ({", ".join(f"{prefix}{one}" for one in accounts)})
    OR {prefix}source_scope = 'PRIVATE' AND ({prefix}owner = {_EMPLOYEE} OR {prefix}collaborators @> ARRAY[{_EMPLOYEE}])
    OR {prefix}source_scope = 'OWNED' AND (
        {f"coalesce({reach}->>'all', {reach}->>'every')" if ruled else f"({reach}->>'all')"}::boolean
        OR jsonb_exists({reach}->'departments', {prefix}department)
        OR (
            {prefix}owner = {reach}->>'me' OR {prefix}collaborators @> ARRAY[{reach}->>'me']
            OR jsonb_exists({reach}->'owners', {prefix}owner)
        ) AND ({reach}->'wall' IS NULL OR jsonb_exists({reach}->'wall', {prefix}department))
    ) AND {"true" if ruled else f"{reach}->'rule' IS NULL"}
"""
