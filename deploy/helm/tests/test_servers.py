"""The configuration of the embedded servers, tried on the real NATS and the real PostgreSQL."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import grpc.aio
import pytest
from crmkit.bus import Bus, StreamLimits
from crmkit.config import Config
from crmkit.map import APPS, moved
from crmkit.testing import Issuer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from local_platform import servers
from nats.js.api import ConsumerConfig
from nats.js.errors import APIError

from .conftest import CHART, ROOT, rendered

NATS_PORT, POSTGRES_PORT = moved(4790), moved(4791)
PASSWORDS = {f"{app.name.upper()}_NATS_PASSWORD": f"of-{app.name}" for app in APPS}


def chart_configuration() -> str:
    (text,) = (
        manifest["data"]["nats.conf"]
        for manifest in rendered("embedded")
        if manifest["metadata"]["name"] == "crm-embedded"
    )
    return text


CONFIGURATIONS = {
    "chart": chart_configuration,
    "compose": lambda: (ROOT / "deploy" / "compose" / "nats.conf").read_text(),
}


@pytest.fixture(params=CONFIGURATIONS)
async def bus_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A NATS server with the configuration, on a port and in a directory of its own."""
    text = CONFIGURATIONS[request.param]()
    assert "store_dir: /data" in text
    text = text.replace("http: 8222", f"listen: 127.0.0.1:{NATS_PORT}").replace(
        "/data", str(tmp_path / "data")
    )
    (tmp_path / "nats.conf").write_text(text)
    server = await asyncio.create_subprocess_exec(
        servers._nats_binary(),
        "--config",
        tmp_path / "nats.conf",
        "--log",
        tmp_path / "log",
        env={**os.environ, **PASSWORDS},
    )
    try:
        yield f"127.0.0.1:{NATS_PORT}"
    finally:
        server.terminate()
        await server.wait()


@asynccontextmanager
async def bus_of(app: str, address: str) -> AsyncIterator[Bus]:
    async with Bus(f"nats://{app}:of-{app}@{address}", app, StreamLimits(max_bytes=1024 * 1024)) as bus:
        async with asyncio.timeout(60):
            await bus.connected()
        yield bus


async def test_an_app_does_all_that_the_kit_does_with_its_own_password(bus_url: str) -> None:
    async with bus_of("sales", bus_url) as sales, bus_of("orders", bus_url) as orders:
        await sales.ensure_stream("sales")
        await sales.js.publish("crm.sales.v1.OpportunityWon", b"{}", timeout=5)
        # A consumer makes the streams that it listens to, in whatever order the apps start.
        await orders.ensure_stream("sales")
        await orders.ensure_stream("billing")
        await orders.js.add_consumer("crm-sales", ConsumerConfig(durable_name="orders"))
        subscription = await orders.js.pull_subscribe_bind("orders", "crm-sales")
        (fact,) = await subscription.fetch(1, timeout=5)
        await fact.ack_sync()
        await orders.request("STREAM.INFO.crm-sales", {"deleted_details": True})


async def test_configuration_written_by_workspace_is_seen_by_the_others(bus_url: str) -> None:
    seen = asyncio.Event()
    async with (
        bus_of("workspace", bus_url) as workspace,
        bus_of("gateway", bus_url) as gateway,
        Config(None, workspace, owner=True) as written,
        Config(None, gateway) as read,
    ):
        read.changed("role.", lambda _key, _value: seen.set())
        await written.put("role.finance", {"scope": "ALL"})
        await asyncio.wait_for(seen.wait(), 30)
        assert read.get("role.finance") == {"scope": "ALL"}


async def test_nobody_may_delete_or_empty_a_stream(bus_url: str) -> None:
    async with bus_of("sales", bus_url) as sales:
        await sales.ensure_stream("sales")
        for destroy in ("STREAM.DELETE.crm-sales", "STREAM.PURGE.crm-sales"):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(sales.request(destroy, {}), 1)
        assert (await sales.js.stream_info("crm-sales")).config.name == "crm-sales"


@pytest.mark.parametrize("bus_url", ["chart"], indirect=True)
async def test_an_app_cannot_tell_the_facts_of_another_nor_change_the_configuration(bus_url: str) -> None:
    async with bus_of("sales", bus_url) as sales:
        await sales.ensure_stream("billing")
        for subject in ("crm.billing.v1.InvoiceIssued", "$KV.crm-config.role.finance"):
            with pytest.raises((TimeoutError, APIError)):
                await asyncio.wait_for(sales.js.publish(subject, json.dumps({}).encode()), 1)


@asynccontextmanager
async def databases(folder: Path) -> AsyncIterator[None]:
    """PostgreSQL with what the script makes of the passwords in the environment."""
    passwords = {
        name: f"of-{name.lower()}"
        for app in APPS
        if app.database
        for name in (f"{app.name.upper()}_PASSWORD", f"{app.name.upper()}_OWNER_PASSWORD")
    }
    async with servers.postgres(folder, POSTGRES_PORT) as admin:
        environment = {
            **os.environ,
            **passwords,
            "KEYCLOAK_PASSWORD": "of-keycloak",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(POSTGRES_PORT),
            "PGPASSWORD": admin.split(":")[2].split("@")[0],
            "PATH": f"{servers.postgres_binaries()}:{os.environ['PATH']}",
        }
        await finished("bash", "-e", str(CHART / "files" / "databases.sh"), environment=environment)
        yield


async def finished(*command: str, environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def test_the_script_of_the_databases_gives_each_app_its_own(tmp_path: Path) -> None:
    async with databases(tmp_path / "postgres"):
        address = f"127.0.0.1:{POSTGRES_PORT}"
        owner = await asyncpg.connect(f"postgresql://sales_owner:of-sales_owner_password@{address}/sales")
        await owner.execute("CREATE TABLE leads (id int)")
        await owner.close()
        app = await asyncpg.connect(f"postgresql://sales:of-sales_password@{address}/sales")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute("CREATE TABLE mine (id int)")
        await app.close()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(f"postgresql://sales:of-sales_password@{address}/billing")
        keycloak = await asyncpg.connect(f"postgresql://keycloak:of-keycloak@{address}/keycloak")
        await keycloak.execute("CREATE TABLE realm (id int)")
        await keycloak.close()


def environment_in_the_chart(kind: str, name: str) -> dict[str, str]:
    """What a container of the chart finds in its environment, the servers moved to this machine."""
    manifests = rendered("embedded")
    settings = next(m["data"] for m in manifests if m["metadata"]["name"] == "crm-settings")
    manifest = next(m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name)
    found = dict(settings) if kind == "Deployment" else {}
    for entry in manifest["spec"]["template"]["spec"]["containers"][0]["env"]:
        key = entry.get("valueFrom", {}).get("secretKeyRef", {}).get("key", "")
        value = entry.get("value") or PASSWORDS.get(key) or f"of-{key.lower()}"
        for known in ("DATABASE_PASSWORD", "NATS_PASSWORD"):
            value = value.replace(f"$({known})", found.get(known, ""))
        found[entry["name"]] = value
    return {
        name: value.replace("crm-postgres:5432", f"127.0.0.1:{POSTGRES_PORT}").replace(
            "crm-nats:4222", f"127.0.0.1:{NATS_PORT}"
        )
        for name, value in found.items()
    }


@pytest.mark.parametrize("bus_url", ["chart"], indirect=True)
async def test_an_app_migrates_serves_and_stops_in_the_environment_that_the_chart_gives_it(
    bus_url: str, tmp_path: Path
) -> None:
    command = (sys.executable, "-m", "customer")
    base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SECRET_KEY": "A" * 43}
    async with databases(tmp_path / "postgres"):
        migration = environment_in_the_chart("Job", "crm-customer-migrate-1")
        await finished(*command, "migrate", environment={**base, **migration})
        serving = environment_in_the_chart("Deployment", "crm-customer") | base
        port = moved(4792)
        issuer = Issuer()
        serving |= {"GRPC_PORT": str(port), "METRICS_PORT": str(port + 1)}
        serving |= {"OIDC_ISSUER": issuer.url, "OIDC_DISCOVERY_URL": ""}
        with (tmp_path / "customer.log").open("w") as log:
            app = await asyncio.create_subprocess_exec(*command, "serve", env=serving, stdout=log, stderr=log)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                health = health_pb2_grpc.HealthStub(channel)

                async def serving_as(service: str) -> bool:
                    asked = health_pb2.HealthCheckRequest(service=service)
                    answer = await health.Check(asked, timeout=20, wait_for_ready=True)
                    return answer.status == health_pb2.HealthCheckResponse.SERVING

                assert await serving_as("live")
                assert not await serving_as("")
                async with bus_of("workspace", bus_url) as bus, Config(None, bus) as config:
                    await config.put("role.administrator", {"permissions": ["*"], "scope": "ALL"})
                async with asyncio.timeout(60):
                    while not await serving_as(""):  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
            metrics = await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port + 1}/metrics")
            text = metrics.read()
            for name in (b"crm_outbox_unpublished", b"crm_rpc_in_flight{", b"crm_db_pool_in_use{"):
                assert name in text
            async with bus_of("gateway", bus_url) as bus, asyncio.timeout(60):
                while (await bus.js.streams_info()) == []:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        finally:
            issuer.close()
            app.terminate()
            assert await asyncio.wait_for(app.wait(), 25) == 0, (tmp_path / "customer.log").read_text()
