"""What is no resource: files, the stream, pages, health."""

import asyncio
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import grpc
import httpx
import pytest
from crm.gateway.v1.gateway_pb2 import FileInfected
from crmkit import packs
from crmkit.access import Access, Organisation, People, Role
from crmkit.customfields import CustomFields
from crmkit.fieldlevels import FieldLevel
from crmkit.scanning import EICAR, EICAR_NAME
from gateway.routes.stream import BUFFER
from gateway.testing import BEARER, BEARER_TOKEN, Echo, Gateway, caller, reason, serving, soon
from openapi_spec_validator import validate

CONTENT = bytes(range(256)) * 4096
DIGEST = sha256(CONTENT).hexdigest()


async def upload(gateway: Gateway, content: bytes = CONTENT, **headers: str) -> httpx.Response:
    given = {**BEARER, "x-file-name": "%E5%90%88%E5%90%8C.pdf", "content-type": "application/pdf", **headers}
    return await gateway.client.post("/v1/files", content=content, headers=given)


def keeping(echo: Echo) -> dict[str, Any]:
    """A workspace that remembers one file."""
    kept: dict[str, Any] = {}

    async def create(request: Any, _: Any) -> Any:
        kept.update(request["file"], name="files/1")
        return kept

    async def get(_: Any, __: Any) -> Any:
        return kept

    echo.answers |= {"CreateFile": create, "GetFile": get}
    return kept


async def test_an_upload_becomes_a_file_with_hash_and_size(gateway: Gateway, echo: Echo) -> None:
    keeping(echo)
    response = await upload(gateway, **{"idempotency-key": "k1"})
    assert response.json() == {
        "name": "files/1",
        "displayName": "合同.pdf",
        "mediaType": "application/pdf",
        "size": str(len(CONTENT)),
        "sha256": DIGEST,
    }
    assert echo.last.request["requestId"] == "k1"
    assert echo.last.metadata["authorization"] == BEARER["authorization"]


async def test_the_file_of_an_export_comes_with_each_download_noted(gateway: Gateway, echo: Echo) -> None:
    keeping(echo)
    await upload(gateway)

    async def export(request: dict[str, Any], context: Any) -> dict[str, Any]:
        file = {"fileName": "客户.csv", "mediaType": "text/csv", "size": str(len(CONTENT)), "sha256": DIGEST}
        return {"name": request["name"], **file}

    echo.answers["DownloadExport"] = export
    got = await gateway.client.get("/v1/exports/7:download", headers=BEARER)
    assert (got.status_code, got.content, got.headers["content-type"]) == (
        200,
        CONTENT,
        "text/csv; charset=utf-8",
    )
    assert echo.last.request["name"] == "exports/7"
    assert gateway.witness.waiting[-1].about == "exports/7"
    assert (await gateway.client.get("/v1/exports/7:download")).status_code == 401


async def test_a_file_comes_back_whole_or_in_part(gateway: Gateway, echo: Echo) -> None:
    keeping(echo)
    await upload(gateway)
    whole = await gateway.client.get("/v1/files/1:download", headers=BEARER)
    assert gateway.witness.waiting[-1].about == "files/1"
    assert whole.content == CONTENT and whole.status_code == 200
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''%E5%90%88%E5%90%8C.pdf"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-security-policy"].startswith("default-src 'none'")
    for asked, start, end in (("0-9", 0, 10), ("1000-", 1000, len(CONTENT)), ("-5", len(CONTENT) - 5, None)):
        part = await gateway.client.get("/v1/files/1:download", headers={**BEARER, "range": f"bytes={asked}"})
        assert (part.status_code, part.content) == (206, CONTENT[start:end])
        assert part.headers["content-range"].startswith(f"bytes {start}-")
    beyond = {**BEARER, "range": f"bytes={len(CONTENT)}-"}
    refused = await gateway.client.get("/v1/files/1:download", headers=beyond)
    assert (refused.status_code, reason(refused)) == (416, "RANGE_NOT_SATISFIABLE")
    unchanged = {**BEARER, "if-none-match": whole.headers["etag"]}
    assert (await gateway.client.get("/v1/files/1:download", headers=unchanged)).status_code == 304


async def test_an_earlier_version_of_a_file_is_downloaded_as_it_was(gateway: Gateway, echo: Echo) -> None:
    kept = keeping(echo)
    await upload(gateway)
    first = dict(kept)
    await upload(gateway, b"newer")

    async def of_version(request: dict[str, Any], context: Any) -> dict[str, Any]:
        if request["version"] != 1:
            await context.abort(grpc.StatusCode.NOT_FOUND, "")
        return first

    echo.answers["ReadFileVersion"] = of_version
    url = "/v1/files/1:download"
    assert (await gateway.client.get(url, headers=BEARER)).content == b"newer"
    earlier = await gateway.client.get(f"{url}?version=1", headers=BEARER)
    assert (earlier.content, earlier.headers["etag"]) == (CONTENT, f'"{DIGEST}"')
    assert echo.last.request == {"name": "files/1", "version": 1}
    assert (await gateway.client.get(f"{url}?version=2", headers=BEARER)).status_code == 404
    assert (await gateway.client.get(f"{url}?version=1")).status_code == 401


async def test_the_same_content_twice_is_kept_once_and_still_two_files(gateway: Gateway, echo: Echo) -> None:
    keeping(echo)
    assert (await upload(gateway)).status_code == (await upload(gateway)).status_code == 200
    assert [call.rpc for call in echo.calls] == ["CreateFile", "CreateFile"]


async def test_an_empty_file_is_a_file(gateway: Gateway, echo: Echo) -> None:
    keeping(echo)
    await upload(gateway, b"")
    assert (await gateway.client.get("/v1/files/1:download", headers=BEARER)).content == b""


async def test_who_may_not_see_the_file_gets_no_byte(gateway: Gateway, echo: Echo) -> None:
    keeping(echo)
    await upload(gateway)

    async def hidden(_: Any, context: grpc.aio.ServicerContext) -> Any:
        await context.abort(grpc.StatusCode.NOT_FOUND, "")

    echo.answers["GetFile"] = hidden
    assert (await gateway.client.get("/v1/files/1:download", headers=BEARER)).status_code == 404
    assert (await gateway.client.get("/v1/files/1:download")).status_code == 401
    assert (await gateway.client.post("/v1/files", content=b"x")).status_code == 401


async def test_who_may_not_make_files_sends_no_bytes(gateway: Gateway, echo: Echo) -> None:
    gateway.callers[BEARER_TOKEN] = caller("employees/1")
    response = await upload(gateway)
    assert (response.status_code, reason(response)) == (403, "PERMISSION_DENIED")
    assert echo.calls == []


async def test_only_pictures_are_shown_in_a_page(gateway: Gateway, echo: Echo) -> None:
    kept = keeping(echo)
    await upload(gateway)
    for media_type, shown in (
        ("image/png", "inline"),
        ("image/svg+xml", "attachment"),
        ("text/html", "attachment"),
    ):
        kept["mediaType"] = media_type
        response = await gateway.client.get("/v1/files/1:download?disposition=inline", headers=BEARER)
        assert response.headers["content-disposition"].startswith(shown)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("C:%5Ca%5Cb.doc", "b.doc"),
        ("a%E2%80%AEfdp.txt", "afdp.txt"),
        ("a%0d%0ab", "ab"),
    ],
)
async def test_a_file_name_loses_what_could_deceive(
    gateway: Gateway, echo: Echo, header: str, name: str
) -> None:
    keeping(echo)
    assert (await upload(gateway, **{"x-file-name": header})).json()["displayName"] == name


@pytest.mark.parametrize("header", ["", "%20", "%ff", "a" * 256, "%2F"])
async def test_a_file_without_a_name_is_refused(gateway: Gateway, echo: Echo, header: str) -> None:
    response = await upload(gateway, **{"x-file-name": header})
    assert (response.status_code, reason(response)) == (400, "MALFORMED")


@pytest.mark.parametrize("gateway", [{"file_limit_mb": 1}], indirect=True)
async def test_a_file_over_the_limit_is_refused(gateway: Gateway, echo: Echo) -> None:
    async def chunks() -> Any:
        for _ in range(5):
            yield b"x" * 300_000

    declared = await upload(gateway, b"x" * (2**20 + 1))
    streamed = await gateway.client.post(
        "/v1/files", content=chunks(), headers={**BEARER, "x-file-name": "a"}
    )
    for refused in (declared, streamed):
        assert (refused.status_code, reason(refused)) == (413, "FILE_TOO_LARGE")
        assert "1 MB" in refused.text
    assert echo.calls == []


PROGRAM = b"MZ\x90\x00\x03" + bytes(200) + b"PE\x00\x00"


@pytest.mark.parametrize(("name", "content"), [
    ("setup.exe", b"x"), ("a.pdf.EXE. ", b"x"), ("run.ps1", b"x"), ("photo.png", PROGRAM),
    ("invoice", b"\x7fELF\x02\x01\x01" + bytes(200)),
])  # fmt: skip
async def test_programs_are_refused_by_ending_and_by_content(
    gateway: Gateway, echo: Echo, name: str, content: bytes
) -> None:
    refused = await upload(gateway, content, **{"x-file-name": quote(name), "content-type": "image/png"})
    assert (refused.status_code, reason(refused)) == (415, "FILE_TYPE_REFUSED")
    assert echo.calls == [] and not [page for page in gateway.store.list() if page]


@pytest.mark.parametrize("gateway", [{"refused_files": ".XLSM, zip"}], indirect=True)
async def test_the_company_says_which_files_it_takes(gateway: Gateway, echo: Echo) -> None:
    keeping(echo)
    assert (await upload(gateway, PROGRAM, **{"x-file-name": "setup.exe"})).status_code == 200
    for name in ("a.xlsm", "a.ZIP"):
        assert reason(await upload(gateway, **{"x-file-name": name})) == "FILE_TYPE_REFUSED"


@pytest.mark.parametrize(("content", "said", "kept"), [
    (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(50), "text/html", "image/png"),
    (b"<script>alert(1)</script>", "image/png", "application/octet-stream"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "application/octet-stream"),
    ("名称,电话".encode(), "text/csv; charset=utf-8", "text/csv"), (b"x", "nonsense", "application/octet-stream"),
])  # fmt: skip
async def test_what_a_file_is_is_told_by_its_content(
    gateway: Gateway, echo: Echo, content: bytes, said: str, kept: str
) -> None:
    keeping(echo)
    made = await upload(gateway, content, **{"content-type": said})
    assert made.json()["mediaType"] == kept


def change(
    number: int, owner: str = "employees/1", action: str = "UPDATED", before: Any = None
) -> tuple[bytes, dict[str, str]]:
    fact = {
        "name": f"things/{number}",
        "action": action,
        "resource": {"owner": owner},
        "before": before or {},
    }
    return json.dumps(fact).encode(), {"ce-id": f"id-{number}", "crm-version": "2"}


STREAM_TOKEN = "e30.eyJleHAiOiA0MDAwMDAwMDAwfQ.c2ln"


class Listener:
    """An open stream and what has come so far."""

    def __init__(self, port: int, path: str = "/v1/stream", **headers: str) -> None:
        self._url = f"http://127.0.0.1:{port}{path}"
        self._headers = {"authorization": f"Bearer {STREAM_TOKEN}", **headers}
        self.text = ""

    async def __aenter__(self) -> "Listener":
        self._task = asyncio.create_task(self._read())
        await soon(lambda: "retry" in self.text)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        async with (
            httpx.AsyncClient() as client,
            client.stream("GET", self._url, headers=self._headers, timeout=10) as response,
        ):
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["x-accel-buffering"] == "no"
            async for text in response.aiter_text():
                self.text += text


async def test_a_stream_tells_names_of_visible_changes_only(gateway: Gateway) -> None:
    gateway.callers[STREAM_TOKEN] = caller("employees/1", permissions=["echo.things.read"])
    async with serving(gateway.app) as port, Listener(port) as listener:
        changes = gateway.app.state.changes
        await changes.publish(*change(1, owner="employees/2"))
        await changes.publish(*change(2))
        await changes.publish(*change(3, owner="employees/2", before={"owner": "employees/1"}))
        await changes.publish(*change(4, action="DELETED"))
        await soon(lambda: "things/4" in listener.text)
        assert "things/1" not in listener.text
        events = [part for part in listener.text.split("\n\n") if part.startswith("id:")]
        assert events == [
            'id: id-2\nevent: changed\ndata: {"name": "things/2", "action": "UPDATED", "version": "2"}',
            'id: id-3\nevent: gone\ndata: {"name": "things/3", "action": "UPDATED", "version": "2"}',
            'id: id-4\nevent: gone\ndata: {"name": "things/4", "action": "DELETED", "version": "2"}',
        ]
        assert "owner" not in listener.text
        changes.close()


async def test_a_stream_needs_the_permission_to_read(gateway: Gateway) -> None:
    gateway.callers[STREAM_TOKEN] = caller("employees/1", permissions=["echo.other.read"])
    async with serving(gateway.app) as port, Listener(port) as listener:
        await gateway.app.state.changes.publish(*change(1))
        gateway.app.state.changes.reset()
        await soon(lambda: "reset" in listener.text)
        assert "things/1" not in listener.text
        gateway.app.state.changes.close()


async def test_a_stream_goes_on_where_it_broke_off(gateway: Gateway) -> None:
    gateway.callers[STREAM_TOKEN] = caller("employees/1", permissions=["echo.things.read"])
    changes = gateway.app.state.changes
    for number in (1, 2, 3):
        await changes.publish(*change(number))
    async with serving(gateway.app) as port:
        async with Listener(port, **{"last-event-id": "id-1"}) as listener:
            await soon(lambda: "things/3" in listener.text)
            assert "things/2" in listener.text and "things/1" not in listener.text
        async with Listener(port, **{"last-event-id": "unknown"}) as listener:
            await soon(lambda: "event: reset" in listener.text)
        async with Listener(port, "/v1/stream?collections=others") as listener:
            await changes.publish(*change(4))
            changes.reset()
            await soon(lambda: "event: reset" in listener.text)
            assert "things/4" not in listener.text
        changes.close()


async def test_a_stream_goes_on_in_the_middle_of_what_was_told_together(
    gateway: Gateway, monkeypatch: Any
) -> None:
    gateway.callers[STREAM_TOKEN] = caller("employees/1", permissions=["echo.things.read"])
    changes = gateway.app.state.changes
    monkeypatch.setattr("gateway.routes.stream.KEEP_BYTES", 4000)
    begun = uuid4()
    ids = [str(one) for one in packs.numbers(begun, 3)]
    facts = [
        {"name": f"things/{n}", "action": "CREATED", "resource": {"owner": "employees/1"}} for n in range(6)
    ]
    pack = {"action": "CREATED", "facts": [[fact["name"], 1, fact] for fact in facts[:3]]}
    own = [[str(uuid4()), "", fact["name"], "", "1", "1", ""] for fact in facts[3:]]
    bundle = [[its, fact] for its, fact in zip(own, facts[3:], strict=True)]
    await changes.publish(*change(90))
    await changes.publish(json.dumps(pack).encode(), {"ce-id": str(begun), packs.HEADER: "3"})
    headers = {"ce-id": own[0][0], packs.HEADER: "3", packs.BUNDLE: "1"}
    await changes.publish(json.dumps(bundle).encode(), headers)

    async def missed(last: str) -> list[str]:
        events = await changes.follow(STREAM_TOKEN, frozenset(), last)
        await anext(events)
        found: list[str] = []
        await changes.publish(*change(91))
        while not found or found[-1] not in ("things/91", "reset"):
            told = (await anext(events)).decode()
            found.append("reset" if "event: reset" in told else json.loads(told.split("data: ")[1])["name"])
        await events.aclose()
        return found

    assert await missed(ids[0]) == [f"things/{n}" for n in (1, 2, 3, 4, 5, 91)]
    assert (await missed(own[1][0]))[0] == "things/5"
    # What is too much is forgotten from its beginning, and who wants to go on there begins anew.
    data, its = change(92)
    await changes.publish(json.dumps({**json.loads(data), "before": {"text": "x" * 3500}}).encode(), its)
    assert await missed("id-90") == ["reset"]


async def test_a_slow_reader_is_told_to_start_again_and_nobody_waits(gateway: Gateway) -> None:
    gateway.callers[STREAM_TOKEN] = caller("employees/1", permissions=["echo.things.read"])
    changes = gateway.app.state.changes
    events = await changes.follow(STREAM_TOKEN, frozenset(), "")
    await anext(events)
    for number in range(BUFFER + 10):
        await changes.publish(*change(number))
    first = await anext(events)
    assert first == b"event: reset\ndata: {}\n\n"
    assert b"things/257" in await anext(events)
    await events.aclose()


async def test_a_stream_ends_with_the_rights_of_its_reader(gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.routes.stream.RIGHTS_SECONDS", 0)
    gateway.callers[STREAM_TOKEN] = caller("employees/1", permissions=["echo.things.read"])
    changes = gateway.app.state.changes
    events = await changes.follow(STREAM_TOKEN, frozenset(), "")
    await anext(events)
    del gateway.callers[STREAM_TOKEN]
    await changes.publish(*change(1))
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_stream_is_for_who_is_signed_in(gateway: Gateway) -> None:
    assert (await gateway.client.get("/v1/stream")).status_code == 401
    stranger = {"authorization": "Bearer x.y.z"}
    assert (await gateway.client.get("/v1/stream", headers=stranger)).status_code == 401


async def test_the_document_comes_compressed_and_only_where_it_is_another(gateway: Gateway) -> None:
    plain = await gateway.client.get("/openapi.json", headers={"accept-encoding": "identity"})
    packed = await gateway.client.get("/openapi.json", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers and packed.headers["content-encoding"] == "gzip"
    assert packed.json() == plain.json() and packed.headers["etag"] == plain.headers["etag"]
    known = await gateway.client.get("/openapi.json", headers={"if-none-match": packed.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    other = await gateway.client.get("/openapi.json", headers={"if-none-match": '"another"'})
    assert other.status_code == 200


async def test_the_document_is_valid_and_tells_what_screens_need(gateway: Gateway) -> None:
    document = (await gateway.client.get("/openapi.json")).json()
    validate(document)
    thing = document["components"]["schemas"]["echo.Thing"]
    assert thing["x-resource"] == {
        "collection": "things",
        "area": "echo",
        "label": {"zh": "物品", "en": "Thing"},
        "titleField": "displayName",
        "menu": "things",
        "permissions": {
            "read": "echo.things.read",
            "create": "echo.things.create",
            "update": "echo.things.update",
            "delete": "echo.things.delete",
        },
        "verbs": [
            {
                "name": "win",
                "rpc": "WinThing",
                "label": {"zh": "赢单", "en": "Win"},
                "permission": "echo.things.win",
                "method": "POST",
                "path": "/v1/things/{thing}:win",
                "request": "common.VerbRequest",
            }
        ],
    }
    assert thing["properties"]["displayName"] == {
        "type": "string",
        "maxLength": 200,
        "x-required": True,
        "x-label": {"zh": "名称", "en": "Name"},
        "x-searchable": True,
        "x-listed": True,
        "x-quick": True,
    }
    assert thing["properties"]["state"]["readOnly"] is True
    assert thing["properties"]["account"]["x-reference"] == ["things"]
    assert thing["properties"]["account"]["x-immutable"] is True
    states = document["components"]["schemas"]["echo.Thing.State"]
    assert states["x-enum-labels"]["WON"] == {"zh": "已赢", "en": "Won"}
    create = document["paths"]["/v1/things"]["post"]
    assert create["x-permission"] == "echo.things.create"
    body = create["requestBody"]["content"]["application/json"]
    assert body["schema"]["required"] == ["displayName"]
    assert body["example"] == {"displayName": "名称"}
    win = document["paths"]["/v1/things/{thing}:win"]["post"]
    assert win["x-reasons"] == ["ILLEGAL_TRANSITION"]
    assert {"$ref": "#/components/parameters/IfMatch"} in win["parameters"]
    assert "security" in document["paths"]["/v1/things/default"]["get"]


async def test_the_docs_load_nothing_from_elsewhere(gateway: Gateway) -> None:
    page = await gateway.client.get("/docs")
    assert "//" not in page.text.replace("<!doctype", "")
    for asset in ("/docs/assets/swagger-ui-bundle.js", "/docs/assets/swagger-ui.css", "/docs/start.js"):
        assert asset in page.text
        assert (await gateway.client.get(asset)).status_code == 200


@pytest.fixture
def web_root(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>page __CSP_NONCE__")
    (tmp_path / "assets" / "main-1a2b.js").write_text("x" * 5000)
    return tmp_path


async def test_the_web_client_is_one_page_with_lasting_assets(
    echo: Echo, descriptor_set: bytes, web_root: Path, gateway: Gateway
) -> None:
    from gateway.routes.web import WebClient

    gateway.app.mount("/", WebClient(web_root))
    page = {"accept": "text/html"}
    for path in ("/", "/customers/accounts/1"):
        response = await gateway.client.get(path, headers=page)
        assert response.status_code == 200
        assert response.text.startswith("<!doctype html>page ")
        assert response.headers["cache-control"] == "no-store"
    asset = await gateway.client.get("/assets/main-1a2b.js", headers={"accept-encoding": "gzip"})
    assert asset.headers["cache-control"].endswith("immutable")
    assert asset.headers["content-encoding"] == "gzip"
    for path in ("/assets/gone.js", "/v1/nothing", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"):
        assert (await gateway.client.get(path)).status_code == 404
    assert (await gateway.client.get("/v1/nothing", headers=page)).status_code == 404


async def test_each_answer_of_the_page_names_a_fresh_nonce_for_its_styles(
    web_root: Path, gateway: Gateway
) -> None:
    from gateway.routes.web import WebClient

    gateway.app.mount("/", WebClient(web_root))
    nonces: set[str] = set()
    for path in ("/", "/index.html", "/accounts/1"):
        response = await gateway.client.get(path, headers={"accept": "text/html"})
        nonce = response.text.rpartition(" ")[2]
        policy = response.headers["content-security-policy"]
        assert f"style-src 'self' 'nonce-{nonce}';" in policy
        assert "unsafe-inline" not in policy
        nonces.add(nonce)
    assert len(nonces) == 3
    asset = await gateway.client.get("/assets/main-1a2b.js")
    assert "style-src 'self';" in asset.headers["content-security-policy"]


async def test_long_answers_are_compressed_for_who_asks(gateway: Gateway, echo: Echo) -> None:
    async def answer(_: Any, __: Any) -> Any:
        return {"things": [{"name": f"things/{number}"} for number in range(100)]}

    echo.answers["ListThings"] = answer
    for encoding, compressed in (("gzip", True), ("identity", False)):
        headers = {**BEARER, "accept-encoding": encoding}
        response = await gateway.client.get("/v1/things", headers=headers)
        assert ("content-encoding" in response.headers) is compressed
        assert len(response.json()["things"]) == 100
    short = await gateway.client.get("/v1/things/1", headers={**BEARER, "accept-encoding": "gzip"})
    assert "content-encoding" not in short.headers


@pytest.mark.parametrize("gateway", [{"cors_origins": "https://portal.test"}], indirect=True)
async def test_other_sites_may_call_only_by_setting(gateway: Gateway) -> None:
    def preflight(origin: str) -> dict[str, str]:
        return {"origin": origin, "access-control-request-method": "PATCH"}

    allowed = await gateway.client.options("/v1/things/1", headers=preflight("https://portal.test"))
    assert allowed.headers["access-control-allow-origin"] == "https://portal.test"
    refused = await gateway.client.options("/v1/things/1", headers=preflight("https://evil.test"))
    assert "access-control-allow-origin" not in refused.headers
    assert "access-control-allow-credentials" not in allowed.headers


async def test_without_the_setting_no_other_site_may_call(gateway: Gateway) -> None:
    response = await gateway.client.get("/v1/things/1", headers={**BEARER, "origin": "https://portal.test"})
    assert "access-control-allow-origin" not in response.headers


async def test_health_and_readiness(gateway: Gateway) -> None:
    assert (await gateway.client.get("/healthz")).json() == {"status": "alive"}
    assert (await gateway.client.get("/readyz")).status_code == 200
    gateway.app.state.ready = lambda: False
    assert (await gateway.client.get("/readyz")).status_code == 503


async def test_the_log_of_calls_holds_no_address_query_or_token(gateway: Gateway, caplog: Any) -> None:
    with caplog.at_level("INFO", logger="gateway.access"):
        await gateway.client.get("/v1/things?q=13800138000", headers=BEARER)
        await soon(lambda: "ListThings" in caplog.text)
    assert "/crm.echo.v1.EchoService/ListThings" in caplog.text
    for secret in ("13800138000", "aaa.bbb.ccc", "203.0.113.7"):
        assert secret not in caplog.text


class Told:
    """A configuration of one entry, as the bucket would tell it."""

    def __init__(self, key: str, value: Any) -> None:
        self.values = {key: value}

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def prefix(self, prefix: str) -> dict[str, Any]:
        return {
            key.removeprefix(prefix): value for key, value in self.values.items() if key.startswith(prefix)
        }

    def changed(self, prefix: str, listener: Any) -> None:
        """Nothing changes here."""


async def test_the_document_has_the_custom_fields_of_whoever_asks(gateway: Gateway) -> None:
    fields = [
        {"key": "size", "kind": "CHOICE", "label": {"zh": "尺码", "en": "Size"}, "choices": ["S", "L"], "required": True},
        {"key": "since", "kind": "DATE", "label": {"zh": "自"}, "default": "today"},
        {"key": "secret", "kind": "TEXT", "roles": ["head"]},
        {"key": "old", "kind": "TEXT", "retired": True},
        {"key": "worth", "kind": "MONEY", "minimum": "1", "visibleIf": {"field": "custom.size", "values": ["L"]}},
        {"key": "site", "kind": "URL", "portal": "READ", "hidden": True, "required": True},
    ]  # fmt: skip
    custom = CustomFields(Told("customField.things", {"fields": fields}))
    plain = (await gateway.client.get("/openapi.json")).json()
    assert "properties" not in plain["components"]["schemas"]["echo.Thing"]["properties"].get("custom", {})
    for permissions, keys in (
        ({"custom.portal"}, ["site"]),
        ({"custom.portal", "custom.staff"}, ["size", "since", "worth", "site"]),
        (
            {"custom.portal", "custom.staff", "custom.things.secret"},
            ["size", "since", "secret", "worth", "site"],
        ),
    ):
        gateway.callers[BEARER_TOKEN] = replace(caller("employees/1", permissions=permissions), custom=custom)
        headers = {"authorization": f"Bearer {BEARER_TOKEN}"}
        document = (await gateway.client.get("/openapi.json", headers=headers)).json()
        validate(document)
        properties = document["components"]["schemas"]["echo.Thing"]["properties"]["custom"]["properties"]
        assert list(properties) == keys
        assert (properties["site"]["format"], properties["site"]["x-hidden"]) == ("uri", True)
        assert "x-required" not in properties["site"]
        assert properties["site"].get("readOnly", False) is (len(permissions) == 1)
        if len(permissions) == 1:
            continue
        assert properties["size"] == {
            "type": "string", "enum": ["S", "L"], "x-enum-labels": {"S": {"zh": "S", "en": "S"}, "L": {"zh": "L", "en": "L"}},
            "x-label": {"zh": "尺码", "en": "Size"}, "x-required": True,
        }  # fmt: skip
        assert (properties["since"]["format"], properties["since"]["x-default"]) == ("date", "today")
        assert properties["worth"]["x-minimum"] == "1"
        assert properties["worth"]["x-shown-when"] == {"field": "custom.size", "is": ["L"]}
    taken = {"price": FieldLevel.HIDDEN, "custom.size": FieldLevel.HIDDEN, "custom.since": FieldLevel.READ_ONLY,
             "display_name": FieldLevel.READ_ONLY}  # fmt: skip
    role = Role("r", frozenset(["custom.staff"]), fields={"things": taken})
    access = Access("employees/1", (), [role], Organisation({}, People({})), {}, frozenset(["custom.staff"]))
    told = caller("employees/1", permissions={"custom.staff"})
    gateway.callers[BEARER_TOKEN] = replace(told, custom=custom, access=access)
    document = (await gateway.client.get("/openapi.json", headers=headers)).json()
    validate(document)
    properties = document["components"]["schemas"]["echo.Thing"]["properties"]
    assert plain["components"]["schemas"]["echo.Thing"]["properties"].keys() - properties.keys() == {"price"}
    assert properties["displayName"]["readOnly"] and "x-required" not in properties["displayName"]
    assert list(properties["custom"]["properties"]) == ["since", "worth"]
    assert properties["custom"]["properties"]["since"]["readOnly"]
    stranger = {"authorization": "Bearer x.y.z"}
    assert (await gateway.client.get("/openapi.json", headers=stranger)).json() == plain


async def test_the_link_of_a_mail_opens_a_page_that_decides_by_its_buttons_alone(
    gateway: Gateway, echo: Echo
) -> None:
    token = "t" * 60
    asked = {
        "displayName": "<b>折扣</b> 20%", "requester": "王芳", "approver": "赵经理",
        "changes": [{"field": "discount", "before": "5", "after": "<script>20</script>"}],
    }  # fmt: skip

    async def read(_: Any, __: Any) -> Any:
        return asked

    echo.answers |= {"ReadDecisionLink": read, "DecideByLink": read}
    page = await gateway.client.get(f"/decide/{token}", headers={"accept-language": "en"})
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "&lt;b&gt;折扣&lt;/b&gt;" in page.text and "<script" not in page.text and "Approve" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert (page.headers["cache-control"], page.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert [call.rpc for call in echo.calls[-1:]] == ["ReadDecisionLink"]
    form = {"vote": "REFUSED", "reason": "太多 & 太贵"}
    done = await gateway.client.post(f"/decide/{token}", data=form)
    assert done.status_code == 200 and "已记录" in done.text and "<form" not in done.text
    assert echo.last.request == {"token": token, **form}
    before = len(echo.calls)
    for bad in ({"vote": "GAVE_BACK"}, {}, {"vote": "AGREED", "reason": "x" * 9000}):
        assert (await gateway.client.post(f"/decide/{token}", data=bad)).status_code in {400, 413, 429}
    assert (await gateway.client.get("/decide/short")).status_code == 404
    assert len(echo.calls) == before

    async def over(_: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "over")

    echo.answers |= {"ReadDecisionLink": over}
    refused = await gateway.client.get(f"/decide/{token}")
    assert refused.status_code >= 400 and refused.headers["content-type"].startswith("text/html")
    assert "<form" not in refused.text and 'role="alert"' in refused.text


@pytest.mark.capability("a.security")
async def test_an_infected_file_lies_in_quarantine_and_nobody_gets_it(gateway: Gateway, echo: Echo) -> None:
    keeping(echo)
    content = b"a letter\n" + EICAR + b"\nand its end"
    digest = sha256(content).hexdigest()
    refused = await upload(gateway, content)
    assert refused.status_code == 400
    assert reason(refused) == "FILE_INFECTED"
    assert EICAR_NAME in refused.text
    assert not [call for call in echo.calls if call.rpc == "CreateFile"]
    stored = {one["path"] for page in gateway.store.list() for one in page}
    assert stored == {f"quarantine/{digest}"}
    [told] = [one for one in gateway.witness.waiting if isinstance(one.message, FileInfected)]
    assert (told.message.display_name, told.message.sha256) == ("合同.pdf", digest)


@pytest.mark.parametrize("gateway", [{"clamav_url": "unix:///nowhere/clamd.ctl"}], indirect=True)
async def test_without_the_scanner_that_was_asked_for_no_file_comes_in(gateway: Gateway, echo: Echo) -> None:
    keeping(echo)
    refused = await upload(gateway)
    assert refused.status_code == 503
    assert not [page for page in gateway.store.list() if page]


async def test_the_link_to_a_file_opens_a_page_that_gives_it(gateway: Gateway, echo: Echo) -> None:
    kept = keeping(echo)
    await upload(gateway)
    secret, told = "s" * 43, {"displayName": "<i>报价</i>.pdf", "size": kept["size"], "protected": True}

    async def read(_: Any, __: Any) -> Any:
        return told

    async def opened(request: dict[str, Any], context: Any) -> Any:
        if request.get("password") != "correct horse":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "wrong")
        return {**told, "sha256": kept["sha256"]}

    echo.answers |= {"ReadFileShare": read, "OpenFileShare": opened}
    page = await gateway.client.get(f"/shares/{secret}")
    assert (
        "&lt;i&gt;报价" in page.text
        and 'type="password"' in page.text
        and page.headers["cache-control"] == "no-store"
    )
    wrong = await gateway.client.post(f"/shares/{secret}", data={"password": "guess"})
    assert wrong.status_code >= 400 and 'role="alert"' in wrong.text and 'type="password"' in wrong.text
    given = await gateway.client.post(f"/shares/{secret}", data={"password": "correct horse"})
    assert given.status_code == 200 and given.content == CONTENT
    assert (
        given.headers["content-disposition"].startswith("attachment")
        and "sandbox" in given.headers["content-security-policy"]
    )
    assert (await gateway.client.get("/shares/short")).status_code == 404
