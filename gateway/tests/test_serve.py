"""The gateway as it is served: live configuration, signed tokens and facts over real NATS."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from crmkit.bus import Bus
from crmkit.keys import ApiKey
from crmkit.testing import Parts, free_port
from gateway.__main__ import running
from gateway.settings import Settings
from gateway.testing import SECRET, serving, soon
from prometheus_client import CollectorRegistry


@pytest.fixture
async def served(parts: Parts) -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    settings = Settings(
        nats_url=parts.nats_url,
        oidc_issuer=parts.issuer.url,
        secret_key=SECRET,
        files_url="memory:///",
        services=f"customer=127.0.0.1:{free_port()}",
        http_port=free_port(),
    )
    async with running(settings, CollectorRegistry()) as app, serving(app, settings.http_port) as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await soon(lambda: app.state.ready())
            yield client, port
        app.state.changes.close()


async def test_it_is_ready_while_its_services_are_away(served: Any) -> None:
    client, _ = served
    assert (await client.get("/readyz")).status_code == 200
    assert (await client.get("/openapi.json")).json()["paths"]["/v1/accounts"]


async def test_changes_come_over_nats_to_whom_they_concern(served: Any, parts: Parts) -> None:
    _, port = served
    texts = dict.fromkeys(("admin", "sales1", "sales2"), "")

    async def listen(name: str) -> None:
        token = parts.issuer.token(parts.people[name])
        headers = {"authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{port}/v1/stream"
        async with (
            httpx.AsyncClient() as client,
            client.stream("GET", url, headers=headers, timeout=20) as response,
        ):
            assert response.status_code == 200
            async for text in response.aiter_text():
                texts[name] += text

    tasks = [asyncio.create_task(listen(name)) for name in texts]
    await soon(lambda: all(texts.values()))
    async with Bus(parts.nats_url, "test") as bus:
        js = await bus.connected()
        await bus.ensure_stream("customer")
        fact = {
            "name": "accounts/1",
            "action": "CREATED",
            "resource": {"name": "accounts/1", "owner": parts.people["sales1"].employee},
        }
        headers = {"Nats-Msg-Id": "e-1", "ce-id": "e-1", "crm-version": "1"}
        payload = httpx.Response(200, json=fact).content
        await js.publish("crm.customer.v1.ResourceChanged.accounts.UPDATED", payload, headers=headers)
        await js.publish(
            "crm.customer.v1.ResourceChanged.accounts.UPDATED", b"no json", headers={"Nats-Msg-Id": "e-2"}
        )
        await soon(lambda: "accounts/1" in texts["sales1"] and "accounts/1" in texts["admin"])
    await asyncio.sleep(0.2)
    assert "accounts/1" not in texts["sales2"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_token_that_is_not_the_issuers_opens_no_stream(served: Any, parts: Parts) -> None:
    client, _ = served
    for bent in ({"iss": "http://evil.test"}, {"aud": "other"}, {"exp": 1}, {"typ": "ID"}):
        token = parts.issuer.token(parts.people["admin"], **bent)
        refused = await client.get("/v1/stream", headers={"authorization": f"Bearer {token}"})
        assert refused.status_code == 401, bent


async def test_a_key_in_the_bucket_works_at_once_and_its_token_is_valid(served: Any, parts: Parts) -> None:
    client, _ = served
    key = ApiKey.make("local")
    entry = {"hash": key.digest(SECRET), "permissions": ["customer.accounts.read"], "scope": "OWN"}
    headers = {"x-api-key": str(key)}
    async with parts.configuration() as config:
        assert (await client.get("/v1/accounts", headers=headers)).status_code == 401
        await config.put(f"apiKey.{key.id}", entry)
        async with asyncio.timeout(30):
            while (await client.get("/v1/accounts", headers=headers)).status_code == 401:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        # The service is away, so 503; the stream verifies the minted token as a service would.
        async with client.stream("GET", "/v1/stream", headers=headers) as response:
            assert response.status_code == 200
        await config.put(f"apiKey.{key.id}", {**entry, "disabled": True})
        async with asyncio.timeout(30):
            while (await client.get("/v1/accounts", headers=headers)).status_code != 401:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
