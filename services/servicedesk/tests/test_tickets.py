"""Tickets through the front door: who sees them, what moves them, and which facts they tell."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.servicedesk.v1 import pb
from crmkit.auth import system
from crmkit.testing import Client, Refused, Service
from servicedesk.jobs import forget_pages
from uuid_utils.compat import uuid7

STATES = ("ACKNOWLEDGED", "IN_PROGRESS", "HELD", "PENDING", "RESOLVED", "CLOSED", "REJECTED", "CANCELLED")
VERBS: dict[str, dict[str, Any]] = {
    "StartTicket": {}, "HoldTicket": {}, "WaitTicket": {"awaiting": "CUSTOMER"}, "ResumeTicket": {},
    "ResolveTicket": {"code": "FIXED", "text": "已更换电源"}, "CloseTicket": {}, "ReopenTicket": {"reason": "又坏了"},
    "RejectTicket": {"reason": "重复"}, "CancelTicket": {"reason": "客户撤回"},
}  # fmt: skip
MOVES = {
    ("ACKNOWLEDGED", "StartTicket"): "IN_PROGRESS",
    ("ACKNOWLEDGED", "RejectTicket"): "REJECTED",
    ("ACKNOWLEDGED", "CancelTicket"): "CANCELLED",
    ("IN_PROGRESS", "HoldTicket"): "HELD",
    ("HELD", "ResumeTicket"): "IN_PROGRESS",
    ("IN_PROGRESS", "WaitTicket"): "PENDING",
    ("PENDING", "ResumeTicket"): "IN_PROGRESS",
    ("PENDING", "CancelTicket"): "CANCELLED",
    ("IN_PROGRESS", "CancelTicket"): "CANCELLED",
    ("IN_PROGRESS", "ResolveTicket"): "RESOLVED",
    ("RESOLVED", "CloseTicket"): "CLOSED",
    ("RESOLVED", "ReopenTicket"): "IN_PROGRESS",
}
WAY = {
    "ACKNOWLEDGED": [], "IN_PROGRESS": ["StartTicket"], "HELD": ["StartTicket", "HoldTicket"],
    "PENDING": ["StartTicket", "WaitTicket"], "RESOLVED": ["StartTicket", "ResolveTicket"],
    "CLOSED": ["StartTicket", "ResolveTicket", "CloseTicket"], "REJECTED": ["RejectTicket"], "CANCELLED": ["CancelTicket"],
}  # fmt: skip
TOLD = ("TicketStateChanged", "TicketResolved", "TicketReopened", "TicketClosed")


async def opened(client: Client, **more: Any) -> pb.Ticket:
    body = {
        "displayName": "电源故障", "description": "设备无法启动", "type": "INCIDENT", "severity": "MAJOR",
        "requesterAddress": "13900001111",
    }  # fmt: skip
    return await client.CreateTicket(ticket={**body, **more})


async def told(service: Service, name: str) -> list[str]:
    """The state facts of the ticket."""
    return [fact for fact in TOLD for _ in await service.facts(f"crm.servicedesk.v1.{fact}", name)]


@pytest.mark.parametrize("state", STATES)
async def test_listed_moves_tell_one_fact_and_all_others_are_refused(
    servicedesk: Service, state: str
) -> None:
    agent = servicedesk.client("agent")
    for verb, fields in VERBS.items():
        ticket = await opened(agent)
        for step in WAY[state]:
            ticket = await getattr(agent, step)(name=ticket.name, **VERBS[step])
        before = await told(servicedesk, ticket.name)
        if to := MOVES.get((state, verb)):
            moved = await getattr(agent, verb)(name=ticket.name, etag=ticket.etag, **fields)
            assert pb.Ticket.State.Name(moved.state) == to
            assert len(await told(servicedesk, ticket.name)) == len(before) + 1
        else:
            with pytest.raises(Refused) as refused:
                await getattr(agent, verb)(name=ticket.name, **fields)
            assert refused.value.reason == "ILLEGAL_TRANSITION", (state, verb)
            assert await agent.GetTicket(name=ticket.name) == ticket
            assert await told(servicedesk, ticket.name) == before


async def test_a_solution_a_reason_and_whom_one_waits_for_must_be_said(servicedesk: Service) -> None:
    agent = servicedesk.client("agent")
    ticket = await opened(agent)
    for verb, reason in (("RejectTicket", "REASON_REQUIRED"), ("CancelTicket", "REASON_REQUIRED")):
        with pytest.raises(Refused) as refused:
            await getattr(agent, verb)(name=ticket.name)
        assert refused.value.reason == reason
    await agent.StartTicket(name=ticket.name)
    for verb, fields, reason in (
        ("WaitTicket", {}, "AWAITING_REQUIRED"),
        ("ResolveTicket", {"text": "好了"}, "RESOLUTION_REQUIRED"),
        ("ResolveTicket", {"code": "FIXED"}, "RESOLUTION_REQUIRED"),
    ):
        with pytest.raises(Refused) as refused:
            await getattr(agent, verb)(name=ticket.name, **fields)
        assert refused.value.reason == reason
    with pytest.raises(Refused) as refused:
        await opened(agent, requesterAddress="")
    assert refused.value.reason == "REQUESTER_REQUIRED"
    assert (await opened(agent, requesterAddress="", channel="INTERNAL")).state == pb.Ticket.ACKNOWLEDGED


async def test_a_request_answered_at_once_is_stored_resolved_in_one_call(servicedesk: Service) -> None:
    agent = servicedesk.client("agent")
    body = {
        "displayName": "询问营业时间", "description": "周末是否营业", "type": "CONSULTATION", "severity": "MINOR",
        "requesterAddress": "13900002222",
    }  # fmt: skip
    with pytest.raises(Refused) as refused:
        await agent.LogTicket(ticket=body, text="周六营业")
    assert refused.value.reason == "RESOLUTION_REQUIRED"
    ticket = await agent.LogTicket(ticket=body, code="ANSWERED", text="周六营业", requestId=uuid4().hex)
    assert (ticket.state, ticket.resolution.text) == (pb.Ticket.RESOLVED, "周六营业")
    assert ticket.number.startswith("TK")
    assert sorted(await told(servicedesk, ticket.name)) == ["TicketResolved", "TicketStateChanged"]


async def test_the_call_that_somebody_asked_for_solves_his_ticket_once(servicedesk: Service) -> None:
    ticket = await opened(servicedesk.client("agent"), type="CALLBACK", severity="MINOR")

    async def wrapped(disposition: str, **more: Any) -> None:
        call = {"name": f"calls/{uuid7()}", "disposition": disposition, **more}
        fact = {"call": call, "ticket": ticket.name}
        for _ in range(2):
            await servicedesk.tell("crm.sales.v1.CallWrappedUp", fact, call["name"])

    await wrapped("NO_ANSWER")
    await wrapped("REACHED", summary="已报价")

    async def solved() -> Any:
        found = await servicedesk.admin.GetTicket(name=ticket.name)
        return found if found.state == pb.Ticket.RESOLVED else None

    found = await servicedesk.eventually(solved, 30)
    assert (found.resolution.code, found.resolution.text) == ("CALLED_BACK", "已报价")
    await wrapped("REACHED", summary="再说一次")
    assert await told(servicedesk, ticket.name) == ["TicketStateChanged", "TicketResolved"]


async def test_a_ticket_goes_to_the_department_of_its_queue_and_its_opener_goes_on_seeing_it(
    servicedesk: Service,
) -> None:
    agent, people = servicedesk.client("agent"), servicedesk.person
    queue = await servicedesk.client("service").CreateQueue(
        queue={"displayName": "售后一线", "department": people("agent").department}
    )
    ticket = await opened(servicedesk.sales1, queue=queue.name)
    assert ticket.department == people("agent").department
    with pytest.raises(Refused):
        await servicedesk.sales2.GetTicket(name=ticket.name)
    assigned = await agent.AssignTicket(name=ticket.name, assignee=people("agent").employee)
    assert (assigned.owner, assigned.assignee) == (people("agent").employee,) * 2
    assert (await servicedesk.sales1.GetTicket(name=ticket.name)).assignee == people("agent").employee
    await agent.AssignTicket(name=ticket.name, assignee=people("service").employee)
    released = await agent.ReleaseTicket(name=ticket.name)
    assert (released.owner, released.assignee) == ("", "")
    facts = await servicedesk.facts("crm.servicedesk.v1.TicketAssigned", ticket.name)
    assert [(fact.get("from", ""), fact.get("to", ""), fact["rule"]) for fact in facts] == [
        ("", people("agent").employee, "ASSIGN"),
        (people("agent").employee, people("service").employee, "ASSIGN"),
        (people("service").employee, "", "RELEASE"),
    ]


async def test_only_members_of_a_queue_who_work_here_are_given_its_tickets(servicedesk: Service) -> None:
    service, people = servicedesk.client("service"), servicedesk.person
    queue = await service.CreateQueue(
        queue={"displayName": "专家组", "members": [people("service").employee]}
    )
    ticket = await opened(service, queue=queue.name)
    with pytest.raises(Refused) as refused:
        await service.AssignTicket(name=ticket.name, assignee=people("agent").employee)
    assert refused.value.reason == "NOT_QUEUE_MEMBER"
    with pytest.raises(Refused) as refused:
        await service.AssignTicket(
            name=ticket.name, assignee="employees/01900000-0000-7000-8000-00000000beef"
        )
    assert refused.value.reason in {"EMPLOYEE_INACTIVE", "UNKNOWN_REFERENCE"}
    assert (await service.AssignTicket(name=ticket.name, assignee=people("service").employee)).assignee


async def test_whoever_lacks_the_permission_cannot_work_on_a_ticket(servicedesk: Service) -> None:
    ticket = await opened(servicedesk.sales1)
    for verb, fields in VERBS.items():
        with pytest.raises(Refused) as refused:
            await getattr(servicedesk.sales1, verb)(name=ticket.name, **fields)
        assert refused.value.reason == "PERMISSION_DENIED", verb


async def test_the_customer_sees_its_own_ticket_without_notes_and_its_words_go_on_with_it(
    servicedesk: Service,
) -> None:
    customer, agent = servicedesk.client("customer"), servicedesk.client("service")
    ticket = await opened(customer, requesterAddress="", account="")
    assert (ticket.channel, ticket.account) == (pb.Ticket.PORTAL, servicedesk.person("customer").account)
    admin = servicedesk.admin
    await admin.AssignTicket(name=ticket.name, assignee=servicedesk.person("service").employee)
    await agent.StartTicket(name=ticket.name)
    await agent.CommentTicket(name=ticket.name, text="客户可能操作不当", internal=True)
    await agent.CommentTicket(name=ticket.name, text="请提供设备序列号")
    await agent.WaitTicket(name=ticket.name, awaiting="CUSTOMER")
    seen = await customer.GetTicket(name=ticket.name)
    assert [message.text for message in seen.messages] == ["请提供设备序列号"]
    assert not seen.notes
    assert [note.text for note in (await agent.GetTicket(name=ticket.name)).notes] == ["客户可能操作不当"]
    answered = await customer.CommentTicket(name=ticket.name, text="序列号 A1", internal=True)
    assert (answered.state, answered.messages[-1].from_customer) == (pb.Ticket.IN_PROGRESS, True)
    await agent.ResolveTicket(name=ticket.name, code="FIXED", text="已更换")
    again = await customer.CommentTicket(name=ticket.name, text="还是不行")
    assert (again.state, again.reopen_count) == (pb.Ticket.IN_PROGRESS, 1)
    with pytest.raises(Refused):
        await servicedesk.client("customer", account=f"accounts/{uuid7()}").GetTicket(name=ticket.name)


async def test_a_complaint_is_solved_when_every_step_is_done(servicedesk: Service) -> None:
    agent = servicedesk.client("agent")
    ticket = await opened(agent, type="COMPLAINT")
    await agent.StartTicket(name=ticket.name)
    for step in [step.key for step in ticket.steps]:
        with pytest.raises(Refused) as refused:
            await agent.ResolveTicket(name=ticket.name, code="SETTLED", text="已赔付")
        assert (refused.value.reason, refused.value.info.metadata["step"]) == ("COMPLAINT_STEP_OPEN", step)
        ticket = await agent.CompleteTicketStep(name=ticket.name, text=f"完成{step}")
    assert {step.actor for step in ticket.steps} == {servicedesk.person("agent").employee}
    with pytest.raises(Refused) as refused:
        await agent.CompleteTicketStep(name=ticket.name, text="多余")
    assert refused.value.reason == "STEP_NOT_OPEN"
    assert (
        await agent.ResolveTicket(name=ticket.name, code="SETTLED", text="已赔付")
    ).state == pb.Ticket.RESOLVED


async def test_a_ticket_with_open_parts_is_not_solved(servicedesk: Service) -> None:
    agent = servicedesk.client("agent")
    whole = await opened(agent)
    part = await opened(agent, parent=whole.name)
    await agent.StartTicket(name=whole.name)
    with pytest.raises(Refused) as refused:
        await agent.ResolveTicket(name=whole.name, code="FIXED", text="好了")
    assert refused.value.reason == "CHILDREN_OPEN"
    await agent.CancelTicket(name=part.name, reason="并入")
    assert (await agent.ResolveTicket(name=whole.name, code="FIXED", text="好了")).state == pb.Ticket.RESOLVED


@pytest.mark.capability("c.interact")
async def test_a_forwarded_complaint_becomes_one_ticket_however_often_it_comes(servicedesk: Service) -> None:
    name, account = f"interactions/{uuid7()}", f"accounts/{uuid7()}"
    agent = servicedesk.person("agent")
    interaction = {
        "name": name, "summary": "客户投诉交货延误", "account": account, "channel": "EMAIL",
        "owner": servicedesk.person("sales1").employee, "department": servicedesk.person("sales1").department,
    }  # fmt: skip
    fact = {"interaction": interaction, "departments": [agent.department], "kind": "COMPLAINT"}
    other = {**fact, "kind": "IDEA", "interaction": {**interaction, "name": f"interactions/{uuid7()}"}}
    for payload in (other, fact, fact):
        await servicedesk.tell(
            "crm.customer.v1.InteractionForwarded", payload, payload["interaction"]["name"]
        )

    async def tickets() -> list[pb.Ticket]:
        page = await servicedesk.client("agent").ListTickets(filter=f'account = "{account}"')
        return list(page.tickets)

    found = await servicedesk.eventually(tickets)
    await servicedesk.tell("crm.customer.v1.InteractionForwarded", fact, name)
    mark = {
        **fact,
        "interaction": {**interaction, "name": f"interactions/{uuid7()}", "account": f"accounts/{uuid7()}"},
    }
    await servicedesk.tell("crm.customer.v1.InteractionForwarded", mark, name)
    await servicedesk.eventually(lambda: _source(servicedesk, mark["interaction"]["name"]))
    assert len(await tickets()) == 1
    (ticket,) = found
    assert (ticket.type, ticket.channel, ticket.source) == (pb.Ticket.COMPLAINT, pb.Ticket.MAIL, name)
    assert ticket.department == agent.department
    assert (await servicedesk.sales1.GetTicket(name=ticket.name)).steps


async def _source(service: Service, name: str) -> bool:
    return bool((await service.admin.ListTickets(filter=f'source = "{name}"')).tickets)


async def test_an_agent_serves_the_customers_and_orders_of_every_department(servicedesk: Service) -> None:
    owner = servicedesk.person("sales1")
    names: dict[str, str] = {}
    for collection, area in (("accounts", "customer"), ("orders", "orders")):
        names[collection] = name = f"{collection}/{uuid7()}"
        resource = {
            "name": name,
            "displayName": "样例",
            "owner": owner.employee,
            "department": owner.department,
        }
        payload = {"name": name, "action": "CREATED", "actor": "employees/x", "resource": resource}
        await servicedesk.tell(f"crm.{area}.v1.ResourceChanged", payload, name)
    agent = servicedesk.client("agent")
    ticket = await opened(agent, account=names["accounts"], order=names["orders"], requesterAddress="")
    found = await agent.ListTickets(filter=f'order = "{names["orders"]}"')
    assert [one.name for one in found.tickets] == [ticket.name]
    with pytest.raises(Refused) as refused:
        await opened(servicedesk.sales2, account=names["accounts"])
    assert refused.value.violations == {"ticket.account": "UNKNOWN_REFERENCE"}


async def test_a_visitor_asks_to_be_called_and_what_he_looked_at_is_kept_only_where_he_agrees(
    servicedesk: Service,
) -> None:
    visitor = Client(servicedesk.running, servicedesk.channel, "")
    quiet = await servicedesk.admin.CreateQueue(queue={"displayName": "内部"})
    queue = await servicedesk.admin.CreateQueue(queue={"displayName": "网站", "webCallbacks": True})
    pages = [
        {
            "address": "https://shop.example/sorter?utm=1#top",
            "title": "分拣机",
            "time": "2026-11-22T01:00:00Z",
        }
    ]
    phones = [f"+86139{uuid4().int % 10**8:08d}" for _ in range(3)]

    async def ask(phone: str, **fields: Any) -> Any:
        await visitor.AskCallBack(name=queue.name, phone=phone, pages=pages, note="多少钱", **fields)
        wanted = f'requester_address = "{phone}"'
        return list((await servicedesk.admin.ListTickets(filter=wanted)).tickets)

    [silent] = await ask(phones[0])
    assert (silent.type, silent.channel, len(silent.pages)) == (pb.Ticket.CALLBACK, pb.Ticket.FORM, 0)
    [told] = await ask(phones[1], pagesConsent=True, person="王女士")
    assert [(page.address, page.title) for page in told.pages] == [("https://shop.example/sorter", "分拣机")]
    assert told.queue == queue.name
    assert "王女士" in told.display_name
    [fact] = await servicedesk.facts("crm.servicedesk.v1.TicketOpened", told.name)
    assert fact["ticket"]["pages"][0]["title"] == "分拣机"
    # Impatience makes no second one; machines make none and are told the same.
    assert len(await ask(phones[1][3:], pagesConsent=True)) == 0
    assert len(await ask(phones[1])) == 1
    assert len(await ask(phones[2], website="http://spam")) == 0
    for where, phone, reason in (
        (quiet, phones[2], "NO_CALLBACKS"), (queue, "12", "PHONE_NEEDED"),
    ):  # fmt: skip
        with pytest.raises(Refused) as refused:
            await visitor.AskCallBack(name=where.name, phone=phone)
        assert refused.value.reason == reason
    # After thirty days nobody knows any more what he looked at.
    async with servicedesk.running.call("test", system("servicedesk")) as call:
        await forget_pages(call.now + timedelta(days=29), call)
    assert (await servicedesk.admin.GetTicket(name=told.name)).pages
    async with servicedesk.running.call("test", system("servicedesk")) as call:
        await forget_pages(call.now + timedelta(days=31), call)
    assert not (await servicedesk.admin.GetTicket(name=told.name)).pages
