from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from crmkit.auth import Scope, system
from crmkit.testing import Parts, Service
from local_platform.layout import PEOPLE
from workspace.app import app
from workspace.model.employee import Employee
from workspace.model.role import Role


@pytest.fixture(scope="session")
async def workspace(parts: Parts) -> AsyncIterator[Service]:
    """The workspace service on real parts, with the demo company and the people of the conformance suite."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEED_COMPANY", str(PEOPLE))
        async with parts.service(app()) as service:
            await _employ_the_testers(service)
            yield service


async def _employ_the_testers(service: Service) -> None:
    """Workspace takes people out of the bucket whom it does not know."""
    running = service.running
    async with running.call("test", system("workspace")) as call:
        for scope in Scope:
            # Every permission there is, without being an administrator.
            role = {"permissions": ["*.*"], "scope": scope.value, "display_name": scope.value}
            await call.add(Role(code=f"everything_{scope.lower()}", **role))
        await call.flush()
        for username in ("everything", "everything2", "stranger", "nobody"):
            person = service.person(username)
            assert person.employee
            identity = UUID(person.employee.partition("/")[2])
            await call.add(
                Employee(
                    id=identity,
                    display_name=username,
                    department=person.department,
                    roles=list(person.roles),
                    state="ACTIVE",
                )
            )
    await service.eventually(lambda: "displayName" in (running.config.get(f"employee.{identity}") or {}))
