"""Follow-up: written once, then only added to; passed on; commented."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from crm.customer.v1 import pb
from crmkit.auth import system
from crmkit.scope import enter
from crmkit.testing import Refused, Service
from sqlalchemy import text


def moment(ago: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) - ago).isoformat().replace("+00:00", "Z")


async def log(customer: Service, account: str, **fields: Any) -> Any:
    body = {
        "account": account,
        "channel": "CALL",
        "summary": "谈了产线改造的预算和时间",
        "startTime": moment(),
        **fields,
    }
    return await customer.sales1.CreateInteraction(interaction=body)


async def refusal(awaitable: Any) -> str:
    with pytest.raises(Refused) as refused:
        await awaitable
    return refused.value.reason


@pytest.mark.capability("c.interact")
async def test_the_author_edits_for_a_day_then_both_texts_stay(customer: Service) -> None:
    account = (await customer.sales1.CreateAccount(account={"displayName": "跟进甲纺织有限公司"})).name
    made = await log(customer, account)

    def edit(client: Any, summary: str) -> Any:
        return client.UpdateInteraction(
            interaction={"name": made.name, "summary": summary}, updateMask="summary"
        )

    assert (await edit(customer.sales1, "谈了预算，对方下周给答复")).summary == "谈了预算，对方下周给答复"
    assert await refusal(edit(customer.manager, "经理改写")) == "NOT_AUTHOR"
    async with customer.running.sessions() as session:
        await enter(session, system("customer"))
        await session.execute(
            text(
                "UPDATE interactions SET create_time = create_time - interval '1 day 1 second' WHERE id = :id"
            ),
            {"id": made.name.partition("/")[2]},
        )
        await session.commit()
    assert await refusal(edit(customer.sales1, "一天以后")) == "INTERACTION_LOCKED"
    amended = await customer.sales1.AmendInteraction(name=made.name, text="预算已批")
    assert pb.Interaction.State.Name(amended.state) == "AMENDED"
    assert (amended.summary, [note.text for note in amended.amendments]) == (
        "谈了预算，对方下周给答复",
        ["预算已批"],
    )
    commented = await customer.manager.CommentInteraction(name=made.name, text="跟紧一点")
    assert [(n.author, n.text) for n in commented.comments] == [
        (customer.person("manager").employee, "跟紧一点")
    ]
    assert (await customer.sales1.GetInteraction(name=made.name)).amendments[0].HasField("time")


@pytest.mark.capability("c.interact")
async def test_passing_on_twice_tells_once_and_the_future_is_refused(customer: Service) -> None:
    account = (await customer.sales1.CreateAccount(account={"displayName": "跟进乙印染有限公司"})).name
    made = await log(customer, account, summary="客户抱怨交期太长，要求书面答复")
    departments = [customer.person("sales1").department, customer.person("sales2").department]

    async def forward(kind: str, *names: str) -> Any:
        return await customer.sales1.ForwardInteraction(name=made.name, departments=list(names), kind=kind)

    assert len((await forward("COMPLAINT", *departments)).forwards) == 2
    assert len((await forward("COMPLAINT", *departments)).forwards) == 2
    assert len((await forward("OPINION", departments[0])).forwards) == 3
    facts = await customer.facts("crm.customer.v1.InteractionForwarded", made.name)
    assert [(fact["kind"], len(fact["departments"])) for fact in facts] == [("COMPLAINT", 2), ("OPINION", 1)]
    assert (
        await refusal(forward("IDEA", "departments/01900000-0000-7000-8000-00000000dead"))
        == "UNKNOWN_REFERENCE"
    )
    with pytest.raises(Refused) as refused:
        await log(customer, account, startTime=moment(-timedelta(minutes=11)))
    assert refused.value.violations == {"interaction.start_time": "START_IN_FUTURE"}
    await log(customer, account, startTime=moment(-timedelta(minutes=9)))


@pytest.mark.capability("c.interact")
async def test_what_was_logged_offline_keeps_both_its_times_and_one_source_is_one_row(
    customer: Service,
) -> None:
    account = (await customer.sales1.CreateAccount(account={"displayName": "跟进丙家具有限公司"})).name
    made = await log(customer, account, startTime=moment(timedelta(hours=8)), sourceKey="pbx-1")
    entered = made.create_time.ToDatetime(UTC) - made.start_time.ToDatetime(UTC)
    assert timedelta(hours=7, minutes=59) < entered < timedelta(hours=8, minutes=1)
    assert await refusal(log(customer, account, sourceKey="pbx-1")) == "ALREADY_EXISTS"
    assert (await log(customer, account, sourceKey="pbx-1", channel="VISIT")).name != made.name


@pytest.mark.capability("c.interact")
@pytest.mark.parametrize(
    ("subject", "channel", "direction"),
    [
        ("crm.sales.v1.CallWrappedUp", "CALL", "DIRECTION_UNSPECIFIED"),
        ("crm.sales.v1.VisitCompleted", "VISIT", "OUTBOUND"),
        ("crm.servicedesk.v1.MessageReceived", "EMAIL", "INBOUND"),
        ("crm.servicedesk.v1.ChatEnded", "CHAT", "INBOUND"),
        ("crm.marketing.v1.FormSubmitted", "OTHER", "INBOUND"),
    ],
)
async def test_what_other_channels_tell_of_is_logged_once_without_typing(
    customer: Service, subject: str, channel: str, direction: str
) -> None:
    account = (
        await customer.sales1.CreateAccount(account={"displayName": f"渠道{subject[-9:]}有限公司"})
    ).name
    contact = (
        await customer.sales1.CreateContact(contact={"displayName": "渠道人", "account": account})
    ).name
    record = {"name": f"calls/{account[-36:]}", "contact": contact, "summary": "来电询问价格", "startTime": "2026-11-20T02:00:00Z"}  # fmt: skip
    await customer.tell(subject, {"record": record}, record["name"], times=2)

    async def logged() -> Any:
        return (await customer.sales1.ListInteractions(filter=f'account = "{account}"')).interactions

    (found,) = await customer.eventually(logged)
    assert pb.Interaction.Channel.Name(found.channel) == channel
    assert pb.Interaction.Direction.Name(found.direction) == direction
    assert (found.summary, list(found.contacts), found.owner) == (
        "来电询问价格", [contact], customer.person("sales1").employee,
    )  # fmt: skip
    assert (found.start_time.ToDatetime().isoformat(), found.counts_for_sea) == ("2026-11-20T02:00:00", False)
    assert list(found.subjects) == [record["name"]]
