"""Codes for new addresses, and the end of changes that nobody decided."""

from datetime import datetime

from crm.customer.v1 import events_pb2 as events
from crmkit.call import Call
from crmkit.schedule import every
from sqlalchemy import select

from customer.messenger import send
from customer.model.profile_change import ProfileChange, new_code


async def on_profile_code_requested(event: events.ProfileCodeRequested, call: Call) -> None:
    """Sends a code to the new address. Told twice, the later code counts."""
    change = await call.named(ProfileChange, event.change, lock=True)
    if change is None or change.state != "SUBMITTED" or not change.unconfirmed(event.address):
        return
    code = await new_code(change.id, event.address, call)
    if not code:
        return
    text = f"您的验证码是 {code}，15 分钟内有效。 Your code is {code}; it counts for 15 minutes."
    await send(event.channel, event.address, text, call)


@every("1h", collapse=True)
async def expire_profile_changes(as_of: datetime, call: Call) -> None:
    """Ends changes that nobody decided in thirty days."""
    late = select(ProfileChange).where(
        ProfileChange.state == "SUBMITTED", ProfileChange.expire_time <= call.now
    )
    for change in await call.db.scalars(late.limit(500).with_for_update(skip_locked=True)):
        change.expire()
