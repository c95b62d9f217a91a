"""Who earns: somebody of ours, or a partner, for whom the employee stands who looks after him."""

from __future__ import annotations

from typing import Any

from crmkit.call import Call
from sqlalchemy import ColumnElement

PARTNERS = "accounts/"


def is_partner(beneficiary: str) -> bool:
    """Whether it is an account."""
    return beneficiary.startswith(PARTNERS)


def earned_by(beneficiary: str, model: Any) -> ColumnElement[bool]:
    """The rows of one beneficiary."""
    if is_partner(beneficiary):
        return model.partner == beneficiary
    return (model.owner == beneficiary) & (model.partner == "")


async def held_by(beneficiary: str, call: Call) -> dict[str, str]:
    """The fields of a record that say whose it is."""
    if not is_partner(beneficiary):
        return {"owner": beneficiary}
    known = await call.copy(beneficiary) or {}
    return {
        "partner": beneficiary,
        "owner": str(known.get("owner", "")),
        "department": str(known.get("department", "")),
    }


def present(team: list[dict[str, Any]], call: Call) -> list[dict[str, Any]]:
    """Those who had credit, as they are called today: a partner may have been merged into another since."""
    names = call.running.redirects.names
    return [{**one, "employee": names.get(one["employee"], one["employee"])} for one in team]
