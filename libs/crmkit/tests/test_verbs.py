"""Verbs that the model does by itself."""

import pytest
from crm.servicedesk.v1 import servicedesk_pb2
from crmkit.rpc import compile_service
from crmkit.standard import Standard
from servicedesk.model.queue import Queue
from servicedesk.model.sla_policy import SlaPolicy
from servicedesk.model.ticket import Ticket
from servicedesk.service import ServicedeskService

SERVICE = servicedesk_pb2.DESCRIPTOR.services_by_name["ServicedeskService"]


def test_a_verb_whose_model_wants_what_the_request_lacks_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hold(self: Ticket, until: str) -> None: ...

    monkeypatch.setattr(Ticket, "hold", hold)
    with pytest.raises(ValueError, match=r"HoldTicket has no field until, which Ticket\.hold wants"):
        compile_service(SERVICE, ServicedeskService())


def test_a_verb_that_nobody_does_does_not_start() -> None:
    class Desk:
        tickets = Standard(Ticket)
        queues = Standard(Queue)
        sla_policies = Standard(SlaPolicy)

    with pytest.raises(ValueError, match="LogTicket is not implemented"):
        compile_service(SERVICE, Desk())
