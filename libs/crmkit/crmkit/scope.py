"""The data scope in SQL: the predicate (first wall) and the row-level security policy (second wall).

`crmkit.auth.visible` is the same rule over a JSON-shaped record; a differential test holds them together. The second
wall is told who somebody is, which departments and owners are reached, and row rules as paths over the row.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, any_, exists, false, literal, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from crmkit import filters
from crmkit.access import Access, Reach
from crmkit.auth import ZONE, Caller
from crmkit.driver import begin as transact
from crmkit.driver import driver
from crmkit.resource import Resource
from crmkit.tables import Collaborator

BRANCHES = 50
Claim = tuple[str, str, str, bytes]
"""A principal, a method, an idempotency key and the digest of the request that came with it."""


def scoped_by(model: type[Resource]) -> str:
    """The collection whose reach decides who sees the model's rows."""
    return model.scoped_by or model.described.collection


def predicate(model: type[Resource], caller: Caller, verb: str = "read") -> ColumnElement[bool]:
    """True for the rows that the caller's verb reaches."""
    branches = branch_predicates(model, caller, verb)
    return true() if branches is None else or_(false(), *branches)


def branch_predicates(
    model: type[Resource], caller: Caller, verb: str = "read"
) -> list[ColumnElement[bool]] | None:
    """The rows that the caller's verb reaches, as a union of branches that one index each serves; None means all."""
    branches, readable = _branches(model, caller, verb), model.readable
    if verb == "read" and model.ways.__func__ is not Resource.ways.__func__:
        branches, readable = model.ways(caller, branches), Resource.readable
    further = [found for found in (readable(caller), _rules(model, caller, verb)) if found is not None]
    if not further:
        return branches
    return [and_(*further)] if branches is None else [and_(branch, *further) for branch in branches]


def _branches(model: type[Resource], caller: Caller, verb: str) -> list[ColumnElement[bool]] | None:
    if model.described.scope == "PRIVATE":
        return None if caller.is_system else _own_branches(model, caller)
    if caller.account:
        return _account_branches(model, caller)
    if model.described.scope == "SHARED":
        return None
    reach = caller.reach(scoped_by(model), verb)
    if reach.everything:
        return None
    row: Any = model
    branches = _own_branches(model, caller)
    if reach.owners:
        branches.append(one_of(row.owner, reach.owners))
    if reach.wall is not None:
        branches = [and_(branch, one_of(row.department, reach.wall)) for branch in branches]
    if len(reach.departments) <= BRANCHES:
        branches.extend(row.department == department for department in reach.departments)
    else:
        branches.append(one_of(row.department, reach.departments))
    return branches


def one_of(column: Any, values: Iterable[str]) -> ColumnElement[bool]:
    """One argument however many values: the text of the statement stays the same, and so short."""
    return column == any_(literal(list(values), ARRAY(Text)))


def _rules(model: type[Resource], caller: Caller, verb: str) -> ColumnElement[bool] | None:
    """The row rules of the caller's grants; one that cannot be read lets nothing through."""
    if caller.account or model.described.scope == "PRIVATE":
        return None
    rules = caller.reach(scoped_by(model), verb).rules
    if not rules:
        return None
    from crmkit.listing import filter_fields  # listing reads by this module

    now = datetime.now(UTC)
    try:
        return and_(
            *(
                filters.condition(
                    filters.parse(rule), filter_fields(model), me=caller.actor, now=now, zone=ZONE
                )
                for rule in rules
            )
        )
    except filters.FilterError:
        return false()


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
    return [getattr(row, field) == caller.account for field in described.account_fields]


def settings(caller: Caller, collections: Iterable[str]) -> tuple[str, str, str, str]:
    """What the policies read: kind of caller, employee, reaches, account."""
    kind = "SYSTEM" if caller.is_system else "ACCOUNT" if caller.account else "STAFF"
    return kind, caller.employee, _told(caller, tuple(collections)), caller.account


def _told(caller: Caller, collections: tuple[str, ...]) -> str:
    """The reaches as text, made once for as long as the roles of the caller reach the same."""
    if caller.account or not isinstance(caller.access, Access):
        return _reaches(caller, collections)
    told, key = caller.access.told, (caller.actor, caller.employee, collections)
    if key not in told:
        told[key] = _reaches(caller, collections)
    return told[key]


def _reaches(caller: Caller, collections: Iterable[str]) -> str:
    """The reach of every collection as JSON: the different ones once, and which of them each collection has."""
    if caller.account:
        return "{}"
    places: dict[tuple[Reach, str], int] = {}
    if caller.is_system or caller.access is None:
        places[caller.reach("*"), ""] = 0
        of = {"*": 0}
    else:
        reaches = {collection: caller.reach(collection) for collection in collections}
        of = {
            # The same rule is another path where the fields are others.
            collection: places.setdefault((reach, collection if reach.rules else ""), len(places))
            for collection, reach in reaches.items()
        }
    return json.dumps(
        {"reaches": [_json(*place, caller) for place in places], "of": of}, separators=(",", ":")
    )


def _json(reach: Reach, ruled: str, caller: Caller) -> dict[str, Any]:
    found: dict[str, Any] = {"me": caller.employee or None}
    if reach.rules:
        found["rule"] = _path(reach.rules, ruled, caller)
    if reach.everything:
        found = {"every": True, **found} if reach.rules else {"all": True}
    if reach.departments:
        found["departments"] = reach.departments
    if reach.owners:
        found["owners"] = reach.owners
    if reach.wall is not None:
        found["wall"] = reach.wall
    return found


def _path(rules: Iterable[str], collection: str, caller: Caller) -> str:
    from crmkit.catalog import record_fields, resources, type_of  # which reads every proto

    described = resources().get(type_of(collection))
    fields: Mapping[str, filters.FilterField] = record_fields(described) if described else {}
    return " && ".join(f"({filters.path_of(rule, fields, caller.actor)})" for rule in rules)


async def enter(session: AsyncSession, caller: Caller) -> None:
    """Tells the database who asks, from here to the end of the transaction."""
    await (await driver(session)).execute(_ENTER, *settings(caller, session.info["collections"]))


async def begin(
    session: AsyncSession, caller: Caller, read_only: bool = False, claim: Claim | None = None
) -> tuple[datetime, bool]:
    """Begins the session's transaction in the caller's scope: the database's time, and whether the claim is new."""
    connection, values = await transact(session), settings(caller, session.info["collections"])
    if claim is not None:
        now, new, *_ = await connection.fetchrow(_CLAIM, *values, *claim)
        return now, bool(new)
    return await connection.fetchval(_BEGIN_READ_ONLY if read_only else _BEGIN, *values), False


# SQL: the reaches that the transaction has been told of.
KNOWN = "nullif(current_setting('crm.reach', true), '')::jsonb"
SETTINGS = ("crm.scope", "crm.employee", "crm.reach", "crm.account")
_SET = ", ".join(f"set_config('{name}', ${number}, true)" for number, name in enumerate(SETTINGS, 1))
_ENTER = f"SELECT {_SET}"
_BEGIN = f"SELECT now(), {_SET}"
_BEGIN_READ_ONLY = f"{_BEGIN}, set_config('transaction_read_only', 'on', true)"
# Another call with the key makes this one wait here until its transaction ends.
_CLAIM = (
    "WITH claimed AS (INSERT INTO replays (principal, method, key, body_hash, reply)"
    " VALUES ($5, $6, $7, $8, '') ON CONFLICT DO NOTHING RETURNING key)"
    f" SELECT now(), EXISTS (SELECT 1 FROM claimed), {_SET}"
)


def policy_statements(model: type[Resource]) -> list[str]:
    """DDL that forces row-level security on the model's table. Unset settings see nothing."""
    table, described = model.__table__.name, model.described
    scope = "(SELECT current_setting('crm.scope', true))"
    employee = "(SELECT nullif(current_setting('crm.employee', true), ''))"
    if described.scope == "SHARED":
        using = f"{scope} IS NOT NULL AND {scope} <> '' AND {_ruled(model)}"
    elif described.scope == "PRIVATE":
        using = f"{scope} = 'SYSTEM' OR owner = {employee} OR collaborators @> ARRAY[{employee}]"
    else:
        using = _owned_policy(model, scope)
    return [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        f"DROP POLICY IF EXISTS data_scope ON {table}",
        # Writes are checked by the first wall on old and new values: handing a record over leaves one's scope.
        f"CREATE POLICY data_scope ON {table} USING ({using}) WITH CHECK (true)",
        *model.further_policies(),
    ]


@cache
def open_to_all(model: type[Resource]) -> bool:
    """Whether the second wall shows every row of the model to whoever is signed in and has no row rule."""
    return model.described.scope == "SHARED" and not model.further_policies()


def _owned_policy(model: type[Resource], scope: str) -> str:
    described = model.described
    itself = described.collection == "accounts"
    names = ["'accounts/' || id::text"] if itself else [f'"{field}"' for field in described.account_fields]
    theirs = " OR ".join(f"{name} = (SELECT current_setting('crm.account', true))" for name in names)
    shown = f"({scope} = 'ACCOUNT' AND ({theirs}))" if theirs else "false"
    everything, me = (_text_of(part, model) for part in ("all", "me"))
    departments, owners, wall = (_texts_of(part, model) for part in ("departments", "owners", "wall"))
    return (
        f"{everything}::boolean OR {shown} OR (department = ANY ({departments}) OR ("
        f"(owner = {me} OR collaborators @> ARRAY[{me}] OR owner = ANY ({owners}))"
        f" AND ({_text_of('wall', model)} IS NULL OR department = ANY ({wall})))"
        f" OR {_text_of('every', model)}::boolean) AND {_ruled(model)}"
    )


def _ruled(model: type[Resource]) -> str:
    """SQL: no row rule, or one that the row passes.

    Compared with a number, because the planner takes that to hold for nearly all rows, as it does for nearly everybody.
    """
    rule = _text_of("rule", model)
    passes = f'{rule} IS NULL OR to_jsonb("{model.__table__.name}".*) @@ {rule}::jsonpath'
    return f"(CASE WHEN {passes} THEN 1 ELSE 0 END) <> 0"


def _text_of(part: str, model: type[Resource]) -> str:
    """SQL: one part of the reach of the model's collection, worked out once for a statement."""
    return f"(SELECT {_reach_of(model)}->>'{part}' FROM (SELECT {KNOWN} AS known) AS told)"


def _texts_of(part: str, model: type[Resource]) -> str:
    found = f"{_reach_of(model)}->'{part}'"
    return f"ARRAY(SELECT jsonb_array_elements_text({found}) FROM (SELECT {KNOWN} AS known) AS told)"


def _reach_of(model: type[Resource]) -> str:
    place = f"coalesce(known->'of'->>'{scoped_by(model)}', known->'of'->>'*')::int"
    return f"known->'reaches'->({place})"
