"""Customers change hands by territory, told batch by batch, by the one function for owners, and back."""

from typing import Any
from uuid import uuid4

from crmkit.testing import Service
from uuid_utils.compat import uuid7

TOLD = "crm.sales.v1.TerritoryPlanApplied"


async def outcome(customer: Service, plan: str, batch: int) -> dict[str, Any]:
    async def look() -> Any:
        found = await customer.facts("crm.customer.v1.TerritoryMovesApplied")
        return next((f for f in found if f["plan"] == plan and f["batch"] == batch), None)

    return await customer.eventually(look, 60)


async def test_a_batch_changes_owners_once_with_history_and_goes_back_where_nothing_has_changed_since(
    customer: Service,
) -> None:
    one, two, manager = (customer.person(who).employee or "" for who in ("sales1", "sales2", "manager"))
    names: list[str] = []
    for n in range(3):
        made = await customer.sales1.CreateAccount(account={"displayName": f"区域划分{uuid4().hex[:8]}厂{n}"})
        names.append(made.name)
    contact = await customer.sales1.CreateContact(contact={"displayName": "孟区", "account": names[0]})
    plan = f"territoryPlans/{uuid7()}"
    territory = f"territories/{uuid7()}"
    helper = [{"employee": manager, "access": "READ", "territory": territory}]
    moves = [
        {"account": names[0], "from": one, "to": two, "collaborators": helper},
        {"account": names[1], "from": one, "to": two},
        # Sales thought that somebody else had it.
        {"account": names[2], "from": manager, "to": two},
        {"account": f"accounts/{uuid7()}", "from": one, "to": two},
    ]
    told = {"plan": plan, "number": "TP-2026-001", "batch": 1, "moves": moves, "actor": manager}
    await customer.tell(TOLD, told, plan, times=2)
    first = await outcome(customer, plan, 1)
    assert first["moved"] == names[:2]
    assert [one["reason"] for one in first["left"]] == ["CHANGED_SINCE", "GONE"]
    seen = await customer.admin.GetAccount(name=names[0])
    assert (seen.owner, seen.owner_how, manager in seen.collaborators) == (two, "TERRITORY", True)
    assert (await customer.admin.GetContact(name=contact.name)).owner == two
    lines = (await customer.admin.ListOwnerHistory(name=names[0])).changes
    assert [(line.employee, line.cause, line.reason) for line in lines][:1] == [(two, plan, "TP-2026-001")]
    assert len(lines) == 2
    changed = await customer.facts("crm.customer.v1.AccountOwnerChanged", names[0])
    assert [(fact["how"], fact["cause"]) for fact in changed if fact["how"] == "TERRITORY"] == [
        ("TERRITORY", plan)
    ]

    # Members change: whoever no longer works there sees it no more; the owner stays.
    quiet = {"moves": [{"account": names[0], "from": two, "to": two}], "actor": manager}
    await customer.tell(TOLD, quiet, names[0])

    async def alone() -> bool:
        return manager not in (await customer.admin.GetAccount(name=names[0])).collaborators

    await customer.eventually(alone, 60)

    # Somebody changes one of them; the other goes back.
    await customer.admin.AssignAccount(name=names[1], owner=manager)
    await customer.admin.AssignAccount(name=names[1], owner=two)
    back = [{"account": name, "from": two, "to": one} for name in names[:2]]
    await customer.tell(TOLD, {**told, "batch": 2, "undo": True, "moves": back}, plan)
    second = await outcome(customer, plan, 2)
    assert (second["moved"], second["left"]) == (
        [names[0]],
        [{"account": names[1], "reason": "CHANGED_SINCE"}],
    )
    assert (await customer.admin.GetAccount(name=names[0])).owner == one
