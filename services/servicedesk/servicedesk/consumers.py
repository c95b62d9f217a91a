"""What the service desk hears."""

from crm.customer.v1 import events_pb2 as customer
from crm.customer.v1 import pb as customer_pb
from crmkit.call import Call

from servicedesk.model.ticket import Ticket

CHANNELS = {"EMAIL": "MAIL", "CHAT": "CHAT", "WECHAT": "WECHAT"}
LONGEST_TITLE = 250


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
