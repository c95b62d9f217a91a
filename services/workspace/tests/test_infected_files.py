"""Infected uploads: who is told of them."""

from typing import Any

import pytest
from crmkit.testing import Service


@pytest.mark.capability("a.security")
async def test_of_an_infected_upload_its_sender_and_the_administrator_are_told(
    workspace: Service, office: Any
) -> None:
    sender = await office.hire("infected.sender", ["sales_representative"])
    client, name = await office.client_of(sender), "带毒的报价单.doc"
    told = {
        "caller": sender.name, "signature": "Eicar-Test-Signature", "displayName": name, "sha256": "ab" * 32, "size": "68",
    }  # fmt: skip
    await workspace.tell("crm.gateway.v1.FileInfected", told, sender.name)

    async def notices(who: Any) -> list[Any]:
        found = (await who.ListNotifications(pageSize=200)).notifications
        return [one for one in found if name in one.display_name]

    [mine] = await workspace.eventually(lambda: notices(client))
    assert "已隔离" in mine.display_name
    [alert] = await workspace.eventually(lambda: notices(workspace.admin))
    assert "ab" * 32 in alert.display_name and "infected.sender" in alert.display_name
    alerts = await workspace.facts("crm.workspace.v1.SecurityAlertRaised")
    about = [one["subject"] for one in alerts if one["kind"] == "INFECTED_FILE" and "ab" * 32 in one["en"]]
    assert about == [sender.name]
