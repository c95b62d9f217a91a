"""What the tests stand on: a real gRPC server that answers as each test says, and readers of errors."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google.api
import grpc
import grpc.aio
import grpc_tools
import httpx
import uvicorn
from crmkit.auth import Caller
from crmkit.json import JsonCodec
from grpc_tools import protoc

from gateway.settings import Settings
from gateway.witness import Witness

ROOT = Path(__file__).parents[2]
INCLUDES = (
    ROOT / "gateway" / "tests" / "protos",
    ROOT / "protos",
    Path(next(iter(google.api.__path__))).parents[1],
    Path(next(iter(grpc_tools.__path__))) / "_proto",
)
SERVICES = ("crm.echo.v1.EchoService", "crm.workspace.v1.WorkspaceService")
SECRET = "c2VjcmV0LWZvci10ZXN0cy1vbmx5LXRoaXJ0eS10d28tYnl0ZXM"
BEARER_TOKEN = "aaa.bbb.ccc"
BEARER = {"authorization": f"Bearer {BEARER_TOKEN}"}

Handler = Callable[[Any, Any], Awaitable[Any]]


def compile_protos(directory: Path, *names: str, includes: tuple[Path, ...] = INCLUDES) -> bytes:
    """The descriptor set of protos, as the expansion leaves it: with imports and comments."""
    out = directory / "descriptors.binpb"
    arguments = [f"-I{path}" for path in includes]
    code = protoc.main(
        ["protoc", *arguments, "--include_imports", "--include_source_info", f"-o{out}", *names]
    )
    assert code == 0
    return out.read_bytes()


@dataclass
class Call:
    """What arrived at the service."""

    rpc: str
    request: dict[str, Any]
    metadata: dict[str, Any]
    seconds: float


@dataclass
class Echo:
    """The service: `answers` by RPC name; without one it answers `{}` or what it was sent."""

    codec: JsonCodec
    calls: list[Call] = field(default_factory=list)
    answers: dict[str, Handler] = field(default_factory=dict)
    port: int = 0

    @property
    def last(self) -> Call:
        return self.calls[-1]

    async def answer(self, rpc: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        request_type, reply_type = TYPES[rpc]
        value = json.loads(self.codec.to_json(request_type, request))
        self.calls.append(
            Call(
                rpc,
                value,
                {str(k): v for k, v in context.invocation_metadata() or ()},
                context.time_remaining(),
            )
        )
        if rpc in self.answers:
            reply = await self.answers[rpc](value, context)
        else:
            reply = value.get("thing") or ({"name": value["name"]} if "name" in value else {})
            reply = {} if reply_type == "google.protobuf.Empty" else reply
        return self.codec.from_value(reply_type, reply)


TYPES = {
    "GetThing": ("crm.echo.v1.GetThingRequest", "crm.echo.v1.Thing"),
    "GetDefaultThing": ("google.protobuf.Empty", "crm.echo.v1.Thing"),
    "ListThings": ("crm.echo.v1.ListThingsRequest", "crm.echo.v1.ListThingsResponse"),
    "CreateThing": ("crm.echo.v1.CreateThingRequest", "crm.echo.v1.Thing"),
    "UpdateThing": ("crm.echo.v1.UpdateThingRequest", "crm.echo.v1.Thing"),
    "DeleteThing": ("crm.common.v1.VerbRequest", "google.protobuf.Empty"),
    "RenderThing": ("crm.echo.v1.GetThingRequest", "crm.echo.v1.Thing"),
    "WinThing": ("crm.common.v1.VerbRequest", "crm.echo.v1.Thing"),
    "GetFile": ("crm.workspace.v1.GetFileRequest", "crm.workspace.v1.File"),
    "ReadFileVersion": ("crm.workspace.v1.ReadFileVersionRequest", "crm.workspace.v1.File"),
    "CreateFile": ("crm.workspace.v1.CreateFileRequest", "crm.workspace.v1.File"),
    "DownloadExport": ("crm.common.v1.VerbRequest", "crm.workspace.v1.Export"),
    "ReadFileShare": ("crm.workspace.v1.ReadFileShareRequest", "crm.workspace.v1.SharedFile"),
    "OpenFileShare": ("crm.workspace.v1.OpenFileShareRequest", "crm.workspace.v1.SharedFile"),
    "ReadDecisionLink": (
        "crm.workspace.v1.ReadDecisionLinkRequest",
        "crm.workspace.v1.ReadDecisionLinkResponse",
    ),
    "DecideByLink": ("crm.workspace.v1.DecideByLinkRequest", "crm.workspace.v1.ReadDecisionLinkResponse"),
    "BatchGetThings": ("crm.echo.v1.BatchGetThingsRequest", "crm.echo.v1.ListThingsResponse"),
}


@dataclass
class Gateway:
    """The application with what it was given, and a client for it."""

    app: Any
    client: httpx.AsyncClient
    config: dict[str, Any]
    settings: Settings
    issuer: Any
    callers: dict[str, Any]
    witness: Witness
    store: Any


class FakeIssuerAnswers:
    """The provider's HTTP side, as small as the protocol allows."""

    def __init__(self) -> None:
        self.tokens: list[dict[str, str]] = []
        self.token_answer: Callable[[dict[str, str]], httpx.Response] = lambda _: httpx.Response(400, json={})
        self.ended: list[dict[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        form = dict(httpx.QueryParams(request.content.decode()))
        match request.url.path:
            case "/.well-known/openid-configuration":
                base = "http://issuer.test"
                ends = {
                    f"{name}_endpoint": f"{base}/{name}" for name in ("authorization", "token", "end_session")
                }
                return httpx.Response(200, json={"issuer": base, **ends})
            case "/token":
                self.tokens.append(form)
                return self.token_answer(form)
            case "/end_session":
                self.ended.append(form)
                return httpx.Response(200, html="")
            case _:
                return httpx.Response(404)


def caller(employee: str, *roles: str, permissions: Iterable[str] = (), name: str = "") -> Caller:
    """A caller with these rights."""
    return Caller(
        actor=employee,
        employee=employee,
        display_name=name,
        roles=roles,
        permissions=frozenset(permissions),
    )


def reason(response: httpx.Response) -> str:
    """The stable reason of an error."""
    details = response.json()["error"]["details"]
    return next(detail["reason"] for detail in details if detail["@type"].endswith("ErrorInfo"))


def violations(response: httpx.Response) -> dict[str, str]:
    """Field → reason of an error's field violations."""
    details = response.json()["error"]["details"]
    found = next(detail for detail in details if detail["@type"].endswith("BadRequest"))
    return {violation["field"]: violation["reason"] for violation in found["fieldViolations"]}


async def soon(condition: Callable[[], bool]) -> None:
    """Waits at most two seconds for something to come true."""
    async with asyncio.timeout(2):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(app: Any, port: int = 0) -> AsyncIterator[int]:
    """The application behind a real server; yields the port."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, http="httptools", loop="none", log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    # Signals belong to pytest.
    server.capture_signals = nullcontext  # type: ignore[method-assign]
    listening = config.bind_socket()
    task = asyncio.create_task(server.serve([listening]))
    await soon(lambda: server.started)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await task
