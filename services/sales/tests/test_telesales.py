"""Selling by telephone: lists, promises, scripts, and an exchange of our own on a real port."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.phones import e164
from crmkit.testing import Client, Refused, Service
from local_platform.pbx import Exchange
from local_platform.people import Person
from sales.jobs import mind_calls
from sales.model.call_list import CallEntry, DoNotCall
from sales.model.call_script import dead_ends
from sales.model.calling_hours import Hours, zone_of
from sales.model.phone_call import PhoneCall
from sqlalchemy import insert, select, update

Made = Callable[..., Awaitable[Any]]
Entry, Phone = pb.CallEntry, pb.Call
ALWAYS = {"fromHour": 0, "toHour": 24}


def number() -> str:
    """A mobile number of nobody that answers when it is called."""
    return f"+86139{uuid4().int % 10**7:07d}9"


@pytest.fixture
def calls(sales: Service) -> Made:
    """A running list of sales1 and sales2 that the manager has made, with numbers on it."""

    async def make(*numbers: str, **fields: Any) -> Any:
        members = [{"employee": sales.person(name).employee} for name in ("sales1", "sales2")]
        typed = [{"displayName": f"客户{n}", "number": one} for n, one in enumerate(numbers)]
        body = {"displayName": "新品回访", "members": members, "numbers": typed, **fields}
        made = await sales.manager.CreateCallList(callList=body)
        await sales.manager.GenerateCallList(name=made.name)
        return await sales.manager.StartCallList(name=made.name)

    return make


@pytest.fixture
async def any_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every day is a working day, from midnight on: whether this moment is, is not what the test is about."""
    monkeypatch.setattr("sales.model.calling_hours.is_working_day", lambda day: True)
    # A list that begins at no hour begins at nine; here it begins at midnight, at whatever hour the test runs.
    monkeypatch.setattr("sales.model.call_list.OPENS", 0)


async def entries(sales: Service, book: str) -> list[Any]:
    """Everybody on a list."""
    return list(
        (await sales.admin.ListCallEntries(filter=f'call_list = "{book}"', pageSize=100)).call_entries
    )


async def minute(sales: Service, when: datetime) -> None:
    """The job of a minute."""
    async with sales.running.call("mind_calls", system("sales")) as call:
        await mind_calls(when, call)


def test_hours_are_those_of_the_place_that_is_called() -> None:
    shanghai = zone_of("+8613900000009")
    assert shanghai == ZoneInfo("Asia/Shanghai")
    assert zone_of("+4930901820") == ZoneInfo("Europe/Berlin")
    # Where people live counts before what their number tells: whoever has moved takes it with him.
    assert zone_of("+8613900000009", "650104") == ZoneInfo("Asia/Urumqi")
    assert (zone_of("+4930901820", "440300"), zone_of("12")) == (shanghai, shanghai)
    # The last Monday of September 2026 is a working day like any other; the first week of October is not.
    monday = datetime(2026, 9, 28, 10, tzinfo=shanghai)
    assert Hours().next_open(monday, shanghai) == monday
    assert Hours().next_open(monday.replace(hour=8), shanghai) == monday.replace(hour=9)
    assert Hours().next_open(monday.replace(hour=20), shanghai) == monday.replace(day=29, hour=9)
    holiday = datetime(2025, 10, 1, 10, tzinfo=shanghai)
    assert Hours().next_open(holiday, shanghai) == datetime(2025, 10, 9, 9, tzinfo=shanghai)
    # A Sunday that makes up for a holiday counts.
    made_up = datetime(2025, 9, 28, 10, tzinfo=shanghai)
    assert Hours().next_open(made_up, shanghai) == made_up
    assert (e164("139 0000 0009"), e164("12")) == ("+8613900000009", "")


def test_a_script_has_an_end_on_every_way() -> None:
    def node(key: str, **branches: str) -> Any:
        told = [pb.CallScript.Branch(answer=answer, next=following) for answer, following in branches.items()]
        return pb.CallScript.Node(key=key, text=key, branches=told)

    assert dead_ends([node("a", yes="b", no=""), node("b")]) == []
    assert dead_ends([node("a", yes="c", no="")]) == ["a"]
    assert dead_ends([node("a"), node("b")]) == ["b"]
    assert dead_ends([node("a", go="b"), node("b", back="a")]) == ["a", "b"]
    assert dead_ends([]) == ["-"]


async def test_scripts_are_used_in_versions(sales: Service) -> None:
    nodes = [
        {"key": "hello", "text": "您好", "question": "现在方便吗", "field": "convenient",
         "branches": [{"answer": "是", "next": "offer"}, {"answer": "否"}]},
        {"key": "offer", "text": "介绍新品"},
    ]  # fmt: skip
    faq = [{"question": "多少钱", "answer": "按配置报价"}]
    first = await sales.manager.CreateCallScript(
        callScript={"displayName": "新品", "nodes": nodes, "faq": faq}
    )
    await sales.manager.ActivateCallScript(name=first.name)
    with pytest.raises(Refused) as refused:
        await sales.manager.UpdateCallScript(
            callScript={"name": first.name, "displayName": "x"}, updateMask="displayName"
        )
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    second = await sales.manager.NewCallScriptVersion(name=first.name)
    broken = {"name": second.name, "nodes": [{**nodes[0], "branches": [{"answer": "是", "next": "nowhere"}]}]}
    await sales.manager.UpdateCallScript(callScript=broken, updateMask="nodes")
    with pytest.raises(Refused) as refused:
        await sales.manager.ActivateCallScript(name=second.name)
    assert (refused.value.reason, refused.value.info.metadata["nodes"]) == ("SCRIPT_DEAD_END", "hello")
    await sales.manager.UpdateCallScript(callScript={"name": second.name, "nodes": nodes}, updateMask="nodes")
    assert (await sales.manager.ActivateCallScript(name=second.name)).version_number == 2
    assert (await sales.sales1.GetCallScript(name=first.name)).state == pb.CallScript.RETIRED


@pytest.mark.capability("s.telesales")
async def test_a_list_is_made_of_filters_and_records_and_says_whom_it_leaves_out(
    sales: Service, calls: Made, account: Made
) -> None:
    tag, taken, shut = uuid4().hex[:8], number(), number()
    for n, phone in enumerate((number(), number(), taken, "12")):
        lead = {
            "displayName": f"{tag}{n}",
            "companyName": f"{tag}{n}",
            "channel": "PHONE",
            "phones": [{"number": phone, "primary": True}],
        }
        await sales.sales1.CreateLead(lead=lead)
    other = await calls(taken)
    shy = await account(phones=[{"number": shut, "primary": True}])
    consent = {"subject": shy, "channel": "CALL", "purpose": "MARKETING", "decision": "WITHDRAWN"}
    await sales.tell("crm.customer.v1.ConsentChanged", {"consent": consent}, f"consents/{uuid4()}")

    async def refused_to() -> Any:
        body = {"displayName": "y", "subjects": [shy]}
        probe = await sales.manager.CreateCallList(callList=body)
        return (await sales.manager.GenerateCallList(name=probe.name, preview=True)).do_not_call

    await sales.eventually(refused_to, 30)
    willing = await account(phones=[{"number": "12"}, {"number": number()}])
    body = {
        "displayName": "名单", "leadFilter": f'company_name : "{tag}"', "subjects": [shy, willing],
        "members": [{"employee": sales.person("sales1").employee, "weight": 3}, {"employee": sales.person("sales2").employee, "weight": 1}],
    }  # fmt: skip
    book = await sales.admin.CreateCallList(callList=body)
    with pytest.raises(Refused):
        await sales.admin.CreateCallList(callList={**body, "leadFilter": "nonsense ="})

    async def arrived() -> bool:
        return (await sales.admin.GenerateCallList(name=book.name, preview=True)).added == 3

    await sales.eventually(arrived, 30)
    wanted = {"found": 6, "added": 3, "no_number": 1, "do_not_call": 1, "duplicates": 1}
    for preview, there in ((True, 0), (False, 3)):
        told = await sales.admin.GenerateCallList(name=book.name, preview=preview)
        assert {name: getattr(told, name) for name in wanted} == wanted
        assert len(await entries(sales, book.name)) == there
    assert (await sales.admin.GenerateCallList(name=book.name)).added == 0
    shares = (await sales.admin.DistributeCallList(name=book.name, method="WEIGHTED")).shares
    assert sorted(share.entries for share in shares) == [1, 2]
    by_owner = (await sales.admin.DistributeCallList(name=book.name, method="OWNER", again=True)).shares
    assert {share.employee: share.entries for share in by_owner}[sales.person("sales1").employee] == 3
    # Who is not a member calls nobody.
    with pytest.raises(Refused) as refused:
        await sales.client("everything").NextCallEntry(name=other.name)
    assert refused.value.reason == "NOT_FOUND"


@pytest.mark.capability("s.telesales")
async def test_twenty_agents_at_once_get_twenty_different_people(sales: Service, calls: Made) -> None:
    people = [hired(sales, n) for n in range(20)]
    async with sales.parts.configuration() as config:
        for person in people:
            entry = {"department": person.department, "disabled": False, "roles": list(person.roles)}
            await config.put(
                f"employee.{person.employee.partition('/')[2]}", {**entry, "displayName": person.zh}
            )
    agents = [Client(sales.running, sales.channel, sales.parts.issuer.token(person)) for person in people]
    members = [{"employee": person.employee} for person in people]

    async def known() -> bool:
        async with sales.running.call("test", system("sales")) as call:
            return all(call.entry(person.employee or "") for person in people)

    await sales.eventually(known)
    members += [{"employee": sales.person(name).employee} for name in ("sales1", "sales2")]
    book = await calls(*(number() for _ in range(25)), members=members)
    got = await asyncio.gather(*(agent.NextCallEntry(name=book.name) for agent in agents))
    assert len({entry.name for entry in got}) == len({entry.number_called for entry in got}) == 20
    assert {entry.locked_by for entry in got} == {person.employee for person in people}
    # Pressed again, each keeps his own; two more get two others.
    again = await asyncio.gather(*(agent.NextCallEntry(name=book.name) for agent in agents))
    assert [entry.name for entry in again] == [entry.name for entry in got]
    [one, two] = await asyncio.gather(
        sales.sales1.NextCallEntry(name=book.name), sales.sales2.NextCallEntry(name=book.name)
    )
    assert len({one.name, two.name, *(entry.name for entry in got)}) == 22
    # What is kept too long goes back to its place.
    async with sales.running.call("test", system("sales")) as call:
        past = call.now - timedelta(seconds=1)
        await call.db.execute(
            update(CallEntry).where(CallEntry.call_list == book.name).values(lock_until_time=past)
        )
    await minute(sales, datetime.now(UTC))
    assert {entry.state for entry in await entries(sales, book.name)} == {Entry.NEW}
    finished = await sales.manager.FinishCallList(name=book.name)
    assert finished.state == pb.CallList.FINISHED
    assert {entry.state for entry in await entries(sales, book.name)} == {Entry.SKIPPED}


@pytest.mark.capability("s.telesales")
@pytest.mark.usefixtures("any_day")
async def test_entries_come_in_their_order_and_whoever_will_not_be_called_is_left_out_at_next_and_at_dial(
    sales: Service, calls: Made
) -> None:
    me, other = sales.person("sales1").employee, sales.person("sales2").employee
    shut, mine, retry, forgotten, fresh, late = (number() for _ in range(6))
    book = await calls(shut, mine, retry, forgotten, fresh, late, **ALWAYS)
    async with sales.running.call("test", system("sales")) as call:
        rows = {
            row.number_called: row
            for row in await call.db.scalars(select(CallEntry).where(CallEntry.call_list == book.name))
        }
        for one, agent, state, ago in (
            (mine, me, "CALLBACK", 1), (retry, me, "RETRY", 2), (forgotten, other, "CALLBACK", 31),
            (late, other, "CALLBACK", 5),
        ):  # fmt: skip
            rows[one].owner, rows[one].state = agent, state
            rows[one].next_time = call.now - timedelta(minutes=ago)
        rows[fresh].score, rows[shut].score = 50, 90
        # Withdrawn in the moment in which it was nobody's: no other part has looked through the lists yet.
        await call.db.execute(insert(DoNotCall).values(key=shut))
    seen: list[str] = []
    for _ in range(4):
        entry = await sales.sales1.NextCallEntry(name=book.name)
        seen.append(entry.number_called)
        done = await sales.sales1.DialCallEntry(name=entry.name)
        await sales.sales1.WrapUpCall(name=done.name, disposition="REACHED")
    # His own promise, his own second try, what another forgot for half an hour, then what is new. A promise that is
    # another's and only just due stays his; the best new one is not called.
    assert seen == [mine, retry, forgotten, fresh]
    with pytest.raises(Refused) as refused:
        await sales.sales1.NextCallEntry(name=book.name)
    assert refused.value.reason == "LIST_EMPTY"
    skipped = {one.number_called: one for one in await entries(sales, book.name)}[shut]
    assert (skipped.state, skipped.skip_reason) == (Entry.SKIPPED, "DO_NOT_CALL")
    # Whoever has him before his eyes already does not dial him either.
    kept = await sales.sales2.NextCallEntry(name=book.name)
    assert kept.number_called == late
    async with sales.running.call("test", system("sales")) as call:
        await call.db.execute(insert(DoNotCall).values(key=late))
    with pytest.raises(Refused) as refused:
        await sales.sales2.DialCallEntry(name=kept.name)
    assert refused.value.reason == "DO_NOT_CALL"


def hired(sales: Service, number_: int) -> Person:
    """An agent of the eastern branch."""
    return replace(
        sales.person("sales1"),
        username=f"agent{number_}",
        employee=f"employees/{uuid4()}",
    )


@pytest.mark.capability("s.telesales")
@pytest.mark.usefixtures("any_day")
async def test_what_was_promised_comes_first_and_whoever_will_not_be_called_is_not(
    sales: Service, calls: Made
) -> None:
    first, second, third = number(), number(), number()
    book = await calls(first, second, third, maxAttempts=2, **ALWAYS)
    entry = await sales.sales1.NextCallEntry(name=book.name)
    made = await sales.sales1.DialCallEntry(name=entry.name)
    assert (made.state, made.to_number, made.direction) == (
        Phone.DIALLING,
        entry.number_called,
        Phone.OUTBOUND,
    )
    with pytest.raises(Refused) as refused:
        await sales.sales1.NextCallEntry(name=book.name)
    assert refused.value.reason == "CALL_NOT_WRAPPED_UP"
    with pytest.raises(Refused) as refused:
        await sales.sales2.DialCallEntry(name=entry.name)
    assert refused.value.reason == "ENTRY_TAKEN"
    # Without an exchange the agent says when they talk.
    assert (await sales.sales1.AnswerCall(name=made.name)).state == Phone.CONNECTED
    for fields, reason in (
        ({}, "DISPOSITION_UNKNOWN"),
        ({"disposition": "CALLBACK"}, "CALLBACK_IN_PAST"),
        ({"disposition": "CALLBACK", "callbackTime": "2026-01-01T02:00:00Z"}, "CALLBACK_IN_PAST"),
    ):
        with pytest.raises(Refused) as refused:
            await sales.sales1.WrapUpCall(name=made.name, **fields)
        assert refused.value.reason == reason
    promised = (datetime.now(UTC) + timedelta(minutes=5)).replace(microsecond=0)
    done = await sales.sales1.WrapUpCall(
        name=made.name, disposition="CALLBACK", callbackTime=promised.isoformat(), callbackNote="问预算",
        summary="下午再谈", answers=[{"field": "convenient", "value": "否"}],
    )  # fmt: skip
    assert (done.state, done.answers[0].value) == (Phone.WRAPPED, "否")
    [told] = await sales.facts("crm.sales.v1.CallbackScheduled", made.name)
    assert (told["call"]["owner"], told["entry"], told["note"]) == (
        sales.person("sales1").employee,
        entry.name,
        "问预算",
    )
    assert datetime.fromisoformat(told["time"]) == promised
    assert len(await sales.facts("crm.sales.v1.CallWrappedUp", made.name)) == 1
    # Somebody else waits; the promise is not due and nobody's before.
    following = await sales.sales1.NextCallEntry(name=book.name)
    assert following.name != entry.name
    with pytest.raises(Refused) as refused:
        await sales.sales1.DialCallEntry(name=f"callEntries/{uuid4()}")
    assert refused.value.reason == "NOT_FOUND"
    call = await sales.sales1.DialCallEntry(name=following.name)
    await sales.sales1.WrapUpCall(name=call.name, disposition="NO_ANSWER")
    # Too soon to try again.
    with pytest.raises(Refused) as refused:
        await sales.sales1.DialCallEntry(name=following.name)
    assert (refused.value.reason, "T" in refused.value.info.metadata["next"]) == ("CALL_NOT_ALLOWED", True)
    # At the promised minute the agent is told, once; an hour later the supervisor too.
    for when in (promised - timedelta(minutes=1), promised, promised, promised + timedelta(minutes=61)):
        await minute(sales, when)
    notices = await sales.facts("crm.sales.v1.NoticeRaised", entry.name)
    assert [(one.get("rung", 0), len(one["employees"])) for one in notices] == [(0, 1), (1, 2)]
    async with sales.running.call("test", system("sales")) as call_:
        past = call_.now - timedelta(minutes=1)
        await call_.db.execute(
            update(CallEntry).where(CallEntry.id == entry.name.rpartition("/")[2]).values(next_time=past)
        )
    # Due: before everything that is new. Half an hour late anybody of the list keeps it.
    assert (await sales.sales2.NextCallEntry(name=book.name)).name != entry.name
    again = await sales.sales1.NextCallEntry(name=book.name)
    assert again.name == entry.name
    # He changes his mind while the agent looks at him.
    consent = {
        "subject": f"contacts/{uuid4()}",
        "channel": "CALL",
        "purpose": "MARKETING",
        "decision": "WITHDRAWN",
    }
    await sales.tell("crm.customer.v1.ConsentChanged", {"consent": consent}, f"consents/{uuid4()}")
    kept = await sales.sales1.DialCallEntry(name=again.name)
    await sales.sales1.WrapUpCall(name=kept.name, disposition="DO_NOT_CALL")
    gone = await sales.admin.GetCallEntry(name=entry.name)
    assert (gone.state, gone.skip_reason, gone.attempts) == (Entry.SKIPPED, "DO_NOT_CALL", 2)
    later = await sales.manager.CreateCallList(
        callList={"displayName": "再来", "numbers": [{"number": entry.number_called}]}
    )
    assert (await sales.manager.GenerateCallList(name=later.name)).do_not_call == 1


@pytest.mark.usefixtures("any_day")
async def test_outside_the_hours_nobody_is_called_and_the_next_time_is_named(
    sales: Service, calls: Made
) -> None:
    here = datetime.now(ZoneInfo("Asia/Shanghai"))
    closed = {"fromHour": 22, "toHour": 23} if here.hour < 20 else {"fromHour": 1, "toHour": 2}
    book = await calls(number(), **closed)
    entry = await sales.sales1.NextCallEntry(name=book.name)
    with pytest.raises(Refused) as refused:
        await sales.sales1.DialCallEntry(name=entry.name)
    assert refused.value.reason == "CALL_NOT_ALLOWED"
    opens = datetime.fromisoformat(refused.value.info.metadata["next"])
    assert (opens.hour, opens.utcoffset()) == (closed["fromHour"], timedelta(hours=8))
    await sales.sales1.SkipCallEntry(name=entry.name, reason="号码已停用")
    with pytest.raises(Refused) as refused:
        await sales.sales1.NextCallEntry(name=book.name)
    assert refused.value.reason == "LIST_EMPTY"


@pytest.mark.usefixtures("any_day")
async def test_what_somebody_promised_who_leaves_goes_to_the_supervisor(sales: Service, calls: Made) -> None:
    one, two = number(), number()
    book = await calls(one, two, **ALWAYS)
    leaver = f"employees/{uuid4()}"
    async with sales.running.call("test", system("sales")) as call:
        rows = list(
            await call.db.scalars(
                select(CallEntry).where(CallEntry.call_list == book.name).order_by(CallEntry.id)
            )
        )
        for row in rows:
            row.owner = leaver
        rows[0].outcome("CALLBACK", leaver, call.now, "", 3)
        rows[1].state, rows[1].next_time = "RETRY", call.now - timedelta(hours=1)
        again = rows[1].name
    await sales.tell("crm.workspace.v1.EmployeeOffboarded", {"employee": {"name": leaver}}, leaver)

    async def given() -> Any:
        found = {entry.owner for entry in await entries(sales, book.name)}
        return found if leaver not in found else None

    assert await sales.eventually(given, 30) == {sales.person("manager").employee, ""}
    # Who was not reached is for whoever is free.
    assert (await sales.sales1.NextCallEntry(name=book.name)).name == again


@pytest.mark.capability("s.telesales")
@pytest.mark.usefixtures("any_day")
async def test_an_exchange_dials_and_tells_in_any_order_twice_or_never(sales: Service) -> None:
    told = asyncio.Queue[dict[str, Any]]()
    exchange = Exchange(told.put, ring=0.05, talk=0.05)
    employees = [{"employee": sales.person("sales1").employee}]
    async with exchange.serving() as address:
        connected = sales.running.settings.__dict__
        connected["cti_url"] = address
        try:
            body = {"displayName": "交换机", "members": employees, **ALWAYS}
            numbers = [f"+86137{uuid4().int % 10**7:07d}{last}" for last in (9, 1, 4)]
            typed = [{"number": one} for one in numbers]
            book = await sales.manager.CreateCallList(callList=body | {"numbers": typed})
            await sales.manager.GenerateCallList(name=book.name)
            await sales.manager.StartCallList(name=book.name)
            for _ in numbers:
                entry = await sales.sales1.NextCallEntry(name=book.name)
                told_of = {"1": (2, "BUSY"), "4": (6, "NORMAL"), "9": (3, "NORMAL")}
                events, cause = told_of[entry.number_called[-1]]
                call = await sales.sales1.DialCallEntry(name=entry.name)
                for _ in range(events):
                    step = await asyncio.wait_for(told.get(), 60)
                    assert step["call"] == call.name
                    await sales.admin.ReportCall(**step)
                ended = await sales.sales1.GetCall(name=call.name)
                assert (ended.state, ended.cause) == (Phone.ENDED, cause)
                assert ended.HasField("answer_time") == (cause == "NORMAL")
                assert ended.recording.startswith("recordings/") == (cause == "NORMAL")
                await sales.sales1.WrapUpCall(
                    name=call.name, disposition="REACHED" if cause == "NORMAL" else "BUSY"
                )
            assert sorted(asked["to"] for asked in exchange.asked) == sorted(numbers)
            # The exchange is gone: the call fails, and it is as if nobody had tried.
            connected["cti_url"] = "http://127.0.0.1:9"
            lonely = await sales.manager.CreateCallList(callList=body | {"numbers": [{"number": number()}]})
            await sales.manager.GenerateCallList(name=lonely.name)
            await sales.manager.StartCallList(name=lonely.name)
            entry = await sales.sales1.NextCallEntry(name=lonely.name)
            call = await sales.sales1.DialCallEntry(name=entry.name)

            async def failed() -> bool:
                return (await sales.sales1.GetCall(name=call.name)).state == Phone.FAILED

            await sales.eventually(failed, 60)
            back = await sales.admin.GetCallEntry(name=entry.name)
            assert (back.state, back.attempts) == (Entry.NEW, 0)
            assert (await sales.sales1.GetCall(name=call.name)).cause == "EXCHANGE_UNAVAILABLE"
        finally:
            connected["cti_url"] = ""
    # It dials anew; this time nobody ever tells the end, and after four hours it is over.
    call = await sales.sales1.DialCallEntry(name=(await sales.sales1.NextCallEntry(name=lonely.name)).name)
    await minute(sales, datetime.now(UTC) + timedelta(hours=5))
    lost = await sales.sales1.GetCall(name=call.name)
    assert (lost.state, lost.cause) == (Phone.ENDED, "UNKNOWN")
    await sales.sales1.WrapUpCall(name=call.name, disposition="NO_ANSWER")
    # Somebody calls us: the exchange names a call that nobody asked for.
    caller, key = number(), f"pbx-{uuid4().hex}"
    lead = {"displayName": caller, "personName": "来电人", "channel": "PHONE", "phones": [{"number": caller}]}
    known = await sales.sales1.CreateLead(lead=lead)
    step = {
        "providerCall": key, "event": "STARTED", "time": datetime.now(UTC).isoformat(), "fromNumber": caller[3:],
        "toNumber": "8001", "employee": sales.person("sales1").employee,
    }  # fmt: skip
    came = await sales.admin.ReportCall(**step)
    again = await sales.admin.ReportCall(**step)
    assert (came.name, came.direction, came.subject) == (again.name, Phone.INBOUND, known.name)
    await sales.admin.ReportCall(
        providerCall=key, event="ENDED", time=datetime.now(UTC).isoformat(), cause="NORMAL"
    )
    await sales.sales1.WrapUpCall(name=came.name, disposition="REACHED", summary="询价")


@pytest.mark.capability("s.telesales")
@pytest.mark.usefixtures("any_day")
async def test_three_times_in_seven_days_is_enough_and_a_promise_lies_within_the_hours(
    sales: Service, calls: Made
) -> None:
    tried, book = number(), {"fromHour": 0, "toHour": 24}
    listed = await calls(tried, **book)
    entry = await sales.sales1.NextCallEntry(name=listed.name)
    first = datetime.now(UTC).replace(microsecond=0) - timedelta(days=6)
    async with sales.running.call("test", system("sales")) as call:
        for n in range(3):
            made = PhoneCall(
                direction="OUTBOUND", to_number=tried, start_time=first + timedelta(days=n), state="WRAPPED",
                owner=sales.person("sales2").employee, department=sales.person("sales2").department,
            )  # fmt: skip
            await call.add(made)
    with pytest.raises(Refused) as refused:
        await sales.sales1.DialCallEntry(name=entry.name)
    assert refused.value.reason == "CALL_NOT_ALLOWED"
    # Allowed again when the first of them is a week ago; the instant is told to the minute.
    again = datetime.fromisoformat(refused.value.info.metadata["next"])
    assert again == (first + timedelta(days=7)).replace(second=0)
    # A failed call was none: the exchange could not be reached.
    async with sales.running.call("test", system("sales")) as call:
        await call.db.execute(
            update(PhoneCall)
            .where(PhoneCall.to_number == tried, PhoneCall.start_time == first)
            .values(state="FAILED")
        )
    dialled = await sales.sales1.DialCallEntry(name=entry.name)
    # What is promised lies within the hours of the list; else the next instant that does is proposed.
    here = datetime.now(ZoneInfo("Asia/Shanghai"))
    midday = (here + timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
    await sales.manager.UpdateCallList(
        callList={"name": listed.name, "fromHour": 13, "toHour": 18}, updateMask="fromHour,toHour"
    )
    promise = {"disposition": "CALLBACK", "callbackTime": midday.isoformat()}
    with pytest.raises(Refused) as refused:
        await sales.sales1.WrapUpCall(name=dialled.name, **promise)
    assert refused.value.reason == "CALL_NOT_ALLOWED"
    proposed = refused.value.info.metadata["next"]
    assert datetime.fromisoformat(proposed) == midday.replace(hour=13)
    done = await sales.sales1.WrapUpCall(name=dialled.name, **promise | {"callbackTime": proposed})
    assert done.callback_time.ToDatetime(UTC) == midday.replace(hour=13)


@pytest.mark.capability("s.telesales")
@pytest.mark.usefixtures("any_day")
async def test_a_number_where_somebody_else_answers_is_marked_with_the_lead_and_dialled_no_more(
    sales: Service,
) -> None:
    wrong, right = number(), number()
    lead = await sales.sales1.CreateLead(
        lead={"displayName": "空号线索", "channel": "PHONE", "phones": [{"number": wrong, "primary": True}]}
    )
    mine = [{"employee": sales.person("sales1").employee}]

    async def listed() -> Any:
        body = {"displayName": "空号", "subjects": [lead.name], "members": mine, **ALWAYS}
        book = await sales.admin.CreateCallList(callList=body)
        return book, await sales.admin.GenerateCallList(name=book.name)

    book, told = await listed()
    assert told.added == 1
    await sales.admin.StartCallList(name=book.name)
    entry = await sales.sales1.NextCallEntry(name=book.name)
    call = await sales.sales1.DialCallEntry(name=entry.name)
    assert call.to_number == wrong
    await sales.sales1.WrapUpCall(name=call.name, disposition="WRONG_NUMBER")
    assert (await sales.admin.GetCallEntry(name=entry.name)).state == Entry.DONE

    async def marks(name: str = lead.name) -> dict[str, bool]:
        return {one.number: one.valid for one in (await sales.sales1.GetLead(name=name)).phones}

    assert await marks() == {wrong: False}
    # It finds neither the lead nor whoever calls, and is on no list.
    assert not (await sales.sales1.LookUpCaller(number=wrong)).matches
    assert not (await sales.sales1.ListLeads(q=wrong[3:])).leads
    with pytest.raises(Refused) as refused:
        await sales.sales1.DialNumber(subject=lead.name)
    assert refused.value.reason == "NUMBER_MISSING"
    _, told = await listed()
    assert (told.found, told.no_number) == (1, 1)
    # Sent again it stays marked; whoever really has the number is somebody else.
    typed = [{"number": wrong, "primary": True}, {"number": right}]
    await sales.sales1.UpdateLead(lead={"name": lead.name, "phones": typed}, updateMask="phones")
    assert await marks() == {wrong: False, right: True}
    other = await sales.sales1.CreateLead(
        lead={"displayName": "真正的机主", "channel": "PHONE", "phones": [{"number": wrong}]}
    )
    assert other.name != lead.name and await marks(other.name) == {wrong: True}
    book, told = await listed()
    assert [one.number_called for one in await entries(sales, book.name)] == [right]
