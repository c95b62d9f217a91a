"""What the service desk hears."""

from crm.customer.v1 import events_pb2 as customer
from crm.customer.v1 import pb as customer_pb
from crm.sales.v1 import events_pb2 as sales
from crm.sales.v1 import pb as sales_pb
from crmkit.call import Call

from servicedesk.model.ticket import Ticket

CHANNELS = {"EMAIL": "MAIL", "CHAT": "CHAT", "WECHAT": "WECHAT"}
LONGEST_TITLE = 250
# What a call came to where somebody answered.
_SPOKEN = (sales_pb.Call.REACHED, sales_pb.Call.CONVERTED, sales_pb.Call.REFUSED, sales_pb.Call.DO_NOT_CALL)


async def on_interaction_forwarded(event: customer.InteractionForwarded, call: Call) -> None:
    """A complaint becomes one ticket, however often it is passed on."""
    interaction = event.interaction
    if event.kind != "COMPLAINT" or await call.find(Ticket, Ticket.source == interaction.name):
        return
    channel = customer_pb.Interaction.Channel.Name(interaction.channel)
    await call.add(
        Ticket(
            display_name=interaction.summary[:LONGEST_TITLE],
            description=interaction.summary,
            type="COMPLAINT",
            severity="MAJOR",
            channel=CHANNELS.get(channel, "PHONE"),
            account=interaction.account,
            contact=next(iter(interaction.contacts), ""),
            related=[interaction.name],
            source=interaction.name,
            owner=interaction.owner,
            department=next(iter(event.departments), interaction.department),
            creator=interaction.creator,
        )
    )


async def on_call_wrapped_up(event: sales.CallWrappedUp, call: Call) -> None:
    """The call that somebody asked for answers his ticket, once; where they talked, it is solved."""
    told = event.call
    if not event.ticket or told.disposition not in _SPOKEN:
        return
    ticket = await call.named(Ticket, event.ticket, lock=True)
    if ticket is None or ticket.state not in ("ACKNOWLEDGED", "IN_PROGRESS"):
        return
    if ticket.state == "ACKNOWLEDGED":
        await ticket.start(call)
    words = told.summary or sales_pb.Call.Disposition.Name(told.disposition)
    await ticket.resolve("CALLED_BACK", words, call)
