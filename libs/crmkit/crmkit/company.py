"""The company as the configuration knows it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

from crmkit.listing import ZONE

if TYPE_CHECKING:
    from crmkit.call import Call

DEEPEST = 50


def upward(department: str, call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    """The department and those above it with their entries, the nearest first; ends with one that is unknown."""
    for _ in range(DEEPEST):
        if not department:
            return
        entry = call.entry(department)
        yield department, entry
        department = entry.get("parent") or ""


def beneath(department: str, tops: Collection[str], call: Call) -> bool:
    """True for one of these departments and for those below them."""
    return any(name in tops for name, _ in upward(department, call))


def with_beneath(departments: Iterable[str], call: Call) -> tuple[str, ...]:
    """These departments and all beneath them."""
    return call.running.directory.organisation.below([name for name in departments if name])


def legal_entity(department: str, call: Call) -> str:
    """The nearest department at or above that is a legal entity, else the topmost one; empty if unknown."""
    known = [(name, entry) for name, entry in upward(department, call) if entry]
    top = known[-1][0] if known else ""
    return next((name for name, entry in known if entry.get("legalEntity")), top)


def employed(employee: str, call: Call) -> bool:
    """True for somebody who is employed and has not left."""
    entry = call.entry(employee)
    return bool(entry) and not entry.get("disabled")


def today(call: Call) -> date:
    """The calendar day of the call in the company's zone."""
    return call.now.astimezone(ZONE).date()
