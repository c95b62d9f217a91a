"""What the gateway alone sees becomes facts."""

import asyncio
from typing import Any

import grpc
import httpx
import pytest
from crmkit.bus import Bus
from crmkit.keys import ApiKey
from crmkit.testing import Parts, free_port
from gateway.__main__ import running
from gateway.settings import Settings
from gateway.testing import BEARER, SECRET, Echo, Gateway, serving, soon
from gateway.witness import Witness
from prometheus_client import CollectorRegistry


def told(witness: Witness, kind: str) -> list[Any]:
    """The facts of a kind that wait, as what they say."""
    witness.settle()
    return [one.message for one in witness.waiting if one.message.DESCRIPTOR.name == kind]


async def test_refusals_are_told_together_and_name_only_whose_credentials_were_good(gateway: Gateway) -> None:
    forged = {"authorization": "Bearer x.y.z", "user-agent": "probe/1"}
    for _ in range(3):
        assert (await gateway.client.get("/v1/stream", headers=forged)).status_code == 401
    assert (await gateway.client.get("/v1/stream")).status_code == 401
    (refused,) = told(gateway.witness, "AccessRefused")
    assert (refused.caller, refused.reason, refused.address, refused.count) == (
        "", "UNAUTHENTICATED", "203.0.113.7", 3
    )  # fmt: skip
    assert refused.first_time.seconds


async def test_calls_of_a_key_are_counted_by_address(gateway: Gateway) -> None:
    key = ApiKey.make("test")
    gateway.config[f"apiKey.{key.id}"] = {"hash": key.digest(SECRET), "permissions": [], "scope": "OWN"}
    for _ in range(2):
        await gateway.client.get("/v1/stream", headers={"x-api-key": str(key)})
    (called,) = told(gateway.witness, "KeyCalled")
    assert (called.caller, called.count, called.address) == (f"apiKeys/{key.id}", 2, "203.0.113.7")


async def test_who_prints_what_is_told_once_it_was_given_out(gateway: Gateway, echo: Echo) -> None:
    async def paper(_: Any, __: Any) -> Any:
        return {"name": "things/42"}

    headers, echo.answers["RenderThing"] = {**BEARER, "user-agent": "Firefox"}, paper
    assert (await gateway.client.get("/v1/things/42:render", headers=headers)).status_code == 200
    (printed,) = told(gateway.witness, "RecordPrinted")
    assert (printed.record, printed.method, printed.address, printed.device) == (
        "things/42", "RenderThing", "203.0.113.7", "Firefox"
    )  # fmt: skip

    async def absent(_: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.NOT_FOUND, "…")

    echo.answers["RenderThing"] = absent
    assert (await gateway.client.get("/v1/things/43:render", headers=headers)).status_code == 404
    assert len(told(gateway.witness, "RecordPrinted")) == 1


async def test_a_sign_in_that_fails_is_told(gateway: Gateway) -> None:
    headers = {"user-agent": "Firefox"}
    assert (await gateway.client.get("/session/callback?code=x&state=y", headers=headers)).status_code == 401
    (refused,) = told(gateway.witness, "SignInRefused")
    assert (refused.reason, refused.address, refused.device) == ("SIGN_IN_FAILED", "203.0.113.7", "Firefox")


async def test_what_waits_goes_to_the_stream_and_the_rest_with_the_end(parts: Parts) -> None:
    settings = Settings(
        nats_url=parts.nats_url, oidc_issuer=parts.issuer.url, secret_key=SECRET, files_url="memory:///",
        services=f"customer=127.0.0.1:{free_port()}", http_port=free_port(),
    )  # fmt: skip
    got: list[Any] = []

    async def heard(message: Any) -> None:
        got.append((message.subject, message.headers or {}, message.data))

    async with Bus(parts.nats_url, "test") as bus:
        await bus.connected()
        await bus.client.subscribe("crm.gateway.v1.>", cb=heard)
        await bus.client.flush()
        async with running(settings, CollectorRegistry()) as app, serving(app, settings.http_port) as port:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                assert (await client.get("/session/callback?code=x&state=y")).status_code == 401
                await soon(lambda: any(subject.endswith("SignInRefused") for subject, *_ in got))
                await client.get("/v1/stream", headers={"authorization": "Bearer a.b.c"})
            app.state.changes.close()
        await soon(lambda: any(subject.endswith("AccessRefused") for subject, *_ in got))
        headers = got[0][1]
        assert headers["ce-id"] == headers["Nats-Msg-Id"] and headers["ce-source"] == "crm/gateway"
        info = await asyncio.wait_for(bus.js.stream_info("crm-gateway"), 30)
        assert info.state.messages >= 2


@pytest.mark.parametrize("flood", [6000])
async def test_a_flood_from_everywhere_is_counted_in_bounded_memory(flood: int) -> None:
    witness = Witness()
    for number in range(flood):
        witness.refused("", "/v1/accounts", "KEY_UNKNOWN", f"10.0.{number // 250}.{number % 250}", False)
    facts = told(witness, "AccessRefused")
    assert len(facts) <= 5001 and sum(fact.count for fact in facts) == flood
    # Told of nobody in particular they are taken in lists, else one by one.
    assert {one.about for one in witness.waiting} == {""}
