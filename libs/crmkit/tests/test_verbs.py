"""Verbs that the model does by itself."""

from pathlib import Path

import pytest
from crm.servicedesk.v1 import servicedesk_pb2
from crmkit.lint import check
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


@pytest.mark.parametrize(
    ("verb", "refused"),
    [("await ticket.hold(request.reason, call)", True), ("ticket.hold(request.until.seconds)", False)],
)
def test_a_service_method_that_only_passes_on_is_refused(tmp_path: Path, verb: str, refused: bool) -> None:
    path = tmp_path / "services" / "service.py"
    path.parent.mkdir()
    path.write_text(
        "class Desk:\n"
        "    async def HoldTicket(self, request: Any, call: Call) -> Ticket:\n"
        f"        ticket = await call.load(Ticket, request)\n        {verb}\n        return ticket\n"
    )
    assert [line for line, _ in check(path)] == ([2] if refused else [])
