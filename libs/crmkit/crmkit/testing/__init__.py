"""Service tests on real parts: PostgreSQL, NATS and signed tokens; a stub into the full pipeline.

async def test_an_account_can_be_archived(customer: Service) -> None:
    account = await customer.admin.CreateAccount(account={"displayName": "华东机械"})
    assert (await customer.admin.ArchiveAccount(name=account.name)).state == pb.Account.ARCHIVED
"""

# pyright: reportMissingTypeStubs=false
# googleapis-common-protos has its types beside it and does not say so.

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, datetime
from functools import cached_property, lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, cast

import grpc
import grpc.aio
import yaml
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from joserfc import jwt
from joserfc.jwk import RSAKey
from local_platform.people import Company, Person, load
from local_platform.secret import Secrets
from local_platform.servers import ensure_database, nats, postgres

from crmkit.app import App, Running, migrated
from crmkit.auth import ZONE, Scope
from crmkit.bus import Bus, stream_of
from crmkit.config import Config
from crmkit.settings import Settings

SECRET = "c2VjcmV0LWZvci10ZXN0cy1vbmx5LXRoaXJ0eS10d28tYnl0ZXM"
DEADLINE = 30.0
# How long a handler of a test may take to hear; one that refuses takes longer, and is not waited for.
HEARD_SECONDS = 5.0
# Much less than a sign-in counts as fresh for.
SIGNED_IN_SECONDS = 120
ROLES = Path(__file__).parents[4] / "services" / "workspace" / "workspace" / "roles.yaml"


class Refused(Exception):
    """An RPC answered with an error."""

    def __init__(self, code: grpc.StatusCode, status: status_pb2.Status) -> None:
        self.code = code
        self.status = status
        self.info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        for detail in status.details:
            detail.Unpack(self.info)
            detail.Unpack(bad)
        self.violations = {violation.field: violation.reason for violation in bad.field_violations}
        super().__init__(f"{code.name} {self.info.reason} {self.violations or ''} {status.message}")

    @property
    def reason(self) -> str:
        """The error reason."""
        return self.info.reason


class Issuer:
    """An OpenID provider that signs tokens for the demo company's people, over real HTTP."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "test", "use": "sig", "alg": "RS256"})
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = {
                    "/.well-known/openid-configuration": {
                        "issuer": issuer.url,
                        "jwks_uri": f"{issuer.url}/jwks",
                    },
                    "/jwks": {"keys": [issuer.key.as_dict(private=False)]},
                }.get(self.path)
                self.send_response(200 if body else 404)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()

    def token(self, person: Person, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """An access token of the person; claims and header may be bent for tests of refusal."""
        now = int(time.time())
        body = {
            "iss": self.url, "sub": person.subject, "aud": "crm-api", "azp": "guanxi-web", "typ": "Bearer",
            "iat": now, "exp": now + 3600, "acr": "2", "auth_time": now, **person.claims(), **claims,
        }  # fmt: skip
        return jwt.encode({"alg": "RS256", "kid": "test", **(header or {})}, body, self.key)


class Client:
    """Calls RPCs of one service as one person: `client.CreateAccount(account={…})`. Raises Refused."""

    def __init__(
        self,
        running: Running,
        channel: grpc.aio.Channel,
        token: str | Callable[[], str],
        locale: str = "zh-CN",
    ) -> None:
        self._running, self._channel, self._locale = running, channel, locale
        self._token = (lambda: token) if isinstance(token, str) else token

    @property
    def token(self) -> str:
        """The access token of the moment."""
        return self._token()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = self._running.pipeline.methods[name]

        async def call(request: Message | None = None, **fields: Any) -> Any:
            if request is None:
                request = method.request()
                json_format.ParseDict({key: _plain(value) for key, value in fields.items()}, request)
            return await self.send(name, request)

        return call

    async def send(
        self, name: str, request: Message | bytes, metadata: Mapping[str, str] | None = None
    ) -> Any:
        """Sends a request, or raw bytes, with extra metadata."""
        method = self._running.pipeline.methods[name]
        service = self._running.app.descriptor.full_name
        call = cast("Callable[..., Awaitable[bytes]]", self._channel.unary_unary(f"/{service}/{name}"))
        headers = {
            "authorization": f"Bearer {self.token}",
            "accept-language": self._locale,
            **(metadata or {}),
        }
        data = request if isinstance(request, bytes) else request.SerializeToString()
        try:
            reply = await call(data, timeout=DEADLINE, metadata=tuple(headers.items()))
        except grpc.aio.AioRpcError as error:
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
            raise Refused(error.code(), status_pb2.Status.FromString(details)) from None  # type: ignore[arg-type]
        return method.reply.FromString(reply)


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return json_format.MessageToDict(value)
    return [_plain(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


class Service:
    """One app, running in this process on real parts; a client for each person of the demo company."""

    def __init__(self, running: Running, channel: grpc.aio.Channel, parts: Parts) -> None:
        self.running, self.channel, self.parts = running, channel, parts

    def client(self, username: str, locale: str = "zh-CN", **claims: Any) -> Client:
        """A client that calls as the person, who has always just signed in however long the tests take."""

        @lru_cache(maxsize=1)
        def signed_in(_: int) -> str:
            return self.parts.issuer.token(self.parts.people[username], **claims)

        return Client(
            self.running, self.channel, lambda: signed_in(int(time.monotonic() // SIGNED_IN_SECONDS)), locale
        )

    @cached_property
    def admin(self) -> Client:
        """The administrator."""
        return self.client("admin")

    @cached_property
    def manager(self) -> Client:
        """The sales manager of the eastern branch."""
        return self.client("manager")

    @cached_property
    def sales1(self) -> Client:
        """A sales representative in the eastern branch."""
        return self.client("sales1")

    @cached_property
    def sales2(self) -> Client:
        """A sales representative in the northern branch."""
        return self.client("sales2")

    def person(self, username: str) -> Person:
        """Who that is."""
        return self.parts.people[username]

    async def tell(
        self,
        subject: str,
        payload: Mapping[str, Any],
        aggregate: str = "",
        version: int = 1,
        times: int = 1,
        actor: str = "system/test",
    ) -> None:
        """Publishes a fact as another service would, and waits until this one has handled what it knows of.

        One that is told several times is one fact, as a relay sends it again that did not learn of its arrival.
        """
        from datetime import UTC, datetime

        from uuid_utils.compat import uuid7

        from crmkit.outbox import subject_of

        area = subject.split(".")[1]
        js = await self.running.bus.connected()
        await self.running.bus.ensure_stream(area)
        event = str(uuid7())
        headers = {
            "ce-id": event, "ce-type": subject, "ce-source": f"crm/{area}",
            "ce-time": datetime.now(UTC).isoformat(), "ce-subject": aggregate, "crm-actor": actor,
            "crm-version": str(version),
        }  # fmt: skip
        body = json.dumps(payload)
        subject = subject_of(subject, aggregate.partition("/")[0], body)
        for number in range(times - 1):
            await js.publish(subject, body.encode(), headers=headers | {"Nats-Msg-Id": f"{event}/{number}"})
        told = await js.publish(subject, body.encode(), headers=headers | {"Nats-Msg-Id": event})
        if not self.running.consumers.hear(subject):
            return

        async def heard() -> bool:
            info = await js.consumer_info(told.stream, self.running.app.name)
            floor = info.ack_floor.stream_seq if info.ack_floor else 0
            read = info.delivered.stream_seq if info.delivered else 0
            return floor >= told.seq or (read >= told.seq and not info.num_ack_pending)

        with contextlib.suppress(AssertionError):
            await self.eventually(heard, HEARD_SECONDS)

    async def eventually(self, check: Callable[[], Any], seconds: float = 30) -> Any:
        """Waits until the check, which may be a coroutine function, gives something true; returns that."""
        deadline = time.monotonic() + seconds
        while True:
            found = check()
            found = await found if asyncio.iscoroutine(found) else found
            if found:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"it has not happened; {await self._unfinished()}")
            await asyncio.sleep(0.05)

    async def _unfinished(self) -> str:
        """What the service still has to tell, to hear of itself and to do, for whoever waited in vain."""
        from sqlalchemy import text

        area, unheard = self.running.app.name, 0
        if self.running.consumers.listen_to(area):
            js = await self.running.bus.connected()
            info = await js.consumer_info(stream_of(area), area)
            unheard = (info.num_pending or 0) + (info.num_ack_pending or 0)
        untold = text("SELECT count(*), min(type), min(id) FROM outbox WHERE published_at IS NULL")
        runs = text(
            "SELECT kind, state, attempts, position, lease_until - clock_timestamp() AS lease, left(spec::text, 200)"
            " FROM bulk_runs WHERE state IN ('QUEUED', 'RUNNING') ORDER BY create_time LIMIT 20"
        )
        async with self.running.engine.connect() as connection:
            waiting = (await connection.execute(untold)).one()
            queued = [str(tuple(row)) for row in await connection.execute(runs)]
        head = f"facts to tell: {tuple(waiting)}; to hear: {unheard}; runs under way: {len(queued)}"
        return "\n".join([head, *queued])

    async def facts(self, subject: str, aggregate: str = "") -> list[dict[str, Any]]:
        """Payloads of the facts in the outbox, oldest first."""
        from sqlalchemy import text

        async with self.running.sessions() as session:
            rows = await session.execute(
                text(
                    "SELECT facts, aggregate_id, payload FROM outbox WHERE type = :type"
                    " AND (:aggregate = '' OR facts > 1 OR aggregate_id = :aggregate) ORDER BY id"
                ),
                {"type": subject, "aggregate": aggregate},
            )
            found: list[dict[str, Any]] = []
            for count, name, payload in rows:
                told = [(name, 1, json.loads(payload))] if count == 1 else json.loads(payload)["facts"]
                found += [fact for about, _, fact in told if aggregate in ("", about)]
            return found


class Parts:
    """PostgreSQL, NATS and an issuer, shared by the tests of one process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.company: Company = load()
        self.people = {**self.company.people, **_testers(self.company)}

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        self.issuer = Issuer()
        self._stack.callback(self.issuer.close)
        # The secrets of the databases lie with the tests' servers, not with the developer's.
        self.secrets = Secrets(self.directory / "secrets.json")
        self.admin_url = await self._stack.enter_async_context(
            postgres(self.directory / "postgres", free_port())
        )
        self.nats_url = await self._stack.enter_async_context(nats(self.directory / "nats", free_port()))
        await self._publish_configuration()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def settings(self, app: str, **values: Any) -> Settings:
        """Settings of an app on these parts; its database exists."""
        database = await ensure_database(self.admin_url, app, self.secrets)
        return Settings(
            database_url=database.url,
            migration_database_url=database.owner_url,
            nats_url=self.nats_url,
            oidc_issuer=self.issuer.url,
            secret_key=SECRET,
            files_url=f"file://{self.directory}/files",
            **values,
        )

    @asynccontextmanager
    async def service(self, app: App) -> AsyncGenerator[Service, None]:
        """The app, migrated, serving and working."""
        settings = await self.settings(app.name)
        await migrated(app, settings)
        async with Running(app, settings) as running:
            await running.work()
            server = await running.serve(0)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
                yield Service(running, channel, self)
            await server.stop(1)

    async def _publish_configuration(self) -> None:
        """Roles, departments and people, as workspace would publish them."""
        async with Bus(self.nats_url, "test") as bus:
            await bus.connected()
            async with Config(None, bus) as config:
                for scope in Scope:
                    await config.put(
                        f"role.everything_{scope.lower()}", {"permissions": ["*"], "scope": scope.value}
                    )
                for role, entry in yaml.safe_load(ROLES.read_text()).items():
                    await config.put(
                        f"role.{role}",
                        {
                            "permissions": entry["permissions"],
                            "scope": entry["scope"],
                            "grants": entry.get("grants", []),
                            "label": entry["label"],
                            "portal": entry.get("portal", False),
                        },
                    )
                for department in self.company.departments:
                    await config.put(
                        f"department.{department.name.partition('/')[2]}",
                        {"parent": department.parent, "displayName": department.zh, "kind": department.kind},
                    )
                for person in self.people.values():
                    if person.employee:
                        await config.put(
                            f"employee.{person.employee.partition('/')[2]}",
                            {
                                "department": person.department, "departments": [], "disabled": False,
                                "roles": list(person.roles), "displayName": person.zh, "superior": person.superior,
                            },
                        )  # fmt: skip

    @asynccontextmanager
    async def configuration(self) -> AsyncGenerator[Config, None]:
        """The configuration bucket, to change it as workspace would."""
        async with Bus(self.nats_url, "test") as bus:
            await bus.connected()
            async with Config(None, bus) as config:
                yield config


def _testers(company: Company) -> dict[str, Person]:
    """People beside the company's: two who may do everything to what is theirs, a stranger, and a nobody."""
    posts = {department.code: department.name for department in company.departments}

    def person(username: str, last: str, code: str, *roles: str) -> Person:
        employee = f"employees/01900000-0000-7000-8000-00000000ff{last}"
        return Person(username, username, username, "zh-CN", roles, employee, posts[code], None, None, None)

    return {
        "everything": person("everything", "01", "XS1", "everything_own"),
        "everything2": person("everything2", "02", "XS1", "everything_all"),
        "stranger": person("stranger", "03", "XS2", "everything_own"),
        "nobody": person("nobody", "04", "XS2"),
    }


def local_date() -> date:
    """Today where the company is, which is a day ahead of Greenwich for a third of each day."""
    return datetime.now(ZONE).date()


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
