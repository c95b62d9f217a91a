"""Who works in a territory from one instant to another sees its customers then, and only then, wherever he looks."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.people import Person, Refusal, eventually

SignIn = Callable[..., Person]
# Between the instant and its effect lie the clock's five seconds and three services, on a slow machine.
SOON = timedelta(seconds=25)


def seen(who: Person, account: dict[str, Any]) -> dict[str, bool]:
    """Where somebody meets a customer: the record, lists, the search over everything, and reports."""
    tag, mine = account["displayName"], {"filter": f'display_name = "{account["displayName"]}"'}
    place = {"filter": f'account = "{account["name"]}"'}

    def counted(collection: str, query: dict[str, str]) -> bool:
        rows = who.take("GET", f"/v1/{collection}:aggregate", params=query).get("rows", [])
        return sum(int(row["count"]) for row in rows) == 1

    try:
        who.read(account["name"])
        there = True
    except Refusal as refusal:
        assert refusal.status == 404
        there = False
    return {
        "record": there,
        "list": len(who.list("accounts", **mine)) == 1,
        "found": len(who.list("accounts", q=tag)) == 1,
        "territory": len(who.list("territoryAccounts", **place)) == 1,
        "search": len(who.list("searchDocuments", q=tag, filter='collection = "accounts"')) == 1,
        "report": counted("accounts", mine),
        "report of territories": counted("territoryAccounts", place),
    }


def begun(admin: Person, plan: dict[str, Any]) -> dict[str, Any]:
    """Previewed, scheduled by what was seen, and applied."""
    admin.do(plan, "preview")
    there = eventually(lambda: _at(admin, plan, "PREVIEWED"), "a preview")
    notes = [{"account": one["account"], "text": "无"} for one in there["preview"].get("keyAccounts", [])]
    there = admin.change(there, notes=notes)
    admin.do(there, "schedule", digest=there["digest"])
    return eventually(lambda: _at(admin, plan, "APPLIED"), "the plan in force", 240)


def _at(admin: Person, plan: dict[str, Any], state: str) -> dict[str, Any] | None:
    found = admin.read(plan["name"])
    return found if found["state"] == state else None


@pytest.mark.capability("s.territory")
def test_members_see_customers_from_their_first_instant_to_their_last_in_lists_search_and_reports(
    person: SignIn,
) -> None:
    admin, manager, helper = person("admin"), person("manager"), person("sales2")
    me = helper.create("accounts", displayName=f"自己的{uuid4().hex[:8]}")["owner"]
    industry = f"行业{uuid4().hex[:6]}"
    account = manager.create("accounts", displayName=f"区域{uuid4().hex[:8]}有限公司", industry=industry)
    eventually(
        lambda: all(v for k, v in seen(manager, account).items() if "territor" not in k), "its owner sees it"
    )
    lead = [{"employee": account["owner"], "role": "OWNER"}]
    plan = admin.create(
        "territoryPlans", displayName="一个行业", effectiveTime="2026-01-01T00:00:00Z",
        tree=[
            {"code": "e0", "displayName": "其他", "fallback": True, "members": lead},
            {"code": "e1", "displayName": industry, "criteria": {"industries": [industry]}, "members": lead},
        ],
    )  # fmt: skip
    begun(admin, plan)
    try:
        place = admin.await_one("territoryAccounts", filter=f'account = "{account["name"]}"')
        nothing = dict.fromkeys(seen(manager, account), False)
        begin, end = datetime.now(UTC) + SOON, datetime.now(UTC) + 3 * SOON
        member = {"employee": me, "fromTime": begin.isoformat(), "toTime": end.isoformat()}
        admin.take("POST", f"/v1/{place['territory']}:addMember", json={"member": member})
        while (now := seen(helper, account)) == nothing and datetime.now(UTC) < begin + 2 * SOON:
            time.sleep(0.5)
        # Nowhere before the instant.
        assert now == nothing or datetime.now(UTC) >= begin
        eventually(lambda: all(seen(helper, account).values()), "a member sees it everywhere")
        assert datetime.now(UTC) < end, "the machine is too slow for these instants"
        while all((now := seen(helper, account)).values()) and datetime.now(UTC) < end + 2 * SOON:
            time.sleep(0.5)
        assert all(now.values()) or datetime.now(UTC) >= end
        eventually(lambda: seen(helper, account) == nothing, "who is no member any more sees it nowhere")
    finally:
        admin.do(admin.read(plan["name"]), "undo")
        eventually(lambda: _at(admin, plan, "UNDONE"), "the cut of before", 120)
