"""Verbs that the model does by itself."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from crm.options.v1 import options_pb2
from crm.servicedesk.v1 import servicedesk_pb2
from crmkit.lint import check
from crmkit.rpc import compile_service
from crmkit.standard import Standard
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
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


@pytest.mark.capability("a.role")
@pytest.mark.parametrize("lacking", ["permission", "http"])
def test_a_method_without_a_permission_or_an_address_does_not_start(lacking: str) -> None:
    file = descriptor_pb2.FileDescriptorProto()
    servicedesk_pb2.DESCRIPTOR.CopyToProto(file)
    (service,) = [one for one in file.service if one.name == "ServicedeskService"]
    (hold,) = [one for one in service.method if one.name == "HoldTicket"]
    extension = options_pb2.permission if lacking == "permission" else annotations_pb2.http
    assert hold.options.HasExtension(extension)
    hold.options.ClearExtension(extension)
    pool = descriptor_pool.DescriptorPool()
    _add_with_what_it_needs(servicedesk_pb2.DESCRIPTOR.dependencies, pool)
    pool.Add(file)
    bent = pool.FindServiceByName(SERVICE.full_name)
    with pytest.raises(ValueError, match=f"HoldTicket has no .*{lacking}"):
        compile_service(bent, ServicedeskService())


def _add_with_what_it_needs(files: Sequence[FileDescriptor], pool: descriptor_pool.DescriptorPool) -> None:
    for file in files:
        _add_with_what_it_needs(file.dependencies, pool)
        pool.AddSerializedFile(file.serialized_pb)
