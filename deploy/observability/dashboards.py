"""The Grafana dashboards: run this file to write dashboards/*.json; a test keeps them fresh."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """One chart; with `total`, one number."""

    title: str
    expression: str
    legend: str = ""
    unit: str = "short"
    total: bool = False
    note: str = ""


@dataclass(frozen=True)
class Dashboard:
    """Panels in reading order: numbers six to a row, charts two to a row."""

    title: str
    panels: tuple[Panel, ...]


def p99(metric: str, by: str) -> str:
    return f"histogram_quantile(0.99, sum by ({by}, le) (rate({metric}_bucket[$__rate_interval])))"


DASHBOARDS = {
    "platform": Dashboard(
        "Guanxi: platform",
        (
            Panel("Apps that answer", 'sum(up{service=~"crm-.+"})', total=True),
            Panel(
                "Requests a second",
                "sum(rate(crm_http_seconds_count[$__rate_interval]))",
                unit="reqps",
                total=True,
            ),
            Panel("Failing requests", "crm:http_errors:ratio5m", unit="percentunit", total=True),
            Panel("Facts that wait", "sum(max by (app) (crm_outbox_unpublished))", total=True),
            Panel("Dead letters", "sum(max by (app) (crm_dead_letters))", total=True),
            Panel(
                "Alerts that fire",
                'count(ALERTS{alertname=~"Crm.+", alertstate="firing"}) or vector(0)',
                total=True,
            ),
            Panel(
                "Requests by status",
                "sum by (status) (rate(crm_http_seconds_count[$__rate_interval]))",
                "{{status}}",
                "reqps",
            ),
            Panel("Slowest routes, p99", f"topk(10, {p99('crm_http_seconds', 'route')})", "{{route}}", "s"),
            Panel(
                "Calls by app",
                "sum by (app) (rate(crm_rpc_seconds_count[$__rate_interval]))",
                "{{app}}",
                "reqps",
            ),
            Panel("Calls in flight", "sum by (app) (crm_rpc_in_flight)", "{{app}}"),
            Panel(
                "Database connections in use, busiest pod",
                "max by (app) (crm_db_pool_in_use)",
                "{{app}}",
                note="A pod has 15; a call that finds none within 1.5 s is refused.",
            ),
            Panel("Oldest fact that waits", "max by (app) (crm_outbox_oldest_seconds)", "{{app}}", "s"),
        ),
    ),
    "rpc": Dashboard(
        "Guanxi: calls",
        (
            Panel(
                "Calls by method",
                'topk(15, sum by (method) (rate(crm_rpc_seconds_count{app=~"$app"}[$__rate_interval])))',
                "{{method}}",
                "reqps",
            ),
            Panel(
                "Errors by method and code",
                "sum by (method, code) "
                '(rate(crm_rpc_seconds_count{app=~"$app", code!="OK"}[$__rate_interval]))',
                "{{method}} {{code}}",
                "reqps",
            ),
            Panel("p50", 'topk(15, crm:rpc_seconds:p50{app=~"$app"})', "{{method}}", "s"),
            Panel("p95", 'topk(15, crm:rpc_seconds:p95{app=~"$app"})', "{{method}}", "s"),
            Panel("p99", 'topk(15, crm:rpc_seconds:p99{app=~"$app"})', "{{method}}", "s"),
            Panel("In flight", 'sum by (app) (crm_rpc_in_flight{app=~"$app"})', "{{app}}"),
            Panel(
                "Time spent by method",
                'topk(15, sum by (method) (rate(crm_rpc_seconds_sum{app=~"$app"}[$__rate_interval])))',
                "{{method}}",
                note="Seconds of work a second: what to make faster first.",
            ),
            Panel(
                "Refused for want of capacity",
                "sum by (app) "
                '(rate(crm_rpc_seconds_count{app=~"$app", code=~"RESOURCE_EXHAUSTED|UNAVAILABLE"}'
                "[$__rate_interval]))",
                "{{app}}",
                "reqps",
            ),
        ),
    ),
    "events": Dashboard(
        "Guanxi: facts",
        (
            Panel(
                "Published a second",
                "sum by (app) (rate(crm_events_published_total[$__rate_interval]))",
                "{{app}}",
            ),
            Panel("Waiting in the outbox", "max by (app) (crm_outbox_unpublished)", "{{app}}"),
            Panel("Oldest in the outbox", "max by (app) (crm_outbox_oldest_seconds)", "{{app}}", "s"),
            Panel("Behind, by stream", "max by (app, stream) (crm_consumer_pending)", "{{app}} ← {{stream}}"),
            Panel(
                "Handled, by outcome",
                "sum by (app, outcome) (rate(crm_events_handled_seconds_count[$__rate_interval]))",
                "{{app}} {{outcome}}",
            ),
            Panel(
                "Slowest handlers, p99",
                f"topk(15, {p99('crm_events_handled_seconds', 'app, handler')})",
                "{{app}} {{handler}}",
                "s",
            ),
            Panel("Dead letters", "max by (app) (crm_dead_letters)", "{{app}}"),
        ),
    ),
    "business": Dashboard(
        "Guanxi: business",
        (
            Panel(
                "Leads in",
                'sum(increase(crm_business_total{fact=~"(.+[.])?LeadCreated"}[$__range]))',
                total=True,
            ),
            Panel(
                "Deals won",
                'sum(increase(crm_business_total{fact=~"(.+[.])?OpportunityWon"}[$__range]))',
                total=True,
            ),
            Panel(
                "Invoices",
                'sum(increase(crm_business_total{fact=~"(.+[.])?InvoiceIssued"}[$__range]))',
                total=True,
            ),
            Panel(
                "Payments",
                'sum(increase(crm_business_total{fact=~"(.+[.])?PaymentAllocated"}[$__range]))',
                total=True,
            ),
            Panel(
                "Tickets",
                'sum(increase(crm_business_total{fact=~"(.+[.])?TicketOpened"}[$__range]))',
                total=True,
            ),
            Panel(
                "SLA breaches",
                'sum(increase(crm_business_total{fact=~"(.+[.])?SlaBreached"}[$__range]))',
                total=True,
            ),
            Panel(
                "From lead to cash, a day",
                "sum by (fact) (increase(crm_business_total{fact=~"
                '"(.+[.])?(LeadCreated|LeadConverted|OpportunityWon|ContractSigned|InvoiceIssued|PaymentAllocated)"}[1d]))',
                "{{fact}}",
            ),
            Panel(
                "Won and lost, a day",
                'sum by (fact) (increase(crm_business_total{fact=~"(.+[.])?Opportunity(Won|Lost)"}[1d]))',
                "{{fact}}",
            ),
            Panel(
                "Tickets, a day",
                'sum by (fact) (increase(crm_business_total{fact=~"(.+[.])?(Ticket.+|SlaBreached)"}[1d]))',
                "{{fact}}",
            ),
            Panel("All facts, a day", "topk(20, crm:business:increase1d)", "{{app}} {{fact}}"),
        ),
    ),
}


def rendered(uid: str, dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    source = {"type": "prometheus", "uid": "${source}"}
    panels: list[dict[str, Any]] = []
    x = y = height = 0
    for panel in dashboard.panels:
        width, tall = (4, 4) if panel.total else (12, 8)
        if x + width > WIDTH or (tall != height and x):
            x, y = 0, y + height
        height = tall
        target = {"refId": "A", "expr": panel.expression, "legendFormat": panel.legend, "datasource": source}
        panels.append(
            {
                "id": len(panels) + 1,
                "title": panel.title,
                "description": panel.note,
                "type": "stat" if panel.total else "timeseries",
                "datasource": source,
                "gridPos": {"x": x, "y": y, "w": width, "h": tall},
                "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if panel.total else {},
                "targets": [target],
            }
        )
        x += width
    source_choice = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    app_choice = {
        "name": "app",
        "type": "query",
        "datasource": source,
        "query": "label_values(crm_rpc_seconds_count, app)",
        "includeAll": True,
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }
    return {
        "uid": f"crm-{uid}",
        "title": dashboard.title,
        "tags": ["crm"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-7d" if uid == "business" else "now-3h", "to": "now"},
        "templating": {"list": [source_choice, app_choice] if uid == "rpc" else [source_choice]},
        "panels": panels,
    }


def text(uid: str) -> str:
    """What the dashboard's file has to say."""
    return json.dumps(rendered(uid, DASHBOARDS[uid]), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for uid in DASHBOARDS:
        (FOLDER / f"{uid}.json").write_text(text(uid), encoding="utf-8")
