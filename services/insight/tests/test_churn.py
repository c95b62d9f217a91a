"""The risk that a customer leaves: scored by rules from facts, told with its reasons when it changes."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from crmkit.auth import system
from insight.churn import score_churn, score_everybody
from insight.model.churn import Told, band_of, reasons
from sqlalchemy import text
from uuid_utils.compat import uuid7

DAY = date(2026, 6, 30)
SUBJECTS = {
    "orders": "crm.orders.v1.OrderPlaced",
    "interactions": "crm.customer.v1.InteractionLogged",
    "tickets": "crm.servicedesk.v1.TicketOpened",
}


def told(kind: str, *ago: int) -> list[Told]:
    return [Told(kind, DAY - timedelta(days=days)) for days in ago]


def points(*facts: Told) -> dict[str, int]:
    found = reasons(facts, DAY)
    assert found is not None
    return {one.code: one.points for one in found}


def test_the_usual_interval_says_how_long_is_too_long() -> None:
    order, spoken = SUBJECTS["orders"], SUBJECTS["interactions"]
    here = told(spoken, 3)
    # Monthly before: twice that is less than ninety days. Half-yearly: lost after a year alone.
    assert points(*told(order, 45, 75, 105), *here) == {"NO_ORDER": 25}
    assert points(*told(order, 90, 120), *here) == {"NO_ORDER": 50}
    assert points(*told(order, 90, 270, 450), *here) == {"NO_ORDER": 12}
    assert points(*told(order, 0), *here) == {}
    # Who has never ordered is nobody to lose.
    assert reasons(told(spoken, 400), DAY) is None


def test_reasons_are_in_words_the_weightiest_first_and_five_at_most() -> None:
    facts = [
        *told(SUBJECTS["orders"], 200), *told(SUBJECTS["interactions"], 40), *told(SUBJECTS["tickets"], 1, 2, 3, 4, 100),
        *told("crm.billing.v1.PaymentRefunded", 10), *told("crm.orders.v1.OrderCancelled", 20, 30, 200),
        *told("crm.billing.v1.InstalmentOverdue", 5, 6),
    ]  # fmt: skip
    found = reasons(facts, DAY)
    assert found is not None
    assert [(one.code, one.points) for one in found] == [
        ("NO_ORDER", 50), ("TICKETS", 15), ("MONEY_BACK", 10), ("NO_CONTACT", 10), ("OVERDUE", 5),
    ]  # fmt: skip
    assert (found[0].zh, found[0].en) == (
        "已 200 天没有下单，通常不超过 90 天",
        "No order for 200 days; 90 at most is usual",
    )
    assert [band_of(value) for value in (39, 40, 69, 70)] == ["LOW", "MEDIUM", "MEDIUM", "HIGH"]


@pytest.mark.capability("c.loyal")
async def test_a_score_is_told_when_it_changes_and_not_when_nothing_did(insight: Any) -> None:
    account, now = f"accounts/{uuid7()}", datetime.now(UTC)

    # The job of the running service knows today alone: here the days are others.
    async def rests() -> bool:
        later = (
            "UPDATE schedules SET next_time = clock_timestamp() + interval '1 day' WHERE name = 'score_churn'"
        )
        async with insight.running.engine.begin() as connection:
            return (await connection.execute(text(later))).rowcount == 1

    await insight.eventually(rests)

    async def happens(kind: str) -> None:
        name = f"{kind}/{uuid7()}"
        field = {"orders": "order", "interactions": "interaction", "tickets": "ticket"}[kind]
        resource = {"name": name, "account": account, **insight.of("sales1")}
        await insight.tell(SUBJECTS[kind], {field: resource}, name, times=2)

    async def due() -> bool:
        key = UUID(account.partition("/")[2])
        return bool(await insight.scalar("SELECT due FROM churn_scores WHERE id = :id", id=key))

    async def scored(days: int) -> list[dict[str, Any]]:
        """What was told of the account, after the job has run in so many days."""
        async with insight.running.call("test", system("insight")) as call:
            await score_churn(now + timedelta(days=days), call)
        facts = await insight.facts("crm.insight.v1.ScoreChanged", "")
        return [fact for fact in facts if fact["target"] == account]

    async def night() -> None:
        async with insight.running.call("test", system("insight")) as call:
            await score_everybody(now, call)

    # Nobody to lose before the first order.
    await happens("interactions")
    await insight.eventually(due)
    assert await scored(0) == []
    await happens("orders")
    await insight.eventually(due)
    [first] = await scored(45)
    assert (first["kind"], first["value"], first["before"], first["band"]) == ("CHURN", 35, 35, "LOW")
    assert [one["code"] for one in first["factors"]] == ["NO_ORDER", "NO_CONTACT"]
    assert (first["factors"][0]["points"], first["model"]) == (25, "churn-rules-1")
    await night()
    assert len(await scored(45)) == 1
    await night()
    later = await scored(100)
    assert [(one["value"], one["before"], one["band"]) for one in later[1:]] == [(70, 35, "HIGH")]
    await happens("tickets")
    await insight.eventually(due)
    # A ticket of a hundred days ago is old; seen from today it counts.
    assert len(await scored(100)) == 2
    await night()
    again = await scored(0)
    assert [one["code"] for one in again[-1]["factors"]] == ["TICKETS"]
