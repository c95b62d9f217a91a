"""Helm at the version that the Makefile pins, and what the chart renders with it."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy" / "helm" / "crm"
VALUES = Path(__file__).parent / "values"
HELM = ROOT / ".local" / "bin" / "helm"
KUBERNETES = "1.34"
# The schemas of ServiceMonitor and PrometheusRule are part of this Go module.
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"

missing_helm: list[str] = []


@cache
def helm() -> Path:
    """Helm's path; it is built once, as `make chart` does."""
    if not HELM.exists():
        make = subprocess.run(["make", "-C", ROOT, ".local/bin/helm"], capture_output=True, text=True)
        if make.returncode:
            missing_helm.append(make.stderr.strip().splitlines()[-1])
            pytest.skip("HELM IS MISSING and could not be built: nothing of the chart was checked")
    return HELM


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm; the caller judges how it ended."""
    return subprocess.run([helm(), *arguments], capture_output=True, text=True)


@cache
def _rendered(values: str, settings: tuple[str, ...]) -> str:
    more = [part for setting in settings for part in ("--set", setting)]
    template = run(
        "template",
        "crm",
        str(CHART),
        "--namespace",
        "crm",
        "--kube-version",
        KUBERNETES,
        "--values",
        str(VALUES / f"{values}.yaml"),
        *more,
    )
    assert template.returncode == 0, template.stderr
    return template.stdout


def rendered(values: str, *settings: str) -> list[dict[str, Any]]:
    """Every manifest that the chart renders for a set of values and single settings."""
    return [manifest for manifest in yaml.safe_load_all(_rendered(values, settings)) if manifest]


@cache
def crd_schema(plural: str) -> dict[str, Any]:
    """The JSON schema of a kind of the Prometheus operator."""
    if shutil.which("go") is None:
        pytest.skip("GO IS MISSING: the kinds of the Prometheus operator were not checked")
    module = subprocess.run(
        ["go", "mod", "download", "-json", OPERATOR], cwd="/", capture_output=True, text=True, check=True
    )
    folder = Path(json.loads(module.stdout)["Dir"]) / "example" / "prometheus-operator-crd"
    definition = yaml.safe_load((folder / f"monitoring.coreos.com_{plural}.yaml").read_text())
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if missing_helm:
        terminalreporter.section("HELM COULD NOT BE BUILT: THE CHART IS UNCHECKED", red=True)
        terminalreporter.line(missing_helm[0])
