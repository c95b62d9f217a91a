"""The launcher, with two small apps that do nothing but answer and write down what happens to them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import psutil
import pytest
from crmkit.map import AppEntry
from local_platform.app import healthy
from local_platform.child import StartFailed
from local_platform.launcher import Platform

APPS = (AppEntry("alpha", 7101), AppEntry("gateway", 8080, database=False))

ALPHA = """
import asyncio, os, signal, sys
import asyncpg, grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

async def migrate():
    connection = await asyncpg.connect(os.environ["MIGRATION_DATABASE_URL"], database="alpha")
    await connection.execute("CREATE TABLE IF NOT EXISTS starts (id bigint GENERATED ALWAYS AS IDENTITY)")
    if os.environ.get("BREAK_MIGRATION"):
        sys.exit("the migration is broken")

async def serve():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"], database="alpha")
    await connection.execute("INSERT INTO starts DEFAULT VALUES")
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"127.0.0.1:{os.environ['GRPC_PORT']}")
    await server.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.create_task(server.stop(0)))
    await server.wait_for_termination()
    await connection.execute("SELECT 1")
    print("alpha stopped", file=open(os.environ["DIARY"], "a"))

asyncio.run({"serve": serve, "migrate": migrate}[sys.argv[1]]())
"""

GATEWAY = """
import os
import uvicorn

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("gateway stopped", file=open(os.environ["DIARY"], "a"))
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": os.environ["SERVICES"].encode()})

uvicorn.run(app, port=int(os.environ["HTTP_PORT"]))
"""

LAUNCHER = """
import asyncio, sys
from pathlib import Path
from crmkit.map import AppEntry
from local_platform.launcher import Platform
apps = (AppEntry("alpha", 7101), AppEntry("gateway", 8080, database=False))
async def main():
    async with Platform("dev", apps, Path(sys.argv[1])).running():
        print("up", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def small_apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in (("alpha", ALPHA), ("gateway", GATEWAY)):
        (tmp_path / "apps" / name).mkdir(parents=True)
        (tmp_path / "apps" / name / "__init__.py").touch()
        (tmp_path / "apps" / name / "__main__.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "apps"))
    monkeypatch.setenv("DIARY", str(tmp_path / "diary"))
    monkeypatch.setenv("PORT_OFFSET", str(10_000 + os.getpid() % 100 * 100))
    for variable in ("DATABASE_URL", "NATS_URL", "OIDC_ISSUER"):
        monkeypatch.delenv(variable, raising=False)


async def test_everything_starts_in_order_and_stops_in_reverse(tmp_path: Path) -> None:
    platform = Platform("dev", APPS, tmp_path / "state")
    async with platform.running() as running, httpx.AsyncClient() as client:
        services = (await client.get(f"{running.url}/readyz")).text
        assert services == f"alpha=127.0.0.1:{7101 + int(os.environ['PORT_OFFSET'])}"
        assert (await client.get(f"{running.issuer}/jwks")).status_code == 200
    assert (tmp_path / "diary").read_text().split("\n") == ["gateway stopped", "alpha stopped", ""]
    assert not list((tmp_path / "state" / "run").glob("*.pid"))


async def test_an_app_that_crashes_starts_again_and_the_others_go_on(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with Platform("dev", APPS, state).running() as running:
        first, gateway = _pid(state, "alpha"), _pid(state, "gateway")
        os.kill(first, signal.SIGKILL)
        await _until(lambda: (state / "run" / "alpha.pid").exists() and _pid(state, "alpha") != first)
        assert _pid(state, "gateway") == gateway
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{running.url}/readyz")).status_code == 200


async def test_after_the_launcher_was_killed_the_next_start_takes_over(tmp_path: Path) -> None:
    state = tmp_path / "state"
    launcher = _start(state)
    left = _pid(state, "alpha")
    launcher.kill()
    launcher.wait()
    assert psutil.pid_exists(left)
    async with Platform("dev", APPS, state).running():
        assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE
        assert _pid(state, "alpha") != left


async def test_two_launchers_never_share_a_state_directory(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Platform("dev", APPS, state).running())
        with pytest.raises(StartFailed, match="running already"):
            await stack.enter_async_context(Platform("dev", APPS, state).running())


async def test_a_failed_migration_ends_the_start_and_shows_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAK_MIGRATION", "yes")
    with pytest.raises(StartFailed, match=r"alpha could not migrate\n.*the migration is broken"):
        async with Platform("dev", APPS, tmp_path / "state").running():
            pass
    assert not list((tmp_path / "state" / "run").glob("*.pid"))


async def test_apps_serve_on_the_launchers_own_loop_as_well(tmp_path: Path) -> None:
    customer, workspace = AppEntry("customer", 7102), AppEntry("workspace", 7103)
    async with Platform("dev", (customer, workspace), tmp_path / "state", one_process=True).running():
        assert await healthy(customer)
    assert not await healthy(customer)


def _start(state: Path) -> subprocess.Popen[str]:
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, state], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert launcher.stdout is not None
    assert any(line == "up\n" for line in launcher.stdout)
    launcher.stdout.close()
    return launcher


def _pid(state: Path, name: str) -> int:
    return int((state / "run" / f"{name}.pid").read_text().split()[0])


async def _until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
