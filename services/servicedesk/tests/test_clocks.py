"""Promised times: they run in working time, rest while waiting, and warn and breach once."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from crm.servicedesk.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from crmkit.worktime import WorkingTime
from servicedesk import clocks
from servicedesk.jobs import close_resolved, escalate
from servicedesk.model.ticket import Ticket

ZONE = ZoneInfo("Asia/Shanghai")
WORK = WorkingTime(ZONE, ((540, 1020),), china=False)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).astimezone(UTC)


def test_a_resting_clock_goes_on_with_what_was_left() -> None:
    clock = clocks.started("SOLUTION", 120, at("2026-03-04 10:00"), WORK, 80)
    assert clocks.instant(clock.due_time) == at("2026-03-04 12:00")
    assert clocks.instant(clock.warn_time) == at("2026-03-04 11:36")
    clock = clocks.moved(clock, "PAUSED", at("2026-03-04 10:45"), WORK)
    assert clocks.next_escalation([clock]) is None
    clock = clocks.moved(clock, "RUNNING", at("2026-03-05 16:30"), WORK)
    assert clocks.instant(clock.due_time) == at("2026-03-06 09:45")
    clock = clocks.moved(clock, "DONE", at("2026-03-06 10:00"), WORK)
    assert (clock.in_minutes, clock.diff_minutes) == (135, -15)


@pytest.mark.parametrize(
    ("used", "target", "diff"), [(30, 60, 30), (270, 60, -210), (75, 120, 45), (150, 250, 100)]
)
def test_the_figures_are_stored_when_a_clock_ends(used: int, target: int, diff: int) -> None:
    start = at("2026-03-04 09:00")
    clock = clocks.started("FIRST_RESPONSE", target, start, WORK, 80)
    clock = clocks.moved(clock, "DONE", start + timedelta(minutes=used), WORK)
    assert (clock.in_minutes, clock.diff_minutes) == (used, diff)


def test_a_shorter_promise_counts_from_the_beginning_and_a_longer_one_undoes_a_breach() -> None:
    clock = clocks.started("SOLUTION", 240, at("2026-03-04 09:00"), WORK, 80)
    short = clocks.retargeted(clock, 60, at("2026-03-04 11:00"), WORK, 80)
    assert clocks.instant(short.due_time) < at("2026-03-04 11:00")
    short.breached = short.warned = True
    long = clocks.retargeted(short, 240, at("2026-03-04 11:00"), WORK, 80)
    assert not (long.breached or long.warned)
    assert clocks.instant(long.due_time) == at("2026-03-04 13:00")


async def policy(service: Service, order: int, title: str, **more: Any) -> pb.SlaPolicy:
    """An active policy for tickets of that title; it promises around the clock."""
    targets = [
        {"priority": "P1", "clock": "FIRST_RESPONSE", "minutes": 10}, {"priority": "P1", "clock": "SOLUTION", "minutes": 60},
        {"priority": "P3", "clock": "SOLUTION", "minutes": 600},
    ]  # fmt: skip
    made = await service.admin.CreateSlaPolicy(
        slaPolicy={
            "displayName": title, "order": order, "condition": f'display_name = "{title}"', "targets": targets,
            "calendar": "WEEKDAYS", "windows": [{"from": "00:00", "to": "24:00"}], **more,
        }
    )  # fmt: skip
    return await service.admin.ActivateSlaPolicy(name=made.name)


async def opened(service: Service, title: str, **more: Any) -> pb.Ticket:
    body = {
        "displayName": title,
        "description": "x",
        "type": "INCIDENT",
        "severity": "CRITICAL",
        "priority": "P1",
    }
    return await service.client("agent").CreateTicket(
        ticket={**body, "requesterAddress": "13900003333", **more}
    )


def by_kind(ticket: pb.Ticket) -> dict[str, Any]:
    return {pb.SlaPolicy.ClockKind.Name(clock.kind): clock for clock in ticket.clocks}


async def run(service: Service, job: Any, as_of: datetime) -> None:
    """Runs a job as of a time, once more than needed."""
    for _ in range(2):
        async with service.running.call("test", system("servicedesk")) as call:
            await job(as_of, call)


async def test_the_first_policy_that_fits_promises_and_a_public_answer_ends_the_first_response(
    servicedesk: Service,
) -> None:
    agent = servicedesk.client("agent")
    made = await policy(servicedesk, 1, "时限样例一")
    ticket = await opened(servicedesk, "时限样例一")
    assert ticket.sla_policy == made.name
    assert {kind: clock.target_minutes for kind, clock in by_kind(ticket).items()} == {
        "FIRST_RESPONSE": 10,
        "SOLUTION": 60,
    }
    await agent.CommentTicket(name=ticket.name, text="内部讨论", internal=True)
    noted = await agent.GetTicket(name=ticket.name)
    assert by_kind(noted)["FIRST_RESPONSE"].state == "RUNNING"
    answered = await agent.CommentTicket(name=ticket.name, text="您好，正在处理")
    assert by_kind(answered)["FIRST_RESPONSE"].state == "DONE"
    assert by_kind(answered)["FIRST_RESPONSE"].diff_minutes == 10
    other = await opened(servicedesk, "别的标题")
    assert other.sla_policy != made.name


async def test_clocks_rest_with_the_ticket_and_end_with_it(servicedesk: Service) -> None:
    agent = servicedesk.client("agent")
    await policy(servicedesk, 2, "时限样例二")
    ticket = await opened(servicedesk, "时限样例二")
    assert ticket.HasField("next_escalation_time")
    await agent.StartTicket(name=ticket.name)
    waiting = await agent.WaitTicket(name=ticket.name, awaiting="CUSTOMER")
    assert by_kind(waiting)["SOLUTION"].state == "PAUSED"
    assert not waiting.HasField("next_escalation_time")
    resumed = await agent.ResumeTicket(name=ticket.name)
    assert by_kind(resumed)["SOLUTION"].state == "RUNNING"
    solved = await agent.ResolveTicket(name=ticket.name, code="FIXED", text="好了")
    assert {clock.state for clock in solved.clocks} == {"DONE"}
    assert by_kind(solved)["SOLUTION"].diff_minutes in {59, 60}
    reopened = await agent.ReopenTicket(name=ticket.name, reason="又坏了")
    assert (by_kind(reopened)["SOLUTION"].state, by_kind(reopened)["FIRST_RESPONSE"].state) == (
        "RUNNING",
        "DONE",
    )


async def test_another_priority_reckons_the_clocks_again(servicedesk: Service) -> None:
    await policy(servicedesk, 3, "时限样例三")
    ticket = await opened(servicedesk, "时限样例三")
    changed = await servicedesk.client("agent").UpdateTicket(
        ticket={"name": ticket.name, "priority": "P3"}, updateMask="priority"
    )
    assert {kind: clock.target_minutes for kind, clock in by_kind(changed).items()} == {"SOLUTION": 600}
    cleared = await servicedesk.client("agent").UpdateTicket(
        ticket={"name": ticket.name, "priority": "P4"}, updateMask="priority"
    )
    assert not cleared.clocks
    assert not cleared.HasField("next_escalation_time")


async def test_warning_and_breach_are_told_once_each_in_order_also_when_late(servicedesk: Service) -> None:
    agent = servicedesk.client("agent")
    await policy(servicedesk, 4, "时限样例四")
    ticket = await opened(servicedesk, "时限样例四")
    await agent.AssignTicket(name=ticket.name, assignee=servicedesk.person("agent").employee)
    await run(servicedesk, escalate, datetime.now(UTC) + timedelta(days=30))
    warned = await servicedesk.facts("crm.servicedesk.v1.SlaWarned", ticket.name)
    breached = await servicedesk.facts("crm.servicedesk.v1.SlaBreached", ticket.name)
    assert [(fact["clock"], fact["step"]) for fact in warned] == [("FIRST_RESPONSE", 80), ("SOLUTION", 80)]
    assert [(fact["clock"], fact["inMinutes"]) for fact in breached] == [
        ("FIRST_RESPONSE", 10),
        ("SOLUTION", 60),
    ]
    assert breached[1]["dueTime"] == by_kind(ticket)["SOLUTION"].due_time.ToJsonString()
    people = servicedesk.person
    assert breached[0]["recipients"] == [people("agent").employee, people("service").employee]
    late = await agent.GetTicket(name=ticket.name)
    assert late.breached
    assert not late.HasField("next_escalation_time")


async def test_a_resting_or_closed_ticket_tells_nothing(servicedesk: Service) -> None:
    agent = servicedesk.client("agent")
    await policy(servicedesk, 5, "时限样例五")
    resting, closed = await opened(servicedesk, "时限样例五"), await opened(servicedesk, "时限样例五")
    await agent.StartTicket(name=resting.name)
    await agent.HoldTicket(name=resting.name)
    await agent.RejectTicket(name=closed.name, reason="重复")
    await run(servicedesk, escalate, datetime.now(UTC) + timedelta(days=30))
    for ticket in (resting, closed):
        assert not await servicedesk.facts("crm.servicedesk.v1.SlaBreached", ticket.name)


async def test_a_solved_ticket_closes_itself_and_cannot_be_opened_after_its_days(
    servicedesk: Service,
) -> None:
    agent = servicedesk.client("agent")
    queue = await servicedesk.admin.CreateQueue(
        queue={"displayName": "三天队列", "closeDays": 3, "reopenDays": 2}
    )
    mine = {"department": servicedesk.person("agent").department}
    ticket = await opened(servicedesk, "自动关闭", queue=queue.name, **mine)
    for verb, fields in (("StartTicket", {}), ("ResolveTicket", {"code": "FIXED", "text": "好了"})):
        await getattr(agent, verb)(name=ticket.name, **fields)
    await run(servicedesk, close_resolved, datetime.now(UTC) + timedelta(days=2))
    assert (await agent.GetTicket(name=ticket.name)).state == pb.Ticket.RESOLVED
    async with servicedesk.running.call("test", system("servicedesk")) as call:
        row = await call.load(Ticket, ticket.name)
        row.resolve_time = call.now - timedelta(days=2, hours=1)
    with pytest.raises(Refused) as refused:
        await agent.ReopenTicket(name=ticket.name, reason="又坏了")
    assert (refused.value.reason, refused.value.info.metadata["days"]) == ("REOPEN_WINDOW_OVER", "2")
    await run(servicedesk, close_resolved, datetime.now(UTC) + timedelta(days=3))
    assert (await agent.GetTicket(name=ticket.name)).state == pb.Ticket.CLOSED
    assert len(await servicedesk.facts("crm.servicedesk.v1.TicketClosed", ticket.name)) == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"timeZone": "Asia/Nowhere"}, "TIME_ZONE_UNKNOWN"),
        ({"windows": [{"from": "12:00", "to": "09:00"}]}, "CALENDAR_WINDOW_INVALID"),
        (
            {"windows": [{"from": "09:00", "to": "12:00"}, {"from": "11:00", "to": "18:00"}]},
            "CALENDAR_WINDOW_INVALID",
        ),
        ({"condition": "colour = red"}, "RULE_CONDITION_INVALID"),
        ({"targets": [{"priority": "P1", "clock": "SOLUTION", "minutes": 525600}]}, "DEADLINE_UNREACHABLE"),
    ],
)
async def test_a_policy_that_could_never_be_reckoned_with_is_refused(
    servicedesk: Service, bad: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        await servicedesk.admin.CreateSlaPolicy(slaPolicy={"displayName": "坏政策", **bad})
    assert refused.value.reason == reason


async def test_an_empty_policy_stays_a_draft_and_an_active_one_keeps_its_promise(
    servicedesk: Service,
) -> None:
    made = await servicedesk.admin.CreateSlaPolicy(slaPolicy={"displayName": "空"})
    with pytest.raises(Refused) as refused:
        await servicedesk.admin.ActivateSlaPolicy(name=made.name)
    assert refused.value.reason == "SLA_EMPTY"
    active = await policy(servicedesk, 6, "时限样例六")
    with pytest.raises(Refused) as refused:
        await servicedesk.admin.UpdateSlaPolicy(
            slaPolicy={"name": active.name, "warnPercent": 50}, updateMask="warnPercent"
        )
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    retired = await servicedesk.admin.RetireSlaPolicy(name=active.name)
    assert retired.state == pb.SlaPolicy.RETIRED
    assert (await opened(servicedesk, "时限样例六")).sla_policy != active.name


async def test_the_due_time_is_told_beforehand(servicedesk: Service) -> None:
    made = await servicedesk.admin.CreateSlaPolicy(
        slaPolicy={
            "displayName": "两段", "windows": [{"from": "08:30", "to": "12:00"}, {"from": "13:30", "to": "18:00"}],
        }
    )  # fmt: skip
    answer = await servicedesk.client("agent").SimulateSlaPolicy(
        name=made.name, startTime="2025-01-25T02:00:00Z", minutes=240
    )
    assert answer.due_time.ToJsonString() == "2025-01-26T06:00:00Z"


@pytest.mark.capability("c.keyacct")
async def test_the_next_ticket_of_an_account_is_promised_by_its_service_tier(servicedesk: Service) -> None:
    account = f"accounts/{uuid4()}"
    person = servicedesk.person("sales1")

    async def served(tier: str, etag: int) -> None:
        resource = {
            "name": account, "displayName": "分级客户", "owner": person.employee, "department": person.department,
            "serviceTier": tier, "etag": str(etag), "state": "ACTIVE",
        }  # fmt: skip
        fact = {"name": account, "action": "CREATED" if etag == 1 else "UPDATED", "resource": resource}
        await servicedesk.tell("crm.customer.v1.ResourceChanged", fact, account, etag)

        async def known() -> bool:
            async with servicedesk.running.system_call("test", None) as call:
                return ((await call.copy(account)) or {}).get("serviceTier", "") == tier

        await servicedesk.eventually(known)

    title = f"停机{uuid4().hex}"
    await policy(servicedesk, 77, title, condition=f'display_name = "{title}" AND service_tier = "KEY"')
    await served("", 1)
    before = await opened(servicedesk, title, account=account)
    await served("KEY", 2)
    ticket = await opened(servicedesk, title, account=account)
    assert (before.service_tier, ticket.service_tier) == ("", "KEY")
    promised = await servicedesk.admin.GetSlaPolicy(name=ticket.sla_policy)
    assert (promised.display_name, before.sla_policy == ticket.sla_policy) == (title, False)
