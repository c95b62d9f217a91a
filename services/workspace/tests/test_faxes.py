"""Faxes go out and come in as PDF, by HylaFAX's command or a folder, and fail with the PDF kept."""

import json
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from crmkit import blobs
from crmkit.auth import system
from crmkit.testing import Refused, Service
from google.protobuf.json_format import MessageToDict
from workspace import faxes

PDF = b"%PDF-1.7 fax"


class Machine:
    """What the tests do over and over."""

    def __init__(self, workspace: Service) -> None:
        self.workspace, self.me = workspace, workspace.sales1

    def is_at(self, url: str) -> None:
        running = self.workspace.running
        running.settings = running.settings.model_copy(update={"fax_url": url})

    async def pdf(self, kind: str = "application/pdf") -> str:
        sha256, size = await blobs.keep(self.workspace.running.store, BytesIO(PDF))
        body = {"displayName": "合同.pdf", "mediaType": kind, "sha256": sha256, "size": str(size)}
        return (await self.me.CreateFile(file=body)).name

    async def send(self, **more: Any) -> Any:
        body = {"displayName": "合同", "faxNumber": "+86 21-5555 0100", "file": await self.pdf(), **more}
        return await self.me.CreateFax(fax=body)

    async def state(self, fax: Any, wanted: str, attempts: int = 0) -> Any:
        async def there() -> Any:
            found = await self.me.GetFax(name=fax.name)
            return found if MessageToDict(found)["state"] == wanted and found.attempts >= attempts else None

        return await self.workspace.eventually(there)


@pytest.fixture
def machine(workspace: Service) -> Any:
    settings = workspace.running.settings
    yield Machine(workspace)
    workspace.running.settings = settings


@pytest.mark.capability("w.mail")
async def test_a_folder_takes_a_fax_and_the_machine_says_what_became_of_it(
    workspace: Service, machine: Machine, tmp_path: Path
) -> None:
    machine.is_at(tmp_path.as_uri())
    fax = await machine.state(await machine.send(), "SUBMITTED")
    told = json.loads((tmp_path / f"{fax.job}.json").read_text())
    assert (
        told == {"job": fax.job, "number": "+86 21-5555 0100"}
        and (tmp_path / f"{fax.job}.pdf").read_bytes() == PDF
    )
    with pytest.raises(Refused) as refused:
        await machine.me.ReportFax(job=fax.job, arrived=True)
    assert refused.value.reason == "PERMISSION_DENIED"
    for _ in range(2):
        await workspace.admin.ReportFax(job=fax.job, arrived=True)
    assert MessageToDict(await machine.me.GetFax(name=fax.name))["state"] == "SENT"
    assert len(await workspace.facts("crm.workspace.v1.FaxSent", fax.name)) == 1
    with pytest.raises(Refused) as refused:
        await workspace.admin.ReportFax(job="no such job", arrived=True)
    assert refused.value.reason == "NOT_FOUND"
    for more in ({"faxNumber": "-; rm"}, {"file": await machine.pdf("text/plain")}):
        with pytest.raises(Refused) as refused:
            await machine.send(**more)
        assert refused.value.reason == "VALIDATION"
    owner = workspace.person("sales1").employee
    come = await workspace.admin.ReceiveFax(faxNumber="02155550199", file=await machine.pdf(), owner=owner)
    assert MessageToDict(await machine.me.GetFax(name=come.name))["state"] == "RECEIVED"
    assert await workspace.facts("crm.workspace.v1.FaxReceived", come.name)


@pytest.mark.capability("w.mail")
async def test_hylafax_takes_a_fax_by_its_command(
    machine: Machine, workspace: Service, tmp_path: Path
) -> None:
    command, seen, job = tmp_path / "sendfax", tmp_path / "seen", uuid4().hex[:8]
    command.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {seen}\ncat "$4" >> {seen}\n'
        f'echo "request id is {job} (group id {job}) for host localhost (1 file)"\n'
    )
    command.chmod(0o755)
    machine.is_at(f"hylafax:{command}")
    fax = await machine.state(await machine.send(), "SUBMITTED")
    lines = seen.read_bytes().split(b"\n")
    assert fax.job == job and lines[:3] == [b"-n", b"-d", b"+862155550100"] and lines[-1] == PDF
    await workspace.admin.ReportFax(job=job, reason="BUSY")
    lost = await machine.state(fax, "FAILED")
    assert lost.problem == "FAX_FAILED: BUSY" and (await machine.me.GetFile(name=lost.file)).size == str(
        len(PDF)
    )
    again = await machine.me.RetryFax(name=fax.name)
    assert (again.attempts, again.problem) == (0, "")
    await machine.state(fax, "SUBMITTED")


@pytest.mark.capability("w.mail")
async def test_a_machine_that_cannot_be_reached_is_tried_five_times(
    machine: Machine, workspace: Service, tmp_path: Path, office: Any
) -> None:
    machine.is_at((tmp_path / "gone").as_uri())
    fax = await machine.send()

    async def over() -> bool:
        async with workspace.running.call("test", system("workspace")) as call:
            call.now = datetime.now(UTC) + timedelta(hours=1)
            await faxes.start_waiting(call)
        return MessageToDict(await machine.me.GetFax(name=fax.name))["state"] == "FAILED"

    await workspace.eventually(over)
    lost = await machine.state(fax, "FAILED")
    assert lost.attempts == 5 and lost.problem.startswith("FAX_FAILED") and lost.file
    assert (await office.notices(machine.me, fax.name))[0].display_name.startswith("传真未能发送")
