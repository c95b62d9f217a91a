"""What hurts other gateways: every payload gets its code, none gets 500, nothing sent comes back."""

import asyncio
import json
from typing import Any

import pytest
from gateway.testing import BEARER, Echo, Gateway, reason, serving, violations

JSON = {**BEARER, "content-type": "application/json"}
MALFORMED = {
    "NUL in a text": b'{"displayName": "a\\u0000b"}',
    "raw NUL": b'{"displayName": "a\x00b"}',
    "lone surrogate": b'{"displayName": "\\ud800"}',
    "lone low surrogate": b'{"displayName": "x\\udfffx"}',
    "NaN": b'{"weight": NaN}',
    "Infinity": b'{"weight": Infinity}',
    "-Infinity": b'{"custom": {"a": -Infinity}}',
    "1e400": b'{"weight": 1e400}',
    "5,000 digits": b'{"amount": ' + b"9" * 5000 + b"}",
    "beyond 64 bits": b'{"custom": {"a": 18446744073709551616}}',
    "depth 33": b'{"custom": ' + b'{"a": ' * 32 + b"1" + b"}" * 33,
    "depth 20,000": b'{"custom": ' + b"[" * 20000 + b"]" * 20000 + b"}",
    "depth without an end": b'{"custom": ' + b"[" * 20000,
    "a key twice": b'{"displayName": "a", "displayName": "b"}',
    "a key twice inside": b'{"custom": {"a": 1, "a": 2}}',
    "byte order mark": b'\xef\xbb\xbf{"displayName": "a"}',
    "UTF-16": '{"displayName": "a"}'.encode("utf-16"),
    "bad UTF-8": b'{"displayName": "\xff\xfe"}',
    "overlong UTF-8": b'{"displayName": "\xc0\xaf"}',
    "trailing garbage": b'{"displayName": "a"} x',
    "two values": b'{"displayName": "a"}{"displayName": "b"}',
    "trailing comma": b'{"displayName": "a",}',
    "single quotes": b"{'displayName': 'a'}",
    "comment": b'{"displayName": "a" /* b */}',
    "nothing but space": b"   ",
    "cut off": b'{"displayName": "a',
}
# What has characters that no text may have says so.
BAD_TEXT = {"NUL in a text", "lone surrogate", "lone low surrogate", "UTF-16", "bad UTF-8", "overlong UTF-8"}
INVALID = {
    "2 to the 63rd": (b'{"amount": 9223372036854775808}', {"amount": "WRONG_FORMAT"}),
    "beyond 32 bits": (b'{"amount": 2147483648}', {"amount": "WRONG_FORMAT"}),
    "a sum as text": (b'{"amount": "0.1+0.2"}', {"amount": "WRONG_FORMAT"}),
    "decimal comma": (b'{"amount": "1,5"}', {"amount": "WRONG_FORMAT"}),
    "NaN as text": (b'{"weight": "NaN"}', {"weight": "WRONG_FORMAT"}),
    "Infinity as text": (b'{"weight": "-Infinity"}', {"weight": "WRONG_FORMAT"}),
    "a fraction": (b'{"amount": 1.5}', {"amount": "WRONG_FORMAT"}),
    "list for a text": (b'{"displayName": ["a"]}', {"displayName": "WRONG_TYPE"}),
    "object for a text": (b'{"displayName": {"$ne": 1}}', {"displayName": "WRONG_TYPE"}),
    "text for true": (b'{"active": "true"}', {"active": "WRONG_TYPE"}),
    "no such day": (b'{"dueTime": "2026-02-30T00:00:00Z"}', {"dueTime": "WRONG_FORMAT"}),
    "a list": (b"[]", {"": "WRONG_TYPE"}),
    "null": (b"null", {"": "WRONG_TYPE"}),
    "a number": (b"1", {"": "WRONG_TYPE"}),
    "extra field": (b'{"displayName": "a", "isAdmin": true}', {"isAdmin": "UNKNOWN_FIELD"}),
    "script as a key": (b'{"<script>alert(1)</script>": 1}', {"": "UNKNOWN_FIELD"}),
    "prototype": (b'{"__proto__": {"a": 1}}', {"__proto__": "UNKNOWN_FIELD"}),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_what_is_not_plain_json_is_malformed(gateway: Gateway, echo: Echo, what: str) -> None:
    response = await gateway.client.post("/v1/things", content=MALFORMED[what], headers=JSON)
    expected = "TEXT_CONTROL_CHARACTER" if what in BAD_TEXT else "MALFORMED"
    assert (response.status_code, reason(response)) == (400, expected)
    assert echo.calls == []


@pytest.mark.parametrize(("body", "fields"), INVALID.values(), ids=INVALID)
async def test_json_that_is_no_such_message_names_its_fields(
    gateway: Gateway, echo: Echo, body: bytes, fields: dict[str, str]
) -> None:
    response = await gateway.client.post("/v1/things", content=body, headers=JSON)
    assert (response.status_code, reason(response)) == (422, "VALIDATION")
    assert violations(response) == {f"thing.{name}" if name else "thing": why for name, why in fields.items()}
    assert echo.calls == []


async def test_odd_but_right_values_arrive_unchanged(gateway: Gateway, echo: Echo) -> None:
    body: dict[str, Any] = {
        "displayName": "𠮷野家 ‮مرحبا 👩‍👩‍👧 \\u0000 NaN",
        "weight": -0.0,
        "labels": {"Infinity": "NaN"},
        "custom": {"deep": json.loads('{"a":' * 29 + "1" + "}" * 29)},
    }
    response = await gateway.client.post("/v1/things", json=body, headers=BEARER)
    assert response.status_code == 201, response.text
    assert echo.last.request["thing"] == body


async def test_nothing_sent_comes_back(gateway: Gateway) -> None:
    secret = "SECRET-7f3a"
    bodies = [
        f'{{"displayName": {{"{secret}": 1}}}}',
        f'{{"state": "{secret}"}}',
        f'{{"{secret} {secret}": 1}}',
        f'{{"displayName": "{secret}" x',
        f'{{"dueTime": "{secret}"}}',
    ]
    for body in bodies:
        response = await gateway.client.post("/v1/things", content=body, headers=JSON)
        assert response.status_code in (400, 422)
        assert secret not in response.text
    for path in (f"/v1/{secret}", f"/v1/things?state={secret}", f"/{secret}"):
        response = await gateway.client.get(path, headers=BEARER)
        assert secret not in response.text


async def test_another_content_type_is_refused(gateway: Gateway) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=gbk", ""):
        response = await gateway.client.post(
            "/v1/things", content=b"{}", headers={**BEARER, "content-type": kind}
        )
        assert (response.status_code, reason(response)) == (415, "MEDIA_TYPE_UNSUPPORTED"), kind
    headers = {**BEARER, "content-type": "application/json; charset=UTF-8"}
    assert (await gateway.client.post("/v1/things", content=b"{}", headers=headers)).status_code == 201


async def test_the_limits_hold_at_n_and_refuse_n_plus_one(gateway: Gateway, echo: Echo) -> None:
    frame = len('{"displayName": ""}')
    for size, status in ((1024 * 1024, 201), (1024 * 1024 + 1, 413)):
        body = b'{"displayName": "' + b"a" * (size - frame) + b'"}'
        assert (await gateway.client.post("/v1/things", content=body, headers=JSON)).status_code == status
        chunked = await gateway.client.post("/v1/things", content=_chunks(body), headers=JSON)
        assert chunked.status_code == status
    # httpx's transport counts the query twice: raw_path carries it too.
    for size, status in ((4000, 422), (9000, 414)):
        assert (await gateway.client.get(f"/v1/things?x={'a' * size}", headers=BEARER)).status_code == status
    many = {f"x-{i}": "1" for i in range(120)}
    assert (await gateway.client.get("/v1/things", headers={**BEARER, **many})).status_code == 431
    long = {"x-long": "a" * 17_000}
    assert (await gateway.client.get("/v1/things", headers={**BEARER, **long})).status_code == 431


async def test_a_body_whose_length_lies_is_refused_and_harms_nobody(gateway: Gateway) -> None:
    async with serving(gateway.app) as port:
        head = (
            b"POST /v1/things HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a.b.c\r\n"
            b"content-type: application/json\r\n"
        )
        chunked = head + b"transfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n"
        assert (await _raw(port, chunked)).startswith(b"HTTP/1.1 400")
        both = head + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        assert (await _raw(port, both))[9:12] in (b"400", b"200")
        assert (await _raw(port, head + b"content-length: x\r\n\r\n{}")).startswith(b"HTTP/1.1 400")
        await _raw(port, head + b"content-length: 50\r\n\r\n{}", close=True)
        alive = await _raw(port, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert alive.startswith(b"HTTP/1.1 200")


async def test_two_megabytes_are_refused_before_they_are_read(gateway: Gateway) -> None:
    async with serving(gateway.app) as port:
        head = (
            b"POST /v1/things HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a.b.c\r\n"
            b"content-type: application/json\r\ncontent-length: 2097152\r\n\r\n"
        )
        assert (await _raw(port, head)).startswith(b"HTTP/1.1 413")


async def _chunks(body: bytes) -> Any:
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


async def _raw(port: int, data: bytes, *, close: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    if close:
        writer.close()
        await writer.wait_closed()
        return b""
    async with asyncio.timeout(30):
        answer = await reader.readuntil(b"\r\n")
    writer.close()
    await writer.wait_closed()
    return answer
