"""For whom something is: the whole company, or departments with all beneath them, and people.

audiences: what somebody said → audience_members: who that is now, kept in step with people and the tree.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.resource import Resource
from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Index,
    Text,
    and_,
    any_,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base


class Audience(Base):
    """For whom a record is."""

    __tablename__ = "audiences"

    record: Mapped[str] = mapped_column(Text, primary_key=True)
    everyone: Mapped[bool] = mapped_column(Boolean)
    departments: Mapped[list[str]] = mapped_column(ARRAY(Text))
    people: Mapped[list[str]] = mapped_column(ARRAY(Text))


class AudienceMember(Base):
    """Somebody whom a record is for; who is not any more stays with what he has acknowledged."""

    __tablename__ = "audience_members"
    __table_args__ = (Index("audience_members_employee_index", "employee", "record"),)

    record: Mapped[str] = mapped_column(Text, primary_key=True)
    employee: Mapped[str] = mapped_column(Text, primary_key=True)
    current: Mapped[bool] = mapped_column(Boolean)
    acknowledge_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Shown(Resource):
    """A resource that its audience reads beside its owner and collaborators; partners and customers never do."""

    # True where everybody who works here reads it; and the record whose audience it has, empty where it has none.
    shown_to_all: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    shown_as: Mapped[str] = mapped_column(Text, server_default=text("''"))

    @classmethod
    def ways(cls, caller: Caller, own: list[ColumnElement[bool]] | None) -> list[ColumnElement[bool]] | None:
        """Beside one's own, what is for everybody and what one is a member of."""
        if own is None or caller.account or not caller.employee:
            return own
        return [*own, *shown(cls, caller)]

    @classmethod
    def further_policies(cls) -> list[str]:
        """The second wall says the same."""
        table = cls.__table__.name
        kind, employee = (f"(SELECT current_setting('crm.{one}', true))" for one in ("scope", "employee"))
        member = (
            f"SELECT 1 FROM audience_members m WHERE m.record = {table}.shown_as AND m.current"
            f" AND m.employee = {employee}"
        )
        return [
            f"DROP POLICY IF EXISTS shown ON {table}",
            f"CREATE POLICY shown ON {table} FOR SELECT USING ({kind} = 'STAFF' AND {employee} <> ''"
            f" AND (shown_to_all OR shown_as <> '' AND EXISTS ({member})))",
        ]


def shown(model: Any, caller: Caller) -> list[ColumnElement[bool]]:
    """The branches of what the caller reads as one of an audience."""
    mine = select(AudienceMember.record).where(
        AudienceMember.employee == caller.employee, AudienceMember.current
    )
    listed = func.array(mine.scalar_subquery(), type_=ARRAY(Text))
    # In the words of the index, which has no drafts.
    return [model.shown_to_all, and_(model.shown_as != literal_column("''"), model.shown_as == any_(listed))]


def show_indexes(table: str) -> tuple[Index, Index]:
    """The indexes of these branches, in the order of lists."""
    return (
        Index(
            f"{table}_shown_as_index",
            "shown_as",
            text("update_time DESC"),
            "id",
            postgresql_where=text("shown_as <> ''"),
        ),
        Index(
            f"{table}_shown_to_all_index",
            text("update_time DESC"),
            "id",
            postgresql_where=text("shown_to_all"),
        ),
    )


async def keep(
    record: str, everyone: bool, departments: Sequence[str], people: Sequence[str], call: Call
) -> int:
    """Says for whom a record is from now on; how many people that is."""
    connection = await driver(call.db)
    await connection.execute(_KEEP, record, everyone, list(departments), list(people))
    await connection.execute(_JOIN, [record], None)
    await connection.execute(_LEAVE, [record], None)
    return await connection.fetchval(_COUNT, record)


async def follow(call: Call, employees: Sequence[str] | None = None) -> None:
    """Brings members in step after people came, moved or left; after the tree changed, everybody."""
    connection = await driver(call.db)
    await connection.execute(_JOIN, None, None if employees is None else list(employees))
    await connection.execute(_LEAVE, None, None if employees is None else list(employees))


async def outside(
    record_key: tuple[bool, Sequence[str], Sequence[str]], people: Sequence[str], call: Call
) -> list[str]:
    """Which of the people are not in such an audience."""
    everyone, departments, named = record_key
    connection = await driver(call.db)
    rows = await connection.fetch(_OUTSIDE, everyone, list(departments), list(named), list(people))
    inside = {row["employee"] for row in rows}
    return [name for name in dict.fromkeys(people) if name not in inside]


async def acknowledge(record: str, employee: str, call: Call) -> bool:
    """That a person has read it, once; True the first time."""
    connection = await driver(call.db)
    return await connection.fetchval(_ACKNOWLEDGE, record, employee, call.now) is not None


_KEEP = (
    "INSERT INTO audiences (record, everyone, departments, people) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT (record) DO UPDATE SET everyone = excluded.everyone, departments = excluded.departments,"
    " people = excluded.people"
)
# Departments of an audience with all beneath them, and who works there, whose post it is beside another one too.
_UNDER = (
    "WITH RECURSIVE under(record, department) AS ("
    "SELECT a.record, d FROM said AS a, unnest(a.departments) AS d"
    " UNION SELECT u.record, one.department FROM under AS u, LATERAL ("
    "SELECT 'departments/' || d.id AS department FROM departments AS d WHERE d.parent = u.department"
    # What was merged goes on as the other one.
    " UNION ALL SELECT d.merged_into FROM departments AS d"
    " WHERE d.merged_into <> '' AND 'departments/' || d.id = u.department) AS one)"
)
_PEOPLE = (
    "SELECT a.record, 'employees/' || e.id AS employee FROM said AS a JOIN employees AS e"
    " ON e.kind = 'STAFF' AND e.account = '' AND e.state <> 'OFFBOARDED'"
    " WHERE a.everyone OR 'employees/' || e.id = ANY (a.people)"
    " UNION SELECT u.record, 'employees/' || e.id FROM under AS u JOIN employees AS e"
    " ON (e.department = u.department OR e.posts @> ARRAY[u.department])"
    " AND e.kind = 'STAFF' AND e.account = '' AND e.state <> 'OFFBOARDED'"
)
_SAID = "said AS MATERIALIZED (SELECT * FROM audiences WHERE $1::text[] IS NULL OR record = ANY ($1))"
_EXPECTED = (
    _UNDER.replace("WITH RECURSIVE ", f"WITH RECURSIVE {_SAID}, ", 1)
    + f", expected AS ({_PEOPLE}), wanted AS (SELECT * FROM expected WHERE $2::text[] IS NULL OR employee = ANY ($2))"
)
_JOIN = (
    f"{_EXPECTED} INSERT INTO audience_members AS m (record, employee, current) SELECT record, employee, true"
    " FROM wanted ORDER BY record, employee ON CONFLICT (record, employee) DO UPDATE SET current = true"
    " WHERE NOT m.current"
)
_LEAVE = (
    f"{_EXPECTED} UPDATE audience_members AS m SET current = false WHERE m.current"
    " AND ($1::text[] IS NULL OR m.record = ANY ($1)) AND ($2::text[] IS NULL OR m.employee = ANY ($2))"
    " AND NOT EXISTS (SELECT 1 FROM wanted AS w WHERE w.record = m.record AND w.employee = m.employee)"
)
_COUNT = "SELECT count(*) FROM audience_members WHERE record = $1 AND current"
_OUTSIDE = (
    _UNDER.replace(
        "WITH RECURSIVE ",
        "WITH RECURSIVE said AS (SELECT ''::text AS record, $1::boolean AS everyone, $2::text[] AS departments,"
        " $3::text[] AS people), ",
        1,
    )
    + f", expected AS ({_PEOPLE}) SELECT employee FROM expected WHERE employee = ANY ($4::text[])"
)
_ACKNOWLEDGE = (
    "INSERT INTO audience_members AS m (record, employee, current, acknowledge_time) VALUES ($1, $2, true, $3)"
    " ON CONFLICT (record, employee) DO UPDATE SET acknowledge_time = excluded.acknowledge_time"
    " WHERE m.acknowledge_time IS NULL RETURNING employee"
)
