"""Deadlines, the one retry, the breaker, and load that is too much."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from gateway.testing import BEARER, Echo, Gateway, reason


async def test_reads_have_two_seconds_and_writes_five(gateway: Gateway, echo: Echo) -> None:
    await gateway.client.get("/v1/things/1", headers=BEARER)
    assert 1.5 < echo.last.seconds < 2.1
    await gateway.client.post("/v1/things/1:win", headers=BEARER)
    assert 4.5 < echo.last.seconds < 5.1


async def test_a_caller_may_shorten_its_deadline_and_not_lengthen_it(gateway: Gateway, echo: Echo) -> None:
    await gateway.client.get("/v1/things/1", headers={**BEARER, "x-request-timeout": "0.5"})
    assert echo.last.seconds < 0.6
    await gateway.client.get("/v1/things/1", headers={**BEARER, "x-request-timeout": "60"})
    assert echo.last.seconds < 2.1


async def test_a_frozen_service_costs_its_callers_no_more_than_the_deadline(
    gateway: Gateway, echo: Echo
) -> None:
    async def freeze(_: Any, __: Any) -> Any:
        await asyncio.sleep(30)

    echo.answers["GetThing"] = freeze
    began = time.monotonic()
    response = await gateway.client.get("/v1/things/1", headers={**BEARER, "x-request-timeout": "0.3"})
    assert (response.status_code, reason(response)) == (504, "DEADLINE_EXCEEDED")
    assert time.monotonic() - began < 20


def failing_once(echo: Echo, rpc: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
    async def answer(_: Any, context: grpc.aio.ServicerContext) -> Any:
        if len(echo.calls) == 1:
            await asyncio.sleep(0.3)
            await context.abort(code, "")
        return {"name": "things/1"}

    echo.answers[rpc] = answer


async def test_an_unavailable_read_is_tried_once_more(gateway: Gateway, echo: Echo) -> None:
    failing_once(echo, "GetThing")
    assert (await gateway.client.get("/v1/things/1", headers=BEARER)).status_code == 200
    assert len(echo.calls) == 2
    # What the first try took is gone from the budget.
    assert echo.calls[1].seconds < 1.8


async def test_what_a_service_that_ends_has_not_begun_is_tried_once_more(
    gateway: Gateway, echo: Echo
) -> None:
    failing_once(echo, "WinThing", grpc.StatusCode.CANCELLED)
    response = await gateway.client.post("/v1/things/1:win", headers=BEARER)
    assert (response.status_code, reason(response)) == (503, "UNAVAILABLE")
    echo.calls.clear()
    headers = {**BEARER, "idempotency-key": "k"}
    assert (await gateway.client.post("/v1/things/1:win", headers=headers)).status_code == 200
    assert len(echo.calls) == 2


async def test_a_write_is_tried_again_only_with_its_key(gateway: Gateway, echo: Echo) -> None:
    failing_once(echo, "WinThing")
    assert (await gateway.client.post("/v1/things/1:win", headers=BEARER)).status_code == 503
    assert len(echo.calls) == 1
    echo.calls.clear()
    headers = {**BEARER, "idempotency-key": "k"}
    assert (await gateway.client.post("/v1/things/1:win", headers=headers)).status_code == 200
    assert [call.request["requestId"] for call in echo.calls] == ["k", "k"]


async def test_other_failures_are_not_tried_again(gateway: Gateway, echo: Echo) -> None:
    async def answer(_: Any, context: grpc.aio.ServicerContext) -> Any:
        await context.abort(grpc.StatusCode.ABORTED, "")

    echo.answers["GetThing"] = answer
    assert (await gateway.client.get("/v1/things/1", headers=BEARER)).status_code == 409
    assert len(echo.calls) == 1


async def test_no_storm_of_retries_and_then_the_breaker_opens_and_closes(
    gateway: Gateway, echo: Echo
) -> None:
    async def answer(_: Any, context: grpc.aio.ServicerContext) -> Any:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "")

    echo.answers["GetThing"] = answer
    for _ in range(60):
        response = await gateway.client.get("/v1/things/1", headers=BEARER)
        assert (response.status_code, reason(response)) == (503, "UNAVAILABLE")
    # Ten retries at the most, and the breaker kept the service from the last of the calls.
    assert len(echo.calls) < 40
    del echo.answers["GetThing"]
    await asyncio.sleep(1.1)
    assert (await gateway.client.get("/v1/things/1", headers=BEARER)).status_code == 200
    assert (await gateway.client.get("/v1/things/1", headers=BEARER)).status_code == 200


async def test_callers_in_haste_do_not_open_the_breaker(gateway: Gateway, echo: Echo) -> None:
    async def slow(_: Any, __: Any) -> Any:
        await asyncio.sleep(0.2)
        return {}

    echo.answers["GetThing"] = slow
    hasty = {**BEARER, "x-request-timeout": "0.01"}
    gets = [gateway.client.get("/v1/things/1", headers=hasty) for _ in range(30)]
    assert {answer.status_code for answer in await asyncio.gather(*gets)} == {504}
    assert (await gateway.client.get("/v1/things/1", headers=BEARER)).status_code == 200


@pytest.mark.parametrize("gateway", [{"services": "echo=127.0.0.1:9"}], indirect=True)
async def test_a_service_that_is_away_answers_503_soon(gateway: Gateway) -> None:
    began = time.monotonic()
    response = await gateway.client.get("/v1/things/1", headers=BEARER)
    assert (response.status_code, reason(response)) == (503, "UNAVAILABLE")
    assert time.monotonic() - began < 20
    assert (await gateway.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize("gateway", [{"rate_limit": 5}], indirect=True)
async def test_a_caller_beyond_its_quota_waits_and_nobody_else_does(gateway: Gateway) -> None:
    statuses = [(await gateway.client.get("/v1/things/1", headers=BEARER)).status_code for _ in range(12)]
    assert statuses[:10] == [200] * 10
    refused = await gateway.client.get("/v1/things/1", headers=BEARER)
    assert (refused.status_code, reason(refused)) == (429, "QUOTA_EXCEEDED")
    assert int(refused.headers["retry-after"]) >= 1
    other = {"authorization": "Bearer x.y.z"}
    assert (await gateway.client.get("/v1/things/1", headers=other)).status_code == 200


@pytest.mark.parametrize("gateway", [{"max_in_flight": 2, "max_queue": 2}], indirect=True)
async def test_load_is_shed_behind_a_short_queue(gateway: Gateway, echo: Echo) -> None:
    async def slow(_: Any, __: Any) -> Any:
        await asyncio.sleep(0.2)
        return {}

    echo.answers["GetThing"] = slow
    gets = [gateway.client.get("/v1/things/1", headers=BEARER) for _ in range(8)]
    answers = await asyncio.gather(*gets, gateway.client.get("/healthz"))
    statuses = sorted(answer.status_code for answer in answers[:8])
    assert statuses == [200] * 4 + [503] * 4
    assert answers[8].status_code == 200
    assert all("retry-after" in answer.headers for answer in answers[:8] if answer.status_code == 503)
    # The places are free again.
    assert (await gateway.client.get("/v1/things/1", headers=BEARER)).status_code == 200


@pytest.mark.parametrize("gateway", [{"max_in_flight": 1, "max_queue": 4}], indirect=True)
async def test_nobody_waits_in_the_queue_longer_than_half_a_second(gateway: Gateway, echo: Echo) -> None:
    async def slow(_: Any, __: Any) -> Any:
        await asyncio.sleep(0.9)
        return {}

    echo.answers["GetThing"] = slow
    first, second = await asyncio.gather(
        *(gateway.client.get("/v1/things/1", headers=BEARER) for _ in range(2))
    )
    assert sorted([first.status_code, second.status_code]) == [200, 503]
    assert (await gateway.client.get("/v1/things/1", headers=BEARER)).status_code == 200
