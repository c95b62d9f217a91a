"""People who were never here can be taken out; whoever left a trace is offboarded."""

from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Service


@pytest.mark.capability("a.user")
async def test_who_has_left_a_trace_is_offboarded_and_not_deleted(workspace: Service, office: Any) -> None:
    mark, admin = uuid4().hex[:6], workspace.admin
    mistake, worked = await office.hire(f"typo.{mark}", []), await office.hire(f"worked.{mark}", ["finance"])
    key = f"employee.{mistake.name.partition('/')[2]}"
    await workspace.eventually(lambda: workspace.running.config.get(key))
    await (await office.client_of(worked)).CreateTask(task={"displayName": f"做过事{mark}"})

    async def acted() -> bool:
        entries = await admin.ListAuditEntries(filter=f'actor = "{worked.name}"')
        return bool(entries.audit_entries)

    await workspace.eventually(acted)
    assert await office.refusal(admin.DeleteEmployee(name=worked.name)) == "EMPLOYEE_HAS_HISTORY"
    await admin.DeleteEmployee(name=mistake.name)
    assert await office.refusal(admin.GetEmployee(name=mistake.name)) == "NOT_FOUND"
    await workspace.eventually(lambda: workspace.running.config.get(key) is None)
    # The name is free again.
    await office.hire(f"typo.{mark}", [])
