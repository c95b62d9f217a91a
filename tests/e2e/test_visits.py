"""A visit from the plan to what every service knows of it, over HTTP."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tests.e2e.people import Person, Refusal

SignIn = Callable[..., Person]
# People's Square in Shanghai, and a place 1.6 km away.
SQUARE = {"latitude": 31.2304, "longitude": 121.4737}
BUND = {"latitude": 31.2397, "longitude": 121.4900}


@pytest.mark.capability("s.visit")
def test_a_completed_visit_is_one_interaction_of_the_customer(person: SignIn) -> None:
    sales, manager = person("sales1"), person("manager")
    account = sales.create("accounts", displayName=f"拜访{uuid4().hex[:8]}有限公司")
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    planned = [
        sales.create("visits", account=account["name"], purpose="回访", plannedTime=soon, position=place)
        for place in (BUND, SQUARE)
    ]
    names = [visit["name"] for visit in planned]
    route = sales.take("POST", "/v1/visits:planRoute", json={"visits": names, "start": SQUARE})
    assert [stop["visit"] for stop in route["stops"]] == names[::-1]
    assert len(route["conflicts"]) == 1
    visit = planned[1]
    arrived = {
        "device": uuid4().hex,
        "position": SQUARE,
        "accuracy": 12,
        "deviceTime": datetime.now(UTC).isoformat(),
    }
    first = sales.do(visit, "checkIn", **arrived)
    again = sales.do(first, "checkIn", **arrived)
    assert (first["state"], again["checkIn"]["serverTime"]) == ("CHECKED_IN", first["checkIn"]["serverTime"])
    with pytest.raises(Refusal) as refused:
        sales.do(again, "complete", result=" ")
    assert refused.value.reason == "RESULT_MISSING"
    done = sales.do(again, "complete", result="同意试用两周", position=SQUARE)
    assert done["state"] == "COMPLETED"

    logged = sales.await_one("interactions", filter=f'account = "{account["name"]}"')
    assert (logged["channel"], logged["summary"]) == ("VISIT", "同意试用两周")
    with pytest.raises(Refusal):
        sales.do(sales.read(visit["name"]), "complete", result="同意试用两周")
    reviewed = manager.do(manager.read(visit["name"]), "review", review="跟进样品")
    assert reviewed["review"] == "跟进样品"
    assert len(sales.list("interactions", filter=f'account = "{account["name"]}"')) == 1
