"""What the image holds, and that the commands of the chart and of compose are commands of what it holds."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import translate
from pathlib import Path
from typing import Any

import pytest
import yaml
from crmkit.map import APPS

from .conftest import ROOT, rendered

DOCKERFILE = (ROOT / "Dockerfile").read_text()
# What is built in the image itself, or is there for tests alone.
NOT_COPIED = {"node_modules", "dist", "tests", "__pycache__", ".pytest_cache"}
GENERATED = "libs/crmprotos/crm/"
MODULES = (*(app.name for app in APPS), "local_platform.agent")
SETS = ("default", "embedded", "production")
BACKUP = ("backup.enabled=true", "backup.vault=vault", "backup.keySecret=key")


def reaches_the_build(path: str) -> bool:
    """Whether .dockerignore lets a file of the repository into the build: the last line that fits decides."""
    reaches = True
    above = [path, *(str(parent) for parent in Path(path).parents)][:-1]
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!").removeprefix("**/")
        anywhere = line != pattern and line.removeprefix("!").startswith("**/")
        fits = [one if not anywhere else Path(one).name for one in above]
        if any(re.match(translate(pattern), one) for one in fits):
            reaches = line.startswith("!")
    return reaches


def test_what_the_dockerfile_copies_is_let_into_the_build() -> None:
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert {"pyproject.toml", "libs", "deploy/local", "web/"} <= {*copied}
    for source in copied:
        place = ROOT / source
        files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
        wanted = [file.relative_to(ROOT) for file in files]
        wanted = [str(file) for file in wanted if not NOT_COPIED & {*file.parts[:-1]}]
        wanted = [file for file in wanted if not file.startswith(GENERATED)]
        assert wanted, source
        left = [file for file in wanted if not reaches_the_build(file)]
        assert not left, f"COPY {source} finds no {left[:3]}"
    for kept in (".local/secrets.json", ".env", ".git/config", "services/sales/tests/conftest.py"):
        assert not reaches_the_build(kept), kept


def commands() -> Iterator[tuple[str, ...]]:
    """What is handed to `python -m` in the images of the platform."""
    for service in yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values():
        if "guanxi/" in service["image"] and "entrypoint" not in service:
            yield tuple(service["command"])
    for values in SETS:
        for manifest in rendered(values, *BACKUP):
            for container in containers(manifest):
                if "guanxi/" in container["image"] and "args" in container:
                    yield tuple(container["args"])


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """Every container of a manifest, however deep its pod lies."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name in ("containers", "initContainers"):
                yield from value
            else:
                yield from containers(value)
    elif isinstance(node, list):
        for one in node:
            yield from containers(one)


@pytest.mark.parametrize("module", MODULES)
def test_every_command_that_is_deployed_is_there(module: str) -> None:
    help_of = [sys.executable, "-m", module, "--help"]
    told = subprocess.run(help_of, cwd=ROOT, capture_output=True, text=True, timeout=60, env=os.environ)
    assert told.returncode == 0, told.stderr
    deployed = {*commands()}
    assert {command[0] for command in deployed} == {*MODULES}
    for _, *arguments in (command for command in deployed if command[0] == module):
        for argument in arguments:
            assert re.search(rf"(?<![\w-]){re.escape(argument)}(?![\w-])", told.stdout), (module, argument)


def test_scripts_that_are_deployed_lie_in_the_image() -> None:
    texts = [(ROOT / "compose.yaml").read_text(), *(str(rendered(values)) for values in SETS)]
    scripts = {script for text in texts for script in re.findall(r"python /app/(\S+\.py)", text)}
    assert scripts == {"deploy/keycloak/realm.py"}
    for script in scripts:
        assert (ROOT / script).is_file() and reaches_the_build(script)
        assert f"COPY {Path(script).parent} {Path(script).parent}" in DOCKERFILE


def test_no_image_runs_as_root_or_brings_a_package_manager_of_python() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    for name in ("crm", "agent"):
        [stage] = [one for one in stages if one.splitlines()[0].endswith(f" AS {name}")]
        assert "USER 10001:10001" in stage and 'ENTRYPOINT ["python", "-m"]' in stage
        assert "rm -rf /usr/local/lib/python3.11/site-packages/pip*" in stage, name
