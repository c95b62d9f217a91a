"""compose.yaml says the same as the map, the chart and the secrets that are made for it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from crmkit.map import APPS

from .conftest import CHART, ROOT

TEXT = (ROOT / "compose.yaml").read_text()


def compose() -> dict[str, Any]:
    return yaml.safe_load(TEXT)


def secrets_file(folder: Path) -> Path:
    """What `make secrets` writes."""
    file = folder / ".env"
    subprocess.run([sys.executable, ROOT / "deploy" / "passwords.py", file], check=True, capture_output=True)
    return file


def test_secrets_are_made_once_and_kept_to_their_owner(tmp_path: Path) -> None:
    first = secrets_file(tmp_path).read_text()
    assert secrets_file(tmp_path).read_text() == first
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    values = [line.partition("=")[2] for line in first.splitlines()]
    assert len(set(values)) == len(values)
    # A password stands in URLs as it is.
    assert all(re.fullmatch(r"admin|[\w-]{43}", value) for value in values)


def test_docker_accepts_the_file(tmp_path: Path) -> None:
    found = shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True)
    if not found or found.returncode:
        pytest.skip("DOCKER COMPOSE IS MISSING: compose.yaml was only read, not validated")
    # Beside the file `env_file` and the variables are found, as they are after `make secrets`.
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    secrets_file(tmp_path)
    command = ["docker", "compose", "config", "--quiet"]
    check = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
    assert not check.stderr


def test_every_app_of_the_map_runs_on_its_port() -> None:
    services = compose()["services"]
    for app in APPS:
        environment = services[app.name]["environment"]
        assert services[app.name]["command"] == [app.name, "serve"]
        assert environment["METRICS_PORT"] == str(app.metrics_port)
        assert environment["HTTP_PORT" if app.name == "gateway" else "GRPC_PORT"] == str(app.port)
        assert ("DATABASE_URL" in environment) == app.database == (f"{app.name}-migrate" in services)
    assert set(services["gateway"]["environment"]["SERVICES"].split(",")) == {
        f"{app.name}={app.name}:{app.port}" for app in APPS if app.name != "gateway"
    }


def test_an_app_starts_after_its_tables_are_there() -> None:
    services = compose()["services"]
    for app in (app for app in APPS if app.database):
        wait = services[app.name]["depends_on"][f"{app.name}-migrate"]
        assert wait == {"condition": "service_completed_successfully"}


def test_what_an_installation_decides_reaches_the_apps() -> None:
    services = compose()["services"]
    said = {"SESSION_LIMIT": "${SESSION_LIMIT:-END_OLDEST}", "PAY_URL": "${PAY_URL:-}"}
    for app in APPS:
        assert said.items() <= services[app.name]["environment"].items(), app.name


def test_every_secret_that_it_asks_for_is_made(tmp_path: Path) -> None:
    made = {line.partition("=")[0] for line in secrets_file(tmp_path).read_text().splitlines()}
    assert set(re.findall(r"\$\{(\w+):\?", TEXT)) <= made
    assert not re.search(r"(PASSWORD|SECRET\w*): (?!\$\{)", TEXT), "a password is written into the file"


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_servers_are_those_of_the_chart() -> None:
    servers = yaml.safe_load((CHART / "values.yaml").read_text())["embedded"]["servers"]
    services = compose()["services"]
    assert {name: services[name]["image"] for name in servers} == {
        name: s["image"] for name, s in servers.items()
    }


def test_the_bus_knows_every_app_and_syncs_every_message() -> None:
    config = (ROOT / "deploy" / "compose" / "nats.conf").read_text()
    assert "sync_interval: always" in config
    users = set(re.findall(r"user: (\w+), password: \$(\w+),", config))
    assert users == {(app.name, f"{app.name.upper()}_NATS_PASSWORD") for app in APPS}


def test_the_agent_of_backups_runs_where_it_is_asked_for_with_the_command_of_the_chart() -> None:
    agent = compose()["services"]["agent"]
    assert agent["profiles"] == ["backup"] and agent["command"] == ["local_platform.agent"]
    environment = agent["environment"]
    assert environment["CRM_URL"] == "http://gateway:8080"
    assert environment["DATABASE_URL"].endswith("@postgres:5432")
    image = yaml.safe_load((CHART / "values.yaml").read_text())["backup"]["image"]
    assert agent["image"] == f"${{CRM_AGENT_IMAGE:-{image}}}"
    mounted = {volume.split(":")[-1 if volume.count(":") == 1 else -2] for volume in agent["volumes"]}
    assert {f"{environment['BACKUP_STATE']}/backups", "/tmp"} <= mounted
