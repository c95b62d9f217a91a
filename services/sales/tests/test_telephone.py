"""The telephone beside the lists: who calls, whom to call, standard answers, numbers of agents, and call-backs."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from sales.model.calling_hours import Hours, zone_of
from sales.model.phone_line import PhoneLine
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError
from uuid_utils.compat import uuid7

Made = Callable[..., Awaitable[Any]]
Entry, Phone = pb.CallEntry, pb.Call
ALWAYS = {"fromHour": 0, "toHour": 24}


def number() -> str:
    """A mobile number of nobody."""
    return f"+86138{uuid4().int % 10**8:08d}"


def phones(one: str) -> list[dict[str, Any]]:
    return [{"number": one, "primary": True}]


@pytest.fixture
async def any_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every day is a working day, from midnight on: whether this moment is, is not what the test is about."""
    monkeypatch.setattr("sales.model.calling_hours.is_working_day", lambda day: True)
    # A list that begins at no hour begins at nine; here it begins at midnight, at whatever hour the test runs.
    monkeypatch.setattr("sales.model.call_list.OPENS", 0)


def somewhere(open_now: bool) -> str:
    """A number in Shanghai, Berlin or New York, where at this hour people may be called, or not."""
    digits = uuid4().int % 10**4
    places = (f"+86138{uuid4().int % 10**8:08d}", f"+49302345{digits:04d}", f"+1212736{digits:04d}")
    now = datetime.now(UTC) + timedelta(seconds=30)
    return next(one for one in places if (Hours().next_open(now, zone_of(one)) == now) == open_now)


@pytest.mark.capability("s.telesales")
async def test_whoever_calls_is_shown_with_his_open_deals_to_those_who_may_see_them(
    sales: Service, account: Made, contact: Made, deal: Made
) -> None:
    theirs, his, unknown = number(), number(), number()
    customer = await account(displayName="华东机械", phones=phones(theirs))
    person = await contact(displayName="王工", account=customer, phones=phones(his))
    made = await deal(account=customer)

    async def known() -> Any:
        found = await sales.sales1.LookUpCaller(number=his[3:])
        return found if found.matches else None

    found = await sales.eventually(known, 30)
    [match] = found.matches
    assert (found.number, match.record, match.display_name) == (his, person, "王工")
    assert (match.account, match.account_name) == (customer, "华东机械")
    assert [one.name for one in match.deals] == [made.name]
    assert [one.record for one in (await sales.sales1.LookUpCaller(number=theirs)).matches] == [customer]
    # Whoever may not see them learns no more than of somebody whom nobody knows: the lead that could be made.
    for who, one in ((sales.sales2, his), (sales.sales1, unknown)):
        reply = await who.LookUpCaller(number=one)
        assert (len(reply.matches), reply.lead.phones[0].number) == (0, one)
    lead = await sales.sales1.CreateLead(
        lead={"displayName": unknown, "channel": "PHONE", "phones": phones(unknown)}
    )
    assert [m.record for m in (await sales.sales1.LookUpCaller(number=unknown)).matches] == [lead.name]
    # The exchange tells of the call, and the window opens with the agent, once.
    step = {
        "providerCall": f"pbx-{uuid4().hex}", "event": "STARTED", "time": datetime.now(UTC).isoformat(),
        "fromNumber": his, "toNumber": "8001", "employee": sales.person("sales1").employee,
    }  # fmt: skip
    for _ in range(2):
        came = await sales.admin.ReportCall(**step)
    assert (came.direction, came.subject) == (Phone.INBOUND, person)
    [notice] = await sales.facts("crm.sales.v1.NoticeRaised", came.name)
    assert (notice["kind"], notice["employees"]) == ("incomingCall", [sales.person("sales1").employee])
    assert notice["subjects"] == [came.name, person]
    await sales.admin.ReportCall(**{**step, "event": "ENDED"})
    await sales.sales1.WrapUpCall(name=came.name, disposition="REACHED")
    # Who has another number now is no longer found by the old one.
    changed = {"name": person, "displayName": "王工", "account": customer, "phones": [], "state": "ACTIVE"}
    payload = {"name": person, "action": "UPDATED", "actor": "system/test", "resource": changed}
    await sales.tell("crm.customer.v1.ResourceChanged", payload, person)

    async def gone() -> bool:
        return not (await sales.sales1.LookUpCaller(number=his)).matches

    await sales.eventually(gone, 30)


@pytest.mark.usefixtures("any_day")
async def test_one_click_dials_whom_one_sees_or_puts_him_on_a_list(
    sales: Service, account: Made, contact: Made
) -> None:
    me, line = sales.person("sales1").employee, f"80{uuid4().int % 10**6}"
    reachable, asleep, shut = somewhere(True), somewhere(False), somewhere(True)
    customer = await account(phones=phones(reachable))
    person = await contact(account=customer, phones=phones(asleep))
    # Two agents never share a number at a time; the next one has it from the instant on at which the first has not.
    noon = datetime.now(UTC) + timedelta(hours=1)
    held = {"displayName": line, "employee": me, "toTime": noon.isoformat()}
    mine = await sales.admin.CreatePhoneLine(phoneLine=held)
    other = {"displayName": line, "employee": sales.person("sales2").employee}
    with pytest.raises(Refused) as refused:
        await sales.admin.CreatePhoneLine(phoneLine=other)
    assert (refused.value.reason, refused.value.info.metadata["number"]) == ("LINE_TAKEN", line)
    following = await sales.admin.CreatePhoneLine(phoneLine={**other, "fromTime": noon.isoformat()})
    with pytest.raises(Refused) as refused:
        await sales.admin.UpdatePhoneLine(phoneLine={"name": mine.name, "toTime": None}, updateMask="toTime")
    assert refused.value.reason == "LINE_TAKEN"
    with pytest.raises(Refused) as refused:
        await sales.admin.CreatePhoneLine(phoneLine={**held, "toTime": "2020-01-01T00:00:00Z"})
    assert refused.value.violations == {"phone_line.to_time": "BEFORE_START"}
    with pytest.raises(Refused) as refused:
        await sales.sales1.CreatePhoneLine(phoneLine={**held, "displayName": "1"})
    assert refused.value.reason == "PERMISSION_DENIED"
    # The database itself would not have it either.
    with pytest.raises(DBAPIError, match="phone_lines_taken"):
        async with sales.running.call("test", system("sales")) as call:
            endless = update(PhoneLine).where(PhoneLine.display_name == line).values(to_time=None)
            await call.db.execute(endless)

    async def dialled() -> Any:
        try:
            return await sales.sales1.DialNumber(subject=customer)
        except Refused as refusal:
            assert refusal.reason == "NOT_FOUND"
            return None

    call = await sales.eventually(dialled, 30)
    assert (call.to_number, call.subject, call.from_number) == (reachable, customer, line)
    assert [fact["call"]["name"] for fact in await sales.facts("crm.sales.v1.CallRequested", call.name)] == [
        call.name
    ]
    with pytest.raises(Refused) as refused:
        await sales.sales1.DialNumber(number=reachable)
    assert refused.value.reason == "CALL_NOT_WRAPPED_UP"
    await sales.sales1.WrapUpCall(name=call.name, disposition="REACHED")
    with pytest.raises(Refused) as refused:
        await sales.sales1.DialNumber(subject=person)
    assert (refused.value.reason, "T" in refused.value.info.metadata["next"]) == ("CALL_NOT_ALLOWED", True)
    with pytest.raises(Refused) as refused:
        await sales.sales2.DialNumber(subject=customer)
    assert refused.value.reason == "NOT_FOUND"
    with pytest.raises(Refused) as refused:
        await sales.sales1.DialNumber(number="12")
    assert refused.value.reason == "NUMBER_MISSING"
    # With whom one has talked one may talk on; who was not reached is left in peace for four hours.
    more = await sales.sales1.DialNumber(number=reachable)
    await sales.sales1.WrapUpCall(name=more.name, disposition="NO_ANSWER")
    with pytest.raises(Refused) as refused:
        await sales.sales1.DialNumber(number=reachable)
    assert refused.value.reason == "CALL_NOT_ALLOWED"
    assert datetime.fromisoformat(refused.value.info.metadata["next"]) > datetime.now(UTC) + timedelta(
        hours=3
    )
    # Who does not want to be called is not, from wherever one dials.
    bare = await sales.sales1.DialNumber(number=shut)
    await sales.sales1.WrapUpCall(name=bare.name, disposition="DO_NOT_CALL")
    with pytest.raises(Refused) as refused:
        await sales.sales1.DialNumber(number=shut)
    assert refused.value.reason == "DO_NOT_CALL"
    # Onto a list, with what is in the way.
    book = await sales.manager.CreateCallList(callList={"displayName": "名录"})
    told = await sales.manager.EnlistCallList(name=book.name, subjects=[customer, person])
    assert (told.added, told.recently_called) == (1, 1)
    again = await sales.manager.EnlistCallList(name=book.name, subjects=[person])
    assert (again.added, again.duplicates) == (0, 1)
    for one in (mine, following):
        await sales.admin.DeletePhoneLine(name=one.name)


@pytest.mark.usefixtures("any_day")
async def test_standard_answers_are_found_by_two_characters_and_what_was_answered_is_known_of_the_lead(
    sales: Service,
) -> None:
    tag = uuid4().hex[:6]
    faq = [
        {"question": f"{tag}怎么付款", "answer": "三十天"}, {"question": "能否试用", "answer": f"{tag}可试用两周"},
    ]  # fmt: skip
    nodes = [{"key": "ask", "text": "您好", "question": "想买什么", "field": "need"}]
    made = await sales.manager.CreateCallScript(
        callScript={"displayName": f"话术{tag}", "nodes": nodes, "faq": faq}
    )
    assert not (await sales.sales1.SearchFaq(q=tag)).answers
    script = await sales.manager.ActivateCallScript(name=made.name)
    found = (await sales.sales1.SearchFaq(q=tag)).answers
    assert [(one.answer, one.script) for one in found] == [
        ("三十天", script.name), (f"{tag}可试用两周", script.name),
    ]  # fmt: skip
    assert [one.answer for one in (await sales.sales1.SearchFaq(q="付款", script=script.name)).answers] == [
        "三十天"
    ]
    lead = await sales.sales1.CreateLead(
        lead={"displayName": tag, "channel": "PHONE", "phones": phones(number())}
    )
    body = {
        "displayName": "带话术", "subjects": [lead.name], "script": script.name, **ALWAYS,
        "members": [{"employee": sales.person("sales1").employee}],
    }  # fmt: skip
    book = await sales.admin.CreateCallList(callList=body)
    await sales.admin.GenerateCallList(name=book.name)
    await sales.admin.StartCallList(name=book.name)
    entry = await sales.sales1.NextCallEntry(name=book.name)
    call = await sales.sales1.DialCallEntry(name=entry.name)
    # The version that was used stays with the call, whatever comes after it.
    second = await sales.manager.NewCallScriptVersion(name=script.name)
    await sales.manager.ActivateCallScript(name=second.name)
    answers = [{"field": "need", "value": "两台分拣机"}, {"field": "state", "value": "CONVERTED"}]
    done = await sales.sales1.WrapUpCall(name=call.name, disposition="REACHED", answers=answers)
    assert (done.script, len(done.answers)) == (script.name, 2)
    told = await sales.sales1.GetLead(name=lead.name)
    assert (told.need, told.state) == ("两台分拣机", pb.Lead.WORKING)


@pytest.mark.usefixtures("any_day")
async def test_the_hour_is_that_of_the_division_where_whoever_is_called_lives(
    sales: Service, account: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half past nine in Shanghai is half past seven in Urumqi, whatever number somebody has."""
    here, there = number(), number()
    near = await account(phones=phones(here), addresses=[{"divisionCode": "310115"}])
    far = await account(phones=phones(there), addresses=[{"divisionCode": "650104"}])
    asked: list[tuple[str, str]] = []

    def zone(digits: str, division: str = "") -> Any:
        asked.append((digits, division))
        return zone_of(digits, division)

    monkeypatch.setattr("sales.model.phone_call.zone_of", zone)
    body = {
        "displayName": "两地", "subjects": [near, far], "members": [{"employee": sales.person("sales1").employee}], **ALWAYS,
    }  # fmt: skip
    book = await sales.admin.CreateCallList(callList=body)

    async def both() -> bool:
        return (await sales.admin.GenerateCallList(name=book.name, preview=True)).added == 2

    await sales.eventually(both)
    await sales.admin.GenerateCallList(name=book.name)
    await sales.admin.StartCallList(name=book.name)
    for _ in (near, far):
        entry = await sales.sales1.NextCallEntry(name=book.name)
        call = await sales.sales1.DialCallEntry(name=entry.name)
        await sales.sales1.WrapUpCall(name=call.name, disposition="REACHED")
    assert set(asked) == {(here, "310115"), (there, "650104")}
    morning = datetime(2026, 9, 28, 1, 30, tzinfo=UTC)
    assert Hours().next_open(morning, zone_of(here, "310115")) == morning
    assert Hours().next_open(morning, zone_of(there, "650104")) == morning + timedelta(minutes=90)


@pytest.mark.capability("s.telesales")
@pytest.mark.usefixtures("any_day")
async def test_whoever_asks_on_the_web_site_to_be_called_is_first_and_his_ticket_is_told_the_outcome(
    sales: Service, contact: Made
) -> None:
    me, other = (sales.person(name).employee or "" for name in ("sales1", "sales2"))
    queue, his, waiting = f"queues/{uuid7()}", number(), number()
    told = {"name": queue, "displayName": "网站回拨", "members": []}
    payload = {"name": queue, "action": "CREATED", "actor": "system/test", "resource": told}
    await sales.tell("crm.servicedesk.v1.ResourceChanged", payload, queue)
    person = await contact(displayName="网站访客", phones=phones(his))
    body = {
        "displayName": "网站", "queue": queue, "members": [{"employee": me}, {"employee": other}],
        "numbers": [{"displayName": "名单上", "number": waiting}], **ALWAYS,
    }  # fmt: skip
    book = await sales.admin.CreateCallList(callList=body)
    await sales.admin.GenerateCallList(name=book.name)
    await sales.admin.StartCallList(name=book.name)

    looked_at = [
        {"address": "https://shop.example/sorter", "title": "分拣机", "time": datetime.now(UTC).isoformat()},
    ]  # fmt: skip

    async def ask(by: str, **fields: Any) -> str:
        name = f"tickets/{uuid7()}"
        ticket = {"name": name, "type": "CALLBACK", "queue": queue, "displayName": "请回电", "requesterAddress": by,
                  "description": "问价格", "pages": looked_at, **fields}  # fmt: skip
        await sales.tell(
            "crm.servicedesk.v1.TicketOpened", {"ticket": ticket, "requester": by}, name, times=2
        )
        return name

    # He has left his number alone; by it he is known.
    first = await ask(his)

    async def there(ticket: str) -> Any:
        found = await sales.admin.ListCallEntries(filter=f'call_list = "{book.name}" AND origin = "{ticket}"')
        return list(found.call_entries)

    async def offered() -> Any:
        return await there(first)

    [entry] = await sales.eventually(offered, 30)
    assert (entry.display_name, entry.number_called, entry.subject) == ("网站访客", his, person)
    assert (entry.state, entry.note) == (Entry.CALLBACK, "问价格")
    assert [(page.address, page.title) for page in entry.pages] == [("https://shop.example/sorter", "分拣机")]
    assert entry.next_time.ToDatetime(UTC) <= datetime.now(UTC) + timedelta(minutes=5)
    # Before everything that only stands on the list, for whoever is free first.
    got = await sales.sales2.NextCallEntry(name=book.name)
    assert got.name == entry.name
    call = await sales.sales2.DialCallEntry(name=got.name)
    await sales.sales2.WrapUpCall(name=call.name, disposition="REACHED", summary="已报价")
    [fact] = await sales.facts("crm.sales.v1.CallWrappedUp", call.name)
    assert (fact["ticket"], fact["call"]["disposition"]) == (first, "REACHED")
    # What he looked at is not kept beyond the talk.
    assert not (await sales.admin.GetCallEntry(name=got.name)).pages
    # Somebody who stands on the list already moves to the front and stays the one entry.
    # While the list is not called it keeps him all the same.
    await sales.admin.PauseCallList(name=book.name)
    second = await ask(waiting)

    async def moved() -> Any:
        return await there(second)

    [entry] = await sales.eventually(moved, 30)
    assert (entry.state, entry.display_name) == (Entry.CALLBACK, "名单上")
    # Nor does it end before he was called, or somebody has said why not.
    with pytest.raises(Refused) as refused:
        await sales.admin.FinishCallList(name=book.name)
    assert (refused.value.reason, refused.value.info.metadata["count"]) == ("CALLBACKS_PROMISED", "1")
    await sales.admin.StartCallList(name=book.name)
    assert (await sales.sales1.NextCallEntry(name=book.name)).name == entry.name
    with pytest.raises(Refused) as refused:
        await sales.admin.FinishCallList(name=book.name)
    assert refused.value.reason == "CALLBACKS_PROMISED"
    # Who is on leave gets none when the list is shared out.
    start, away = datetime.now(UTC), sales.person("stranger").employee
    members = [{"employee": away}, {"employee": other}]
    await sales.admin.UpdateCallList(callList={"name": book.name, "members": members}, updateMask="members")
    leave = {
        "name": f"calendarEvents/{uuid7()}", "kind": "LEAVE", "owner": away, "state": "SCHEDULED",
        "startTime": (start - timedelta(hours=1)).isoformat(), "endTime": (start + timedelta(hours=1)).isoformat(),
    }  # fmt: skip
    await sales.tell("crm.workspace.v1.CalendarEventScheduled", {"calendarEvent": leave}, leave["name"])

    async def shared() -> Any:
        shares = (await sales.admin.DistributeCallList(name=book.name, again=True)).shares
        return shares if [share.employee for share in shares] == [other] else None

    assert await sales.eventually(shared, 30)


@pytest.mark.capability("s.telesales")
@pytest.mark.usefixtures("any_day")
async def test_who_asks_on_a_queue_of_no_call_list_is_left_to_the_service_desk(sales: Service) -> None:
    ours, theirs = (f"queues/{uuid7()}" for _ in range(2))
    for queue in (ours, theirs):
        told = {"name": queue, "displayName": "回拨", "members": []}
        payload = {"name": queue, "action": "CREATED", "actor": "system/test", "resource": told}
        await sales.tell("crm.servicedesk.v1.ResourceChanged", payload, queue)

    async def ask(queue: str) -> str:
        name = f"tickets/{uuid7()}"
        ticket = {
            "name": name,
            "type": "CALLBACK",
            "queue": queue,
            "displayName": "回电",
            "requesterAddress": number(),
        }
        await sales.tell("crm.servicedesk.v1.TicketOpened", {"ticket": ticket}, name, times=2)
        return name

    async def entries(ticket: str) -> list[Any]:
        return list((await sales.admin.ListCallEntries(filter=f'origin = "{ticket}"')).call_entries)

    async def offered(queue: str) -> Any:
        ticket = await ask(queue)
        [entry] = await sales.eventually(lambda: entries(ticket), 30)
        return entry

    async def linked(queue: str) -> Any:
        return await sales.admin.CreateCallList(callList={"displayName": "回拨", "queue": queue, **ALWAYS})

    await linked(ours)
    alone = await ask(theirs)
    # What is asked for later on a queue with a list is there, so that one was heard too.
    await offered(ours)
    assert not await entries(alone)
    # A list that is linked now takes those who come; the desk has had the first one to itself, nobody calls him twice.
    book = await linked(theirs)
    entry = await offered(theirs)
    assert (entry.call_list, entry.state) == (book.name, Entry.CALLBACK)
    assert not await entries(alone)
    await sales.admin.SkipCallEntry(name=entry.name, reason="已由服务台回电")
    await sales.admin.StartCallList(name=book.name)
    assert (await sales.admin.FinishCallList(name=book.name)).state == pb.CallList.FINISHED
