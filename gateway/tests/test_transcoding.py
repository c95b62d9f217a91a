"""From HTTP to the service and back."""

import base64
from pathlib import Path
from typing import Any

import grpc
import pytest
from crmkit.json import JsonCodec
from gateway.descriptors import Descriptors
from gateway.testing import BEARER, INCLUDES, Echo, Gateway, compile_protos, reason, violations
from gateway.transcoder import Transcoder, UnsupportedBinding


async def test_a_name_in_the_path_becomes_the_request(gateway: Gateway, echo: Echo) -> None:
    response = await gateway.client.get("/v1/things/42", headers=BEARER)
    assert response.status_code == 200
    assert response.json() == {"name": "things/42"}
    assert echo.last.request == {"name": "things/42"}


async def test_an_additional_binding_leads_to_the_same_method(gateway: Gateway, echo: Echo) -> None:
    await gateway.client.get("/v1/boxes/7/things/42", headers=BEARER)
    assert (echo.last.rpc, echo.last.request) == ("GetThing", {"name": "boxes/7/things/42"})


async def test_a_literal_goes_before_a_variable(gateway: Gateway, echo: Echo) -> None:
    await gateway.client.get("/v1/things/default", headers=BEARER)
    assert echo.last.rpc == "GetDefaultThing"


async def test_the_public_needs_no_credentials_and_the_rest_does(gateway: Gateway, echo: Echo) -> None:
    assert (await gateway.client.get("/v1/things/default")).status_code == 200
    refused = await gateway.client.get("/v1/things/42?api_key=crm_live_abc")
    assert (refused.status_code, reason(refused)) == (401, "UNAUTHENTICATED")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert [call.rpc for call in echo.calls] == ["GetDefaultThing"]


async def test_query_parameters_fill_the_request(gateway: Gateway, echo: Echo) -> None:
    query = (
        "pageSize=5&page_token=t&filter=a%20%3D%20%22b%22&q=%E5%8C%97%E4%BA%AC&groupBy=state&groupBy=owner"
        "&deleted=true&state=WON&window.startTime=2026-01-01T00:00:00Z&window.timeZone=Asia/Shanghai&sizes=1&sizes=2"
    )
    response = await gateway.client.get(f"/v1/things?{query}", headers=BEARER)
    assert response.status_code == 200, response.text
    assert echo.last.request == {
        "pageSize": 5,
        "pageToken": "t",
        "filter": 'a = "b"',
        "q": "北京",
        "groupBy": ["state", "owner"],
        "deleted": True,
        "state": "WON",
        "window": {"startTime": "2026-01-01T00:00:00Z", "timeZone": "Asia/Shanghai"},
        "sizes": [1, 2],
    }


@pytest.mark.parametrize(
    ("query", "status", "why"),
    [
        ("pageSize=abc", 422, "VALIDATION"),
        ("pageSize=999999999999999999999999999999", 422, "VALIDATION"),
        ("nothing=1", 422, "VALIDATION"),
        ("deleted=maybe", 422, "VALIDATION"),
        ("state=LOST", 422, "VALIDATION"),
        ("window.startTime=yesterday", 422, "VALIDATION"),
        ("q=a&q=b", 400, "MALFORMED"),
        ("q=%00", 400, "TEXT_CONTROL_CHARACTER"),
        ("q=%ff", 400, "MALFORMED"),
    ],
)
async def test_a_wrong_parameter_is_refused(
    gateway: Gateway, echo: Echo, query: str, status: int, why: str
) -> None:
    response = await gateway.client.get(f"/v1/things?{query}", headers=BEARER)
    assert (response.status_code, reason(response)) == (status, why)
    assert echo.calls == []


async def test_a_create_takes_the_body_as_the_resource(gateway: Gateway, echo: Echo) -> None:
    body = {
        "displayName": "华宇科技",
        "amount": 3,
        "weight": 0.5,
        "tags": ["a", "b"],
        "price": {"currencyCode": "CNY", "amount": "1.50"},
        "day": {"year": 2026, "month": 11, "day": 21},
        "dueTime": "2026-11-21T09:30:00Z",
        "active": True,
        "labels": {"x": "y"},
        "custom": {"colour": "red", "list": [1, None]},
    }
    response = await gateway.client.post(
        "/v1/things", json=body, headers={**BEARER, "idempotency-key": "k-1"}
    )
    assert response.json() == body
    assert echo.last.request == {"thing": body, "requestId": "k-1"}


async def test_a_patch_masks_exactly_the_keys_of_its_body(gateway: Gateway, echo: Echo) -> None:
    body: dict[str, Any] = {
        "displayName": "新",
        "owner": None,
        "custom": {"color": 1, "size": None},
        "etag": "2",
    }
    response = await gateway.client.patch("/v1/things/42", json=body, headers={**BEARER, "if-match": '"3"'})
    assert response.status_code == 200, response.text
    assert echo.last.request["updateMask"] == "displayName,owner,custom.color,custom.size"
    assert echo.last.request["thing"]["name"] == "things/42"
    assert echo.last.request["thing"]["etag"] == "3"
    assert "owner" not in echo.last.request["thing"]


async def test_the_path_wins_over_a_name_in_the_body(gateway: Gateway, echo: Echo) -> None:
    await gateway.client.patch("/v1/things/42", json={"name": "things/666", "amount": 1}, headers=BEARER)
    assert echo.last.request["thing"]["name"] == "things/42"
    assert echo.last.request["updateMask"] == "amount"


async def test_a_verb_takes_etag_and_key_from_the_headers(gateway: Gateway, echo: Echo) -> None:
    headers = {**BEARER, "if-match": 'W/"7"', "idempotency-key": "abc"}
    response = await gateway.client.post("/v1/things/42:win", headers=headers)
    assert response.status_code == 200
    assert (echo.last.rpc, echo.last.request) == (
        "WinThing",
        {"name": "things/42", "etag": "7", "requestId": "abc"},
    )


async def test_the_etag_of_the_reply_is_a_header(gateway: Gateway, echo: Echo) -> None:
    async def answer(_: Any, __: Any) -> Any:
        return {"name": "things/42", "etag": "8"}

    echo.answers["WinThing"] = answer
    response = await gateway.client.post("/v1/things/42:win", json={}, headers=BEARER)
    assert response.headers["etag"] == '"8"'
    assert response.headers["content-type"] == "application/json"


async def test_a_replayed_reply_says_so(gateway: Gateway, echo: Echo) -> None:
    async def answer(_: Any, context: grpc.aio.ServicerContext) -> Any:
        await context.send_initial_metadata((("crm-replayed", "true"),))
        return {"name": "things/42"}

    echo.answers["CreateThing"] = answer
    response = await gateway.client.post(
        "/v1/things", json={"displayName": "a"}, headers={**BEARER, "idempotency-key": "k"}
    )
    assert response.headers["idempotent-replayed"] == "true"


async def test_names_of_a_batch_are_repeated(gateway: Gateway, echo: Echo) -> None:
    await gateway.client.get("/v1/things:batchGet?names=things/1&names=things/2", headers=BEARER)
    assert echo.last.request == {"names": ["things/1", "things/2"]}


async def test_a_delete_answers_an_empty_object(gateway: Gateway, echo: Echo) -> None:
    response = await gateway.client.delete("/v1/things/42", headers={**BEARER, "if-match": '"3"'})
    assert (response.status_code, response.json()) == (200, {})
    assert echo.last.request == {"name": "things/42", "etag": "3"}


@pytest.mark.parametrize(
    ("method", "path", "status", "why"),
    [
        ("GET", "/v1/nothing", 404, "NOT_FOUND"),
        ("GET", "/v1/things/1/2/3", 404, "NOT_FOUND"),
        ("GET", "/v1/things/", 404, "NOT_FOUND"),
        ("POST", "/v1/things/1:lose", 404, "NOT_FOUND"),
        ("PUT", "/v1/things/1", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/things/1:win", 405, "METHOD_NOT_ALLOWED"),
        ("TRACE", "/v1/things/1", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/elsewhere", 404, "NOT_FOUND"),
        ("POST", "/healthz", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/things/a%00b", 400, "MALFORMED"),
    ],
)
async def test_an_address_without_a_method_is_refused(
    gateway: Gateway, method: str, path: str, status: int, why: str
) -> None:
    response = await gateway.client.request(method, path, headers=BEARER)
    assert (response.status_code, reason(response)) == (status, why)


@pytest.mark.parametrize(
    "headers",
    [
        {"if-match": "*"},
        {"if-match": "3"},
        {"if-match": '"a", "b"'},
        {"idempotency-key": "k" * 65},
        {"idempotency-key": "a b"},
        {"x-request-timeout": "soon"},
        {"x-request-timeout": "-1"},
    ],
)
async def test_a_header_in_the_wrong_form_is_refused(
    gateway: Gateway, echo: Echo, headers: dict[str, str]
) -> None:
    response = await gateway.client.post("/v1/things/42:win", headers={**BEARER, **headers})
    assert (response.status_code, reason(response)) == (400, "MALFORMED")
    assert echo.calls == []


async def test_a_precondition_that_nobody_would_check_is_refused(gateway: Gateway) -> None:
    response = await gateway.client.get("/v1/things/42", headers={**BEARER, "if-match": '"3"'})
    assert (response.status_code, reason(response)) == (400, "MALFORMED")


async def test_an_unknown_field_is_named(gateway: Gateway) -> None:
    body = {"displayName": 3, "nothing": 1, "price": {"amount": 5}, "tags": ["a", 4], "state": "LOST"}
    response = await gateway.client.post("/v1/things", json=body, headers=BEARER)
    assert (response.status_code, reason(response)) == (422, "VALIDATION")
    assert violations(response) == {
        "thing.displayName": "WRONG_TYPE",
        "thing.nothing": "UNKNOWN_FIELD",
        "thing.price.amount": "WRONG_TYPE",
        "thing.tags[1]": "WRONG_TYPE",
        "thing.state": "UNKNOWN_VALUE",
    }


@pytest.mark.parametrize(
    "rule",
    [
        'get: "/v1/{name=things/**}"',
        'get: "/v1/{name=things/*}" body: "*"',
        'post: "/v1/things" body: "nothing"',
        'get: "/v1/{nothing=things/*}"',
        'get: "/v1/{amount=things/*}"',
        'get: "/v1/things" response_body: "name"',
        'custom: {kind: "HEAD" path: "/v1/things"}',
        'get: "v1/things"',
        'get: "/v1/thi ngs"',
    ],
)
def test_a_binding_outside_the_subset_fails_at_the_start(tmp_path: Path, rule: str) -> None:
    with pytest.raises(UnsupportedBinding):
        _transcoder(tmp_path, f"rpc A(R) returns (R) {{ option (google.api.http) = {{{rule}}}; }}")


def test_two_methods_on_one_address_fail_at_the_start(tmp_path: Path) -> None:
    rpc = 'rpc {}(R) returns (R) {{ option (google.api.http) = {{get: "/v1/{{name=things/*}}"}}; }}'
    with pytest.raises(UnsupportedBinding):
        _transcoder(tmp_path, rpc.format("A") + rpc.format("B"))


def test_a_stream_fails_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedBinding):
        _transcoder(
            tmp_path, 'rpc A(R) returns (stream R) { option (google.api.http) = {get: "/v1/things"}; }'
        )


def _transcoder(directory: Path, rpcs: str) -> Transcoder:
    source = directory / "crm" / "odd" / "v1" / "odd.proto"
    source.parent.mkdir(parents=True)
    source.write_text(
        'syntax = "proto3"; package crm.odd.v1; import "google/api/annotations.proto"; '
        f"service OddService {{ {rpcs} }} message R {{ string name = 1; int32 amount = 2; }}"
    )
    descriptor_set = compile_protos(directory, "crm/odd/v1/odd.proto", includes=(directory, *INCLUDES))
    return Transcoder(Descriptors(descriptor_set), JsonCodec(descriptor_set), ["odd"])


async def test_bytes_and_unknown_fields_of_a_newer_service_do_no_harm(
    gateway: Gateway, codec: JsonCodec
) -> None:
    newer = codec.from_value("crm.echo.v1.Thing", {"name": "things/1"}) + base64.b64decode("+gYDYWJj")
    assert codec.to_json("crm.echo.v1.Thing", newer) == b'{"name":"things/1"}'
