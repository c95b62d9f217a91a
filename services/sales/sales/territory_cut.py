"""A cut of the market: what a tree of territories with its choices says of every customer. Pure but for reading."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.driver import driver
from sqlalchemy import select

from sales.model.territory import AccountHold, owner_of, works
from sales.model.territory_plan import TerritoryPlan
from sales.territory_map import Match, Place, TerritoryMap

PAGE = 2000
LIVE = ("ACTIVE", "POOLED", "FROZEN")


@dataclass(slots=True)
class Customer:
    """As much of a customer as a cut asks for."""

    place: Place
    display_name: str
    owner: str
    department: str
    state: str
    level: str
    position: tuple[float, float] | None
    version: int


@dataclass(slots=True)
class Decision:
    """What a cut says of a customer."""

    customer: Customer
    matches: dict[str, Match]
    to: str
    criterion: str
    matched: str
    excluded: str = ""
    gap: bool = False

    @property
    def moves(self) -> bool:
        """Whether the customer changes hands."""
        return not self.excluded and self.to != self.customer.owner and bool(self.customer.owner)

    @property
    def overlap(self) -> list[str]:
        """The codes of territories that take the customer by equal right."""
        return [code for one in self.matches.values() if one.rivals for code in (one.code, *one.rivals)]


@dataclass
class Cut:
    """A tree of territories with the choices of a plan."""

    tree: TerritoryMap
    now: datetime
    pinned: frozenset[str] = frozenset()
    overrides: dict[str, str] = field(default_factory=dict)
    default_owner: str = ""
    holds: dict[str, str] = field(default_factory=dict)

    @classmethod
    async def of(cls, plan: TerritoryPlan, now: datetime, call: Call) -> Cut:
        """The cut of a plan as it counts at a moment."""
        rows = await call.db.execute(select(AccountHold.reason, AccountHold.subjects))
        holds = {subject: row.reason for row in rows for subject in row.subjects}
        overrides = {one.account: one.to for one in plan.overrides}
        tree = TerritoryMap(plan.tree)
        return cls(tree, now, frozenset(plan.pinned_accounts), overrides, plan.default_owner, holds)

    def decide(self, one: Customer) -> Decision:
        """Where a customer belongs, and whose it would be."""
        name = one.place.name
        matches = self.tree.match(one.place)
        general = matches.get("")
        owner = owner_of(general.code, self.tree.nodes, self.now) if general else ""
        criterion, matched = (general.criterion, general.value) if general else ("", "")
        if not owner:
            owner, criterion = self.default_owner, "DEFAULT_OWNER" if self.default_owner else criterion
        decision = Decision(one, matches, owner, criterion, matched, gap=not owner)
        if name in self.overrides:
            decision.to, decision.criterion, decision.gap = self.overrides[name], "OVERRIDE", False
        decision.gap = decision.gap and name not in self.pinned
        if not one.owner or name in self.pinned or decision.gap:
            decision.to = one.owner
        decision.excluded = self.holds.get(name, "") or self.holds.get(one.owner, "")
        if one.state == "FROZEN":
            decision.excluded = decision.excluded or "HANDOVER"
        return decision

    def collaborators(self, decision: Decision, codes: dict[str, str]) -> dict[str, dict[str, str]]:
        """By product line who works on a customer besides its owner, and what each may do; territories by their codes."""
        found: dict[str, dict[str, str]] = {}
        for line, match in decision.matches.items():
            found[line] = {}
            for member in self.tree.nodes[match.code].members:
                if member.employee != decision.to and works(member, self.now):
                    access = "READ" if member.access == pb.TerritoryMember.READ else "WORK"
                    found[line][member.employee] = f"{access} {codes.get(match.code, '')}"
        return found


async def customers(
    call: Call, after: str = "", size: int = PAGE, only: Sequence[str] | None = None
) -> list[Customer]:
    """A page of the customers that the service knows, by name."""
    connection = await driver(call.db)
    rows = (
        await connection.fetch(_NAMED, list(only)) if only is not None else await connection.fetch(_CUSTOMERS, after, size)
    )  # fmt: skip
    return [customer_of(row["payload"], row["version"]) for row in rows]


def customer_of(payload: Any, version: int) -> Customer:
    """A customer as JSON tells of it."""
    told: dict[str, Any] = json.loads(payload) if isinstance(payload, str) else payload
    addresses = told.get("addresses") or []
    where = next((one for one in addresses if one.get("divisionCode") or one.get("postcode")), {})
    mapped = next((one for one in addresses if "latitude" in one and "longitude" in one), None)
    position = (float(mapped["latitude"]), float(mapped["longitude"])) if mapped else None
    place = Place(
        told["name"], where.get("divisionCode", ""), where.get("postcode", ""), told.get("industry", ""),
        int(told.get("employeeCount") or 0),
    )  # fmt: skip
    return Customer(
        place, told.get("displayName", ""), told.get("owner", ""), told.get("department", ""), told.get("state", ""),
        told.get("level", ""), position, version,
    )  # fmt: skip


async def decisions(cut: Cut, call: Call, after: str = "") -> AsyncIterator[Decision]:
    """What a cut says of every customer, by name; nothing is written."""
    while page := await customers(call, after):
        for one in page:
            if one.state in LIVE:
                yield cut.decide(one)
        after = page[-1].place.name


_COLUMNS = (
    "SELECT version, jsonb_build_object('name', name, 'displayName', payload->'displayName', 'owner', payload->'owner',"
    " 'department', payload->'department', 'state', payload->'state', 'level', payload->'level', 'industry',"
    " payload->'industry', 'employeeCount', payload->'employeeCount', 'addresses', payload->'addresses') AS payload"
    " FROM copies WHERE collection = 'accounts' AND NOT deleted"
)
_CUSTOMERS = f"{_COLUMNS} AND name > $1 ORDER BY name LIMIT $2"
_NAMED = f"{_COLUMNS} AND name = ANY($1) ORDER BY name"
