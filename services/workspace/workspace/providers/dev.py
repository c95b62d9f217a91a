"""The development issuer as identity provider: its five calls are five addresses that want the installation's secret."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

import httpx
from crmkit import http
from crmkit.settings import Settings

from workspace.providers import Account, Changes, Composite, Lockout, ProviderAway, ProviderRefused


class DevIssuer:
    """The issuer of a local run (`local_platform.issuer`)."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def at(cls, settings: Settings) -> AsyncGenerator[DevIssuer]:
        """The server of the settings."""
        secret = {"Authorization": f"Bearer {settings.dev_issuer_secret}"}
        async with http.client(base_url=settings.dev_issuer_url, headers=secret, timeout=10) as client:
            yield cls(client)

    async def ensure_user(self, account: Account, managed: Collection[str]) -> str:
        """See `Provider`."""
        answer = await self._call("ensure-user", account=asdict(account), managed=sorted(managed))
        return str(answer["subject"])

    async def ensure_role(self, role: Composite) -> None:
        """See `Provider`."""
        await self._call("ensure-role", role={**asdict(role), "permissions": sorted(role.permissions)})

    async def set_enabled(self, username: str, employee: str, enabled: bool) -> None:
        """See `Provider`."""
        await self._call("set-enabled", username=username, employee=employee, enabled=enabled)

    async def end_sessions(self, username: str, session: str = "") -> None:
        """See `Provider`."""
        await self._call("end-sessions", username=username, session=session)

    async def list_changes(self, since: datetime, groups: Collection[str] = ()) -> Changes:
        """See `Provider`. Whoever chooses a name cannot choose wrongly, so nobody is ever locked out."""
        answer = await self._call("list-changes", since=since.isoformat(), groups=sorted(groups))
        members = {name: frozenset(found) for name, found in answer["members"].items()}
        return Changes(members, tuple[Lockout, ...]())

    async def _call(self, name: str, **body: Any) -> dict[str, Any]:
        try:
            answer = await self._client.post(f"/accounts/{name}", json=body)
        except httpx.HTTPError as error:
            raise ProviderAway(str(error)) from error
        if answer.status_code == 409:
            raise ProviderRefused(answer.json()["error"])
        if answer.status_code != 200:
            raise ProviderAway(f"{name}: status {answer.status_code}")
        return answer.json()
