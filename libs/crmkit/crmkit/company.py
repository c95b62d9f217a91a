"""The company as the configuration knows it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from crmkit.listing import ZONE

if TYPE_CHECKING:
    from crmkit.call import Call

DEEPEST = 50


def legal_entity(department: str, call: Call) -> str:
    """The nearest department at or above that is a legal entity, else the topmost one; empty if unknown."""
    found = ""
    for _ in range(DEEPEST):
        entry = call.config(f"department.{department.partition('/')[2]}") if department else None
        if entry is None:
            return found
        found = department
        if entry.get("legalEntity"):
            return found
        department = entry.get("parent") or ""
    return found


def today(call: Call) -> date:
    """The calendar day of the call in the company's zone."""
    return call.now.astimezone(ZONE).date()
