"""Nobody pages whole lists out without the permission to export."""

from typing import Any

import pytest
from gateway.paging import rows_of
from gateway.testing import BEARER, BEARER_TOKEN, Echo, Gateway, caller


def pages_of(echo: Echo, rows: int) -> None:
    async def answer(request: dict[str, Any], context: Any) -> dict[str, Any]:
        things = [{"name": f"things/{number}"} for number in range(rows)]
        return {"things": things, "nextPageToken": "more"}

    echo.answers["ListThings"] = answer


@pytest.mark.capability("a.export")
async def test_after_5000_rows_of_further_pages_only_who_may_export_goes_on(
    gateway: Gateway, echo: Echo
) -> None:
    pages_of(echo, 1000)
    for _ in range(7):
        assert (await gateway.client.get("/v1/things", headers=BEARER)).status_code == 200
    for _ in range(5):
        page = await gateway.client.get("/v1/things?pageToken=more", headers=BEARER)
        assert page.status_code == 200
    refused = await gateway.client.get("/v1/things?pageToken=more", headers=BEARER)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 3000
    assert refused.json()["error"]["details"][0]["reason"] == "EXPORT_REQUIRED"
    assert (await gateway.client.get("/v1/things", headers=BEARER)).status_code == 200
    gateway.callers[BEARER_TOKEN] = caller("employees/1", permissions=["workspace.exports.create"])
    assert (await gateway.client.get("/v1/things?pageToken=more", headers=BEARER)).status_code == 200


def test_rows_are_counted_without_reading_them() -> None:
    from crm.common.v1 import common_pb2 as pb

    names = ["short", "x" * 200, "y" * 20_000]
    reply = pb.FactsTold(number=3, ids=names).SerializeToString()
    assert rows_of(b"") == 0
    assert rows_of(reply) == 0  # a number is no list
    entries = b"".join(b"\x0a" + length + name.encode() for name, length in
                       zip(names, (b"\x05", b"\xc8\x01", b"\xa0\x9c\x01"), strict=True))  # fmt: skip
    assert rows_of(entries + b"\x12\x04more") == 3
