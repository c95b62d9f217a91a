"""People whose data is erased at their wish: every service empties what its records say of them.

`customer` erases the contact itself and tells `PersonalDataErased`. A record whose field `contact` names the person,
or whose field `contacts` does among others, is about the person: what its proto marks `personal` is emptied, unless
the law wants the document as it was (`Resource.keeps_personal`). Each row changes like by an update, so that copies
and readers of facts follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select

from crmkit import runs
from crmkit.auth import system
from crmkit.errors import Problem
from crmkit.events import Fact, listens
from crmkit.runs import Kind, Run

if TYPE_CHECKING:
    from crmkit.call import Call
    from crmkit.resource import Resource

TYPE = "crm.customer/Contact"
RUN = "ErasePerson"
AT_ONCE = 200


@listens("crm.customer.v1.PersonalDataErased")
async def empty_personal_fields(event: Fact, call: Call) -> None:
    """Queues what the service has of the person."""
    person = str(event.payload["person"])
    if not await runs.begun(call, RUN, person):
        await runs.start(call, RUN, person, {}, system(call.running.app.name).actor)


async def empty(run: Run) -> None:
    """Goes over every record that is about the person, chunk by chunk, behind the last row of the chunk before."""
    models = [m for m in run.running.app.models if is_about_people(m) and not m.keeps_personal]
    while run.position < len(models):
        async with run.chunk() as call:
            model: Any = models[run.position]
            after = UUID(run.tally.get("after") or str(UUID(int=0)))
            statement = select(model).where(_names(model, run.about), model.id > after).order_by(model.id)
            rows: list[Resource] = list(
                await call.db.scalars(statement.limit(AT_ONCE).with_for_update(of=model))
            )
            for row in rows:
                await row.forget_person(call)
            if len(rows) < AT_ONCE:
                run.position, run.tally["after"] = run.position + 1, ""
            else:
                run.tally["after"] = str(rows[-1].id)


def is_about_people(model: type[Resource]) -> bool:
    """Whether records name a contact, or several, as those whom their personal fields are about."""
    fields = model.described.fields
    named = _one(model) or _several(model)
    return named and any(field.rule.personal for field in fields.values())


def _names(model: Any, person: str) -> ColumnElement[bool]:
    """True for records that name the person."""
    one: list[ColumnElement[bool]] = [model.contact == person] if _one(model) else []
    several: list[ColumnElement[bool]] = [model.contacts.contains([person])] if _several(model) else []
    return or_(*one, *several)


def _one(model: type[Resource]) -> bool:
    field = model.described.fields.get("contact")
    return field is not None and field.kind == "reference" and field.references == TYPE


def _several(model: type[Resource]) -> bool:
    field = model.described.fields.get("contacts")
    return field is not None and field.kind == "references" and field.references == TYPE


async def _give_up(run: Run, problem: Problem, call: Call) -> None:
    """Nothing is told: the run stands among those that failed."""


KINDS = {RUN: Kind(empty, _give_up)}
