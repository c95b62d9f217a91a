"""What is delivered is pinned: every package has its hash and stands in the bill, and nothing is called `latest`."""

import json
import re
import sys
import tomllib
from pathlib import Path

from local_platform.layout import ROOT

sys.path.insert(0, str(ROOT / "deploy"))
from supply import bill, python_hashes

SECRET = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|AKIA[0-9A-Z]{16}|AGE-SECRET-KEY-1[0-9A-Z]{20}")


def test_every_package_of_python_and_of_the_web_client_has_its_hash() -> None:
    assert len(python_hashes()) > 100
    for (name, version), files in python_hashes().items():
        assert files and all(re.fullmatch("[0-9a-f]{64}", one) for one in files), f"{name} {version}"
    packages = json.loads((ROOT / "web" / "package-lock.json").read_text())["packages"]
    assert not [path for path, package in packages.items() if path and not package.get("integrity")]


def test_packages_come_from_the_registry_or_the_repository_alone() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    for package in lock["package"]:
        assert package["source"].keys() & {"registry", "editable", "virtual"}, package["name"]


def test_the_bill_names_everything_that_the_image_holds_and_is_the_same_each_time() -> None:
    found = bill()
    assert found["bomFormat"] == "CycloneDX"
    names = {component["name"] for component in found["components"]}
    assert {"sqlalchemy", "grpcio", "cryptography", "react", "antd"} <= names
    assert not {"pytest", "ruff", "vitest"} & names
    for component in found["components"]:
        if component["name"] == "sqlalchemy":
            assert all(file["hashes"] for file in component["externalReferences"])
    assert bill() == found


def test_no_image_is_latest_and_no_file_holds_a_key() -> None:
    for name in ("Dockerfile", "compose.yaml", "deploy/helm/crm/values.yaml", "deploy/image.sh"):
        assert ":latest" not in (ROOT / name).read_text(), name
    kinds = {".py", ".yaml", ".yml", ".json", ".toml", ".md", ".sh", ".proto", ".ts", ".tsx", ".conf"}
    parts = ("deploy", "docs", "gateway", "libs", "protos", "services", "tests", "web/src")
    found = [
        path
        for part in parts
        for path in sorted((ROOT / part).rglob("*"))
        if path.suffix in kinds and path.is_file() and not {"node_modules", "crm"} & {*path.parts[:-1]}
        and SECRET.search(path.read_text(errors="ignore")) and path != Path(__file__)
    ]  # fmt: skip
    assert not found
