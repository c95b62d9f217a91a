"""A deal that a partner may do becomes a customer, protected as long as the deal is."""

from datetime import UTC, datetime, time, timedelta
from uuid import UUID, uuid5

from crm.common.v1 import common_pb2
from crm.sales.v1 import events_pb2 as sales
from crmkit.call import Call
from crmkit.errors import AlreadyExists
from crmkit.listing import ZONE
from crmkit.mapping import read_date

from customer.model.account import PROTECTION, Account
from customer.model.contact import Contact

SOURCE = "PARTNER"


async def on_deal_registration_approved(event: sales.DealRegistrationApproved, call: Call) -> None:
    """Makes the customer of whoever looks after the registration, once; one that exists already leaves a case."""
    registration = event.deal_registration
    key = UUID(registration.name.partition("/")[2])
    # One registration has one account, whatever becomes of either.
    account_id = uuid5(key, "account")
    if await call.find(Account, Account.id == account_id) is not None:
        return
    phones = [common_pb2.Phone(number=registration.phone)] if registration.phone else []
    emails = [common_pb2.Email(address=registration.email)] if registration.email else []
    mine = {
        "owner": registration.owner,
        "department": registration.department,
        "creator": registration.owner,
    }
    account = Account(
        id=account_id, display_name=registration.company_name, needs=registration.need, source=SOURCE,
        phones=[] if registration.contact_name else phones, emails=emails, **mine,
    )  # fmt: skip
    try:
        account = await call.add(account)
    except AlreadyExists as problem:
        if problem.afterwards is not None:
            await problem.afterwards(call)
        return
    if registration.contact_name:
        person = Contact(
            id=uuid5(key, "contact"), display_name=registration.contact_name, account=account.name,
            phones=phones, emails=emails, **mine,
        )  # fmt: skip
        await call.add(person)
    last = read_date(registration.protect_until_date)
    if last is not None:
        until = datetime.combine(last + timedelta(days=1), time(), ZONE).astimezone(UTC)
        account.protect(min(until, call.now + PROTECTION), registration.number, call)
