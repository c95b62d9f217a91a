from collections.abc import AsyncIterator
from typing import Any

import pytest
from crmkit.auth import system
from crmkit.testing import Parts, Service
from insight.app import app
from insight.model.search_document import SearchDocument
from sqlalchemy import text
from uuid_utils.compat import uuid7


class Insight(Service):
    """The service, and ways to tell it what other services tell."""

    async def told(
        self, collection: str, area: str, resource: dict[str, Any], version: int = 1, action: str = "CREATED"
    ) -> str:
        """Tells a change as the service of the area would; gives the record's name."""
        name: str = resource.get("name") or f"{collection}/{uuid7()}"
        payload = {
            "name": name,
            "action": action,
            "actor": "employees/x",
            "resource": {**resource, "name": name},
        }
        await self.tell(f"crm.{area}.v1.ResourceChanged", payload, name, version)
        return name

    def of(self, username: str) -> dict[str, Any]:
        """Owner and department of what the person made."""
        person = self.person(username)
        return {"owner": person.employee, "department": person.department}

    async def has(self, name: str) -> bool:
        """True once the record is in the search, whoever may see it."""
        async with self.running.call("test", system("insight")) as call:
            return await call.find(SearchDocument, SearchDocument.__table__.c.target == name) is not None

    async def scalar(self, statement: str, **values: Any) -> Any:
        """One value from the database."""
        async with self.running.call("test", system("insight")) as call:
            return await call.db.scalar(text(statement), values)


@pytest.fixture(scope="session")
async def insight(parts: Parts) -> AsyncIterator[Insight]:
    """The insight service on real parts."""
    async with parts.service(app()) as service:
        yield Insight(service.running, service.channel, service.parts)
