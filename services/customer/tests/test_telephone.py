"""What telesales tells of the people that it called."""

from typing import Any
from uuid import uuid4

from crmkit.testing import Service
from uuid_utils.compat import uuid7


async def wrapped_up(customer: Service, subject: str, number: str, disposition: str) -> None:
    """Sales tells of a call, twice."""
    made = {
        "name": f"calls/{uuid7()}", "subject": subject, "toNumber": number, "direction": "OUTBOUND",
        "disposition": disposition,
    }  # fmt: skip
    await customer.tell("crm.sales.v1.CallWrappedUp", {"call": made}, made["name"], times=2)


async def test_a_wrong_number_is_marked_and_stays_so_and_do_not_call_withdraws_the_consent_once(
    customer: Service,
) -> None:
    wrong, right = (f"+86139{uuid4().int % 10**8:08}" for _ in range(2))
    contact = await customer.sales1.CreateContact(
        contact={"displayName": "空号", "phones": [{"number": wrong, "primary": True}, {"number": right}]}
    )
    await wrapped_up(customer, contact.name, wrong, "WRONG_NUMBER")

    async def marks() -> list[bool]:
        return [phone.valid for phone in (await customer.admin.GetContact(name=contact.name)).phones]

    async def marked() -> bool:
        return await marks() == [False, True]

    await customer.eventually(marked, 30)
    # Whoever changes something else, or sends the numbers again, leaves the mark.
    await customer.sales1.UpdateContact(contact={"name": contact.name, "title": "经理"}, updateMask="title")
    assert await marks() == [False, True]
    numbers = [{"number": wrong}, {"number": right}]
    await customer.sales1.UpdateContact(
        contact={"name": contact.name, "phones": numbers}, updateMask="phones"
    )
    assert await marks() == [False, True]

    await wrapped_up(customer, contact.name, right, "DO_NOT_CALL")

    async def withdrawn() -> list[Any]:
        found = await customer.admin.ListConsents(filter=f'subject = "{contact.name}"')
        return [(one.channel, one.purpose, one.decision) for one in found.consents]

    assert len(await customer.eventually(withdrawn, 30)) == 1
    [fact] = [
        one for one in await customer.facts("crm.customer.v1.ConsentChanged") if one["consent"]["subject"] == contact.name
    ]  # fmt: skip
    assert (fact["consent"]["channel"], fact["consent"]["decision"]) == ("CALL", "WITHDRAWN")
