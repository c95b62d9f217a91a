"""The configuration of the embedded servers, tried on the real NATS and the real PostgreSQL."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from crmkit.bus import Bus, StreamLimits
from crmkit.config import Config
from crmkit.map import APPS, moved
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
        async with asyncio.timeout(10):
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
        await asyncio.wait_for(seen.wait(), 10)
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


async def test_the_script_of_the_databases_gives_each_app_its_own(tmp_path: Path) -> None:
    passwords = {
        name: f"of-{name.lower()}"
        for app in APPS
        if app.database
        for name in (f"{app.name.upper()}_PASSWORD", f"{app.name.upper()}_OWNER_PASSWORD")
    }
    async with servers.postgres(tmp_path / "postgres", POSTGRES_PORT) as admin:
        binaries = servers._postgres_binaries()
        environment = {
            **os.environ,
            **passwords,
            "KEYCLOAK_PASSWORD": "of-keycloak",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(POSTGRES_PORT),
            "PGPASSWORD": admin.split(":")[2].split("@")[0],
            "PATH": f"{binaries}:{os.environ['PATH']}",
        }
        script = await asyncio.create_subprocess_exec(
            "bash",
            "-e",
            CHART / "files" / "databases.sh",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await script.communicate()
        assert script.returncode == 0, output.decode()

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
