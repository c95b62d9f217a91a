"""The platform looks at its own safety every night, says what it found, and tells what is red."""

from datetime import date, timedelta
from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest
from crmkit.auth import system
from crmkit.testing import Refused, Service
from google.protobuf.json_format import MessageToDict
from sqlalchemy import text
from workspace import jobs, selfcheck


async def as_owner(workspace: Service, *statements: str) -> None:
    """Runs statements as who looks after the server."""
    connection = cast("Any", await asyncpg.connect(workspace.parts.admin_url, database="workspace"))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def report_of(workspace: Service, day: date) -> dict[str, Any]:
    """The report of the day, once it is written."""
    for _ in range(2):  # asked for twice, written once
        async with workspace.running.call("test", system("workspace")) as call:
            await selfcheck.begin(day, call)

    async def written() -> Any:
        page = await workspace.admin.ListSecurityReports(filter=f'day = "{day}"')
        return list(page.security_reports)

    [report] = await workspace.eventually(written)
    found = MessageToDict(report)
    found["by"] = {check["key"]: check for check in found["checks"]}
    return found


@pytest.mark.capability("a.security")
async def test_the_security_report_finds_what_is_not_as_it_should_be_and_tells_what_is_red(
    workspace: Service,
) -> None:
    day = date(2040, 1, 1) + timedelta(days=uuid4().int % 10_000)
    fine = await report_of(workspace, day)
    assert set(fine["by"]) == {"scanner", *selfcheck.CHECKS}
    assert fine["by"]["database"]["verdict"] == "GREEN", fine["by"]["database"]
    # This machine's test has neither a scanner nor encrypted ways, and is no production.
    assert [fine["by"][key]["verdict"] for key in ("scanner", "ways")] == ["YELLOW", "YELLOW"]
    assert "CLAMAV_URL" in fine["by"]["scanner"]["en"] and fine["by"]["scanner"]["zh"]

    address = f"s{uuid4().hex[:10]}@guanxi.example"
    box = await workspace.sales1.CreateMailAccount(
        mailAccount={"displayName": "自检", "address": address, "password": "secret",
                     "imapHost": "imap.example.com", "smtpHost": "smtp.example.com"}
    )  # fmt: skip
    clear = f"UPDATE mail_accounts SET secret = 'clear' WHERE id = '{box.name.partition('/')[2]}'"
    try:
        await as_owner(workspace, "GRANT TRUNCATE ON tasks TO workspace", clear)
        bad = await report_of(workspace, day + timedelta(days=1))
    finally:
        await as_owner(workspace, "REVOKE TRUNCATE ON tasks FROM workspace")
        await workspace.sales1.DeleteMailAccount(name=box.name)
    assert bad["verdict"] == "RED" and bad["reds"] >= 2
    assert bad["by"]["database"]["en"] == "the app may truncate table tasks"
    assert bad["by"]["secrets"]["verdict"] == "RED" and box.name in bad["by"]["secrets"]["en"]

    async def told() -> bool:
        found = (await workspace.admin.ListNotifications(pageSize=200)).notifications
        return any("truncate table tasks" in one.display_name for one in found)

    await workspace.eventually(told)
    assert (await report_of(workspace, day + timedelta(days=2)))["by"]["database"]["verdict"] == "GREEN"

    mark = uuid4().hex
    await as_owner(
        workspace,
        f"INSERT INTO raised_alerts (key, time) SELECT 'X:{mark}' || d, now() - make_interval(days => d)"
        " FROM unnest(ARRAY[1, 89, 91, 400]) d",
    )
    async with workspace.running.call("test", system("workspace")) as call:
        await jobs.check_security(call.now, call)
    async with workspace.running.sessions() as session:
        kept = await session.scalars(
            text("SELECT key FROM raised_alerts WHERE key LIKE :mine"), {"mine": f"X:{mark}%"}
        )
        assert sorted(kept) == [f"X:{mark}1", f"X:{mark}89"]

    with pytest.raises(Refused) as refused:
        await workspace.sales1.ListSecurityReports()
    assert refused.value.reason == "PERMISSION_DENIED"
