"""A gateway in front of a real gRPC server that answers as each test says."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import pytest_asyncio
from crmkit.auth import visible
from crmkit.json import JsonCodec
from gateway.app import create_app
from gateway.errors import Refusal
from gateway.sessions import claims_of
from gateway.settings import Settings
from gateway.surroundings import Surroundings
from gateway.testing import (
    BEARER_TOKEN,
    SECRET,
    SERVICES,
    TYPES,
    Echo,
    FakeIssuerAnswers,
    Gateway,
    caller,
    compile_protos,
)
from gateway.upstream import Upstream
from gateway.witness import Witness
from obstore.store import MemoryStore
from prometheus_client import CollectorRegistry


@pytest.fixture(scope="session")
def descriptor_set(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    ours = ("crm/echo/v1/echo.proto", "crm/workspace/v1/stand_in.proto")
    theirs = ("crm/common/v1/common.proto", "crm/gateway/v1/gateway.proto")
    return compile_protos(tmp_path_factory.mktemp("protos"), *ours, *theirs)


@pytest.fixture(scope="session")
def codec(descriptor_set: bytes) -> JsonCodec:
    return JsonCodec(descriptor_set)


@pytest_asyncio.fixture
async def echo(codec: JsonCodec) -> AsyncIterator[Echo]:
    service = Echo(codec)

    def handler(rpc: str) -> grpc.RpcMethodHandler:
        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return await service.answer(rpc, request, context)

        return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    handlers = {rpc: handler(rpc) for rpc in TYPES}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, handlers) for name in SERVICES]
    )
    service.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield service
    await server.stop(0)


@pytest_asyncio.fixture
async def gateway(
    echo: Echo, descriptor_set: bytes, request: pytest.FixtureRequest
) -> AsyncIterator[Gateway]:
    """Settings come by `@pytest.mark.parametrize("gateway", [{...}], indirect=True)`."""
    changed: dict[str, Any] = getattr(request, "param", {})
    settings = Settings(
        **{
            "secret_key": SECRET,
            "services": f"echo=127.0.0.1:{echo.port},workspace=127.0.0.1:{echo.port}",
            "oidc_issuer": "http://issuer.test",
            **changed,
        }
    )
    config: dict[str, Any] = {}
    callers: dict[str, Any] = {BEARER_TOKEN: caller("employees/1", permissions=["workspace.files.create"])}
    issuer = FakeIssuerAnswers()

    async def authenticate(token: str) -> Any:
        if token in callers:
            return callers[token]
        claims = claims_of(token)
        if "employee" not in claims:
            raise Refusal("UNAUTHENTICATED", "UNAUTHENTICATED")
        return caller(claims["employee"], *claims.get("roles", ()), name=claims.get("name", ""))

    upstream = Upstream(settings.targets)
    witness, store = Witness(), MemoryStore()
    async with httpx.AsyncClient(transport=httpx.MockTransport(issuer)) as outgoing:
        around = Surroundings(
            lookup=config.get,
            prefix=lambda start: {
                key.removeprefix(start): value for key, value in config.items() if key.startswith(start)
            },
            authenticate=authenticate,
            visible=lambda caller, collection, record: visible(caller, "OWNED", record, (), collection),
            ready=lambda: True,
            client=outgoing,
            upstream=upstream,
            tracer=None,
            store=store,
            witness=witness,
            registry=CollectorRegistry(),
        )
        app = create_app(settings, descriptor_set, around)
        transport = httpx.ASGITransport(app, client=("203.0.113.7", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://crm.test") as client:
            yield Gateway(app, client, config, settings, issuer, callers, witness, store)
    await upstream.close()
