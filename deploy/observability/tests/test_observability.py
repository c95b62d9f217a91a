"""Rules and dashboards: valid, about metrics that exist, and every alert says what to do."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from crmkit.map import APPS

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]

# What the kit exposes, name and labels (docs/operations.md, Metrics), and two that are not ours.
METRICS = {
    "crm_rpc_seconds_count",
    "crm_rpc_seconds_sum",
    "crm_rpc_seconds_bucket",
    "crm_rpc_in_flight",
    "crm_outbox_unpublished",
    "crm_outbox_oldest_seconds",
    "crm_events_published_total",
    "crm_events_handled_seconds_count",
    "crm_events_handled_seconds_bucket",
    "crm_consumer_pending",
    "crm_dead_letters",
    "crm_jobs_seconds_count",
    "crm_db_pool_in_use",
    "crm_http_seconds_count",
    "crm_http_seconds_bucket",
    "crm_business_total",
}


def promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("PROMTOOL IS MISSING (package prometheus): rules and queries were not checked")
    check = subprocess.run(["promtool", *arguments], cwd=HERE, capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


def dashboards() -> Any:
    spec = importlib.util.spec_from_file_location("dashboards", HERE / "dashboards.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["dashboards"] = module
    spec.loader.exec_module(module)
    return module


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for group in yaml.safe_load((HERE / "rules.yaml").read_text())["groups"]
        for rule in group["rules"]
    ]


def queries() -> list[str]:
    return [panel.expression for board in dashboards().DASHBOARDS.values() for panel in board.panels]


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")


def test_the_scrape_configuration_is_valid() -> None:
    promtool("check", "config", "prometheus.yaml")


def test_alerts_fire_on_what_they_are_for_and_not_on_their_neighbours() -> None:
    promtool("test", "rules", "rules_test.yaml")


def test_every_query_of_the_dashboards_parses(tmp_path: Path) -> None:
    known = {"$__rate_interval": "5m", "$__range": "7d", "$app": ".*"}
    expressions = [
        re.sub("|".join(map(re.escape, known)), lambda m: known[m[0]], query) for query in queries()
    ]
    records = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(expressions)]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    promtool("check", "rules", str(tmp_path / "queries.yaml"))


def test_the_dashboards_files_are_fresh() -> None:
    module = dashboards()
    for uid in module.DASHBOARDS:
        assert (HERE / "dashboards" / f"{uid}.json").read_text() == module.text(uid), "run dashboards.py"
    assert {path.stem for path in (HERE / "dashboards").iterdir()} == module.DASHBOARDS.keys()


def test_panels_do_not_overlap() -> None:
    module = dashboards()
    for uid, board in module.DASHBOARDS.items():
        taken = set[tuple[int, int]]()
        for panel in module.rendered(uid, board)["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
            assert not cells & taken
            assert at["x"] + at["w"] <= module.WIDTH
            taken |= cells


def test_only_metrics_that_the_kit_exposes_are_asked_for() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for query in queries() + [rule["expr"] for rule in rules()]:
        assert set(re.findall(r"\bcrm_\w+", query)) <= METRICS, query
        assert set(re.findall(r"\bcrm:[\w:]+", query)) <= recorded, query


def test_every_alert_has_a_runbook_that_exists() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    anchors = {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("#")
    }
    for alert in (rule for rule in rules() if "alert" in rule):
        target, _, anchor = alert["annotations"]["runbook"].partition("#")
        assert target == "docs/operations.md"
        assert anchor in anchors, alert["alert"]
        assert alert["labels"]["severity"] in ("page", "ticket")


def test_prometheus_scrapes_every_app_of_the_map() -> None:
    (job,) = yaml.safe_load((HERE / "prometheus.yaml").read_text())["scrape_configs"]
    assert set(job["static_configs"][0]["targets"]) == {f"{app.name}:{app.metrics_port}" for app in APPS}
