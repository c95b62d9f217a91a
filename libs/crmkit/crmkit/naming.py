"""Records named by people: by resource name, number or exact title."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import or_, select

from crmkit.call import CONFIGURED, Call
from crmkit.errors import NotFound, Problem
from crmkit.resource import Resource, parse_name
from crmkit.scope import predicate
from crmkit.search import SearchTerm, candidates
from crmkit.sheetfields import RowProblem
from crmkit.tables import Copy


def unnamed(line: int, header: str, text: str, count: int) -> RowProblem:
    """The problem of a text that names no record, or several."""
    reason = "AMBIGUOUS_REFERENCE" if count > 1 else "UNKNOWN_REFERENCE"
    problem = Problem(reason, text=text[:100], name=text[:100], count=count)
    return RowProblem.of(line, header, problem)


async def named(kind: str, text: str, call: Call) -> list[str]:
    """Resource names of the records that a text names: by resource name, number or exact title."""
    if kind in CONFIGURED:
        collection, key = CONFIGURED[kind]
        found = {f"{collection}/{k}": v for k, v in call.running.config.prefix(f"{key}.").items()}
        return [name for name, entry in found.items() if text in (name, entry.get("displayName"))]
    model = call.running.models_by_type.get(kind)
    if model is not None:
        return await _named_here(model, text, call)
    foreign = call.running.foreign.get(kind)
    if foreign is None or text.startswith(f"{foreign.collection}/"):
        return [text]
    title = foreign.fields[foreign.title_field].json_name
    fits = or_(Copy.payload["number"].astext == text, Copy.payload[title].astext == text)
    found = select(Copy.name).where(Copy.collection == foreign.collection, ~Copy.deleted, fits).limit(10)
    return list(await call.db.scalars(found))


async def _named_here(model: type[Resource], text: str, call: Call) -> list[str]:
    described = model.described
    mine = predicate(model, call.caller)
    with suppress(NotFound):
        key = parse_name(text, described.collection)
        return [text] if await call.db.scalar(select(model.id).where(model.id == key, mine)) else []
    by_number = await call.db.scalars(select(model.id).where(model.number == text, mine).limit(2))
    if ids := by_number.all():
        return [f"{described.collection}/{key}" for key in ids]
    title = getattr(model, described.title_field)
    statement = select(model.id).where(title == text, mine).limit(10)
    term = SearchTerm.parse(text) if model.search_table is not None else None
    if term is not None and model.search_table is not None:
        hits = candidates(term, model.search_table, model.search_table.c.id)
        statement = statement.where(model.id.in_(select(hits.c.id)))
    return [f"{described.collection}/{key}" for key in await call.db.scalars(statement)]
