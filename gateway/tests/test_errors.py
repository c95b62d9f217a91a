"""Errors in one form, in the caller's language, with the status of their reason."""

from typing import Any

import grpc
import pytest
from gateway.errors import language_of
from gateway.testing import BEARER, Echo, Gateway, reason
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2


def refusing(code: grpc.StatusCode, why: str = "", text: str = "", **metadata: str) -> Any:
    """A handler that refuses as the kit does: all of it in `grpc-status-details-bin`."""

    async def answer(_: Any, context: grpc.aio.ServicerContext) -> Any:
        if why:
            details: list[Any] = [
                error_details_pb2.ErrorInfo(reason=why, domain="echo.crm", metadata=metadata),
                error_details_pb2.LocalizedMessage(locale="zh-CN", message=text),
                error_details_pb2.BadRequest(
                    field_violations=[
                        {"field": "thing.display_name", "description": "必填", "reason": "REQUIRED"}
                    ]
                ),
            ]
            status = status_pb2.Status(code=code.value[0], message="debug text")
            for detail in details:
                packed = any_pb2.Any()
                packed.Pack(detail)
                status.details.append(packed)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        await context.abort(code, "debug text")

    return answer


async def test_the_details_of_a_service_arrive_whole(gateway: Gateway, echo: Echo) -> None:
    echo.answers["GetThing"] = refusing(
        grpc.StatusCode.FAILED_PRECONDITION, "THING_EMPTY", "物品是空的。", limit="3"
    )
    response = await gateway.client.get("/v1/things/1", headers=BEARER)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["status"]) == (409, 409, "FAILED_PRECONDITION")
    assert error["message"] == "物品是空的。"
    details = {detail.pop("@type").rpartition(".")[2]: detail for detail in error["details"]}
    assert details["ErrorInfo"] == {"reason": "THING_EMPTY", "domain": "echo.crm", "metadata": {"limit": "3"}}
    assert details["BadRequest"]["fieldViolations"] == [
        {"field": "thing.displayName", "description": "必填", "reason": "REQUIRED"}
    ]
    assert details["LocalizedMessage"] == {"locale": "zh-CN", "message": "物品是空的。"}
    assert details["RequestInfo"]["requestId"] in response.headers["traceparent"]
    assert "debug text" not in response.text


@pytest.mark.parametrize(
    ("code", "why", "status"),
    [
        ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID", 400),
        ("INVALID_ARGUMENT", "FILTER_INVALID", 400),
        ("INVALID_ARGUMENT", "VALIDATION", 422),
        ("INVALID_ARGUMENT", "UNKNOWN_REFERENCE", 422),
        ("INVALID_ARGUMENT", "CURRENCY_MISMATCH", 422),
        ("INVALID_ARGUMENT", "IDEMPOTENCY_KEY_REUSED", 422),
        ("INVALID_ARGUMENT", "IDEMPOTENCY_KEY_REQUIRED", 400),
        ("UNAUTHENTICATED", "UNAUTHENTICATED", 401),
        ("PERMISSION_DENIED", "PERMISSION_DENIED", 403),
        ("NOT_FOUND", "NOT_FOUND", 404),
        ("ALREADY_EXISTS", "ALREADY_EXISTS", 409),
        ("ABORTED", "ETAG_MISMATCH", 412),
        ("ABORTED", "CONFLICT", 409),
        ("FAILED_PRECONDITION", "ILLEGAL_TRANSITION", 409),
        ("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", 429),
        ("RESOURCE_EXHAUSTED", "TOO_LARGE", 413),
        ("UNAVAILABLE", "UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", 504),
        ("INTERNAL", "INTERNAL", 500),
    ],
)
async def test_every_reason_has_its_status(
    gateway: Gateway, echo: Echo, code: str, why: str, status: int
) -> None:
    echo.answers["WinThing"] = refusing(grpc.StatusCode[code], why, "…")
    response = await gateway.client.post("/v1/things/1:win", headers=BEARER)
    assert (response.status_code, reason(response)) == (status, why)
    assert response.json()["error"]["status"] == code
    assert ("www-authenticate" in response.headers) == (status == 401)
    assert ("retry-after" in response.headers) == (status in (429, 503))


async def test_a_code_alone_gets_the_gateways_own_words(gateway: Gateway, echo: Echo) -> None:
    for code, why in (
        ("UNKNOWN", "INTERNAL"),
        ("UNAUTHENTICATED", "UNAUTHENTICATED"),
        ("NOT_FOUND", "NOT_FOUND"),
    ):
        echo.answers["GetThing"] = refusing(grpc.StatusCode[code])
        response = await gateway.client.get("/v1/things/1", headers={**BEARER, "accept-language": "en"})
        assert reason(response) == why
        assert "debug text" not in response.text


async def test_the_gateway_speaks_the_callers_language(gateway: Gateway) -> None:
    chinese = await gateway.client.get("/v1/nothing", headers=BEARER)
    english = await gateway.client.get("/v1/nothing", headers={**BEARER, "accept-language": "en-GB,zh;q=0.5"})
    assert chinese.json()["error"]["message"] == "记录不存在。"
    assert english.json()["error"]["message"] == "There is no such record."
    assert (chinese.headers["content-language"], english.headers["content-language"]) == ("zh-CN", "en")


async def test_the_service_is_told_the_language(gateway: Gateway, echo: Echo) -> None:
    await gateway.client.get("/v1/things/1", headers={**BEARER, "accept-language": "en"})
    assert echo.last.metadata["accept-language"] == "en"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "zh"),
        ("de", "zh"),
        ("en", "en"),
        ("zh-TW,en;q=0.9", "zh"),
        ("de,en;q=0.2,zh;q=0.1", "en"),
        (";;,q", "zh"),
    ],
)
def test_the_language_is_the_one_that_weighs_more(header: str, language: str) -> None:
    assert language_of(header) == language


async def test_metadata_of_our_own_is_not_taken_from_outside(gateway: Gateway, echo: Echo) -> None:
    headers = {**BEARER, "x-user-id": "employees/admin", "x-forwarded-for": "1.1.1.1", "crm-actor": "x"}
    await gateway.client.get("/v1/things/1", headers=headers)
    assert "x-user-id" not in echo.last.metadata and "crm-actor" not in echo.last.metadata
    assert echo.last.metadata["x-forwarded-for"] == "203.0.113.7"
    assert echo.last.metadata["authorization"] == BEARER["authorization"]


async def test_a_trace_goes_on_through_the_gateway(gateway: Gateway, echo: Echo) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {**BEARER, "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    response = await gateway.client.get("/v1/things/1", headers=headers)
    assert trace in response.headers["traceparent"]
    assert trace in echo.last.metadata["traceparent"]
    wrong = await gateway.client.get("/v1/things/1", headers={**BEARER, "traceparent": "00-zz-yy-01\r"})
    assert len(wrong.headers["traceparent"]) == 55


@pytest.mark.capability("a.security")
async def test_every_answer_carries_the_security_headers(gateway: Gateway) -> None:
    for path in ("/healthz", "/v1/nothing", "/docs", "/openapi.json", "/nothing"):
        headers = (await gateway.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe-inline" not in headers["content-security-policy"]
