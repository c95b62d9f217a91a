"""The chart: what it renders is valid, restricted, closed by default, and equal to the platform's map."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from crmkit.map import APPS
from crmkit.settings import Settings

from .conftest import CHART, KUBERNETES, ROOT, VALUES, crd_schema, rendered, run
from .restricted import containers_of, pod_of, violations

SETS = ("default", "production", "embedded")
Manifest = dict[str, Any]


def named(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """The manifests of a kind by name, without the release's prefix."""
    return {m["metadata"]["name"].removeprefix("crm-"): m for m in manifests if m["kind"] == kind}


@pytest.mark.parametrize("values", SETS)
def test_the_chart_passes_helms_lint(values: str) -> None:
    lint = run(
        "lint",
        str(CHART),
        "--strict",
        "--kube-version",
        KUBERNETES,
        "--values",
        str(VALUES / f"{values}.yaml"),
    )
    assert lint.returncode == 0, lint.stdout


@pytest.mark.parametrize("values", SETS)
def test_every_manifest_fits_the_schema_of_its_kind(values: str) -> None:
    for manifest in rendered(values):
        if manifest["kind"] == "ServiceMonitor":
            jsonschema.validate(manifest, crd_schema("servicemonitors"))
        else:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("values", SETS)
def test_no_name_is_given_twice_within_a_kind(values: str) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered(values)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("values", SETS)
def test_every_pod_is_restricted(values: str) -> None:
    found = {
        f"{manifest['kind']} {manifest['metadata']['name']}: {violation}"
        for manifest in rendered(values)
        if (pod := pod_of(manifest)) is not None
        for violation in violations(pod)
    }
    assert not found


def test_the_restricted_check_sees_what_is_forbidden() -> None:
    pod = {
        "hostNetwork": True,
        "volumes": [{"name": "node", "hostPath": {"path": "/"}}],
        "containers": [
            {"name": "bad", "image": "app", "securityContext": {"privileged": True, "runAsUser": 0}}
        ],
    }
    assert len(set(violations(pod))) == 11


def test_the_services_are_those_of_the_map() -> None:
    services = yaml.safe_load((CHART / "values.yaml").read_text())["services"]
    assert {(name, service["port"], service["metrics"]) for name, service in services.items()} == {
        (app.name, app.port, app.metrics_port) for app in APPS
    }
    assert {name for name, service in services.items() if "database" in service["needs"]} == {
        app.name for app in APPS if app.database
    }


def test_a_new_service_is_one_entry_in_the_values() -> None:
    entry = (
        "services.loyalty.port=7109",
        "services.loyalty.metrics=7209",
        "services.loyalty.needs={database,nats,issuer}",
    )
    manifests = rendered("production", *entry)
    kinds = {m["kind"] for m in manifests if m["metadata"]["name"] == "crm-loyalty"}
    assert kinds == {
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceMonitor",
    }
    assert "loyalty-migrate" in named(manifests, "Job")
    assert (
        "loyalty=crm-loyalty:7109"
        in environment(named(manifests, "Deployment")["gateway"])["SERVICES"]["value"]
    )


def test_what_an_installation_decides_reaches_the_apps() -> None:
    default, production = (
        named(rendered(values), "ConfigMap")["settings"]["data"] for values in ("default", "production")
    )
    assert (default["SESSION_LIMIT"], default.get("PAY_URL")) == ("END_OLDEST", None)
    assert (production["SESSION_LIMIT"], production["PAY_URL"]) == (
        "REFUSE",
        "https://pay.example.com/checkout",
    )
    # Each is a setting that the apps know, with the same default.
    assert Settings.model_fields["session_limit"].default == default["SESSION_LIMIT"]
    assert Settings.model_fields["pay_url"].default == ""


def environment(workload: Manifest) -> dict[str, Any]:
    return {
        entry["name"]: entry for c in containers_of(pod_of(workload) or {}) for entry in (c.get("env") or [])
    }


@pytest.mark.parametrize("values", SETS)
def test_the_gateway_finds_every_service_where_it_listens(values: str) -> None:
    manifests = rendered(values)
    services = named(manifests, "Service")
    addresses = environment(named(manifests, "Deployment")["gateway"])["SERVICES"]["value"].split(",")
    for name, _, address in (entry.partition("=") for entry in addresses):
        host, _, port = address.partition(":")
        assert host == f"crm-{name}"
        assert services[name]["spec"]["clusterIP"] == "None"
        assert int(port) == services[name]["spec"]["ports"][0]["port"]
    assert {entry.partition("=")[0] for entry in addresses} == {app.name for app in APPS} - {"gateway"}


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("secret=", "no default passwords"),
        ("database.host=", "database.host"),
        ("nats.host=", "nats.host"),
        ("oidc.issuer=", "oidc.issuer"),
        ("files.url=", "files.url"),
        ("ingress.host=", "ingress.host"),
        ("ingress.tlsSecret=", "ingress.tlsSecret"),
        ("oidc.realmImport.url=", "oidc.realmImport.url"),
        ("networkPolicy.to.database.peers=null", "networkPolicy.to.database.peers"),
        ("settings.ENVIRONMENT=local", "ENVIRONMENT"),
        ("settings.SECRET_KEY=abc", "SECRET_KEY"),
        ("settings.SESSION_LIMIT=NONE", "SESSION_LIMIT"),
        ("settings.PAY_URL=http://pay.example.com", "PAY_URL"),
        ("image.tag=latest", "tag"),
        ("database.sslMode=disable", "sslMode"),
        ("servics.customer.port=1", "servics"),
    ],
)
def test_an_unsafe_or_missing_value_is_refused_by_name(missing: str, said: str) -> None:
    template = run(
        "template",
        "crm",
        str(CHART),
        "--kube-version",
        KUBERNETES,
        "--values",
        str(VALUES / "default.yaml"),
        "--set",
        missing,
    )
    assert template.returncode != 0
    assert said in template.stderr


@pytest.mark.parametrize("values", SETS)
def test_passwords_come_from_the_secret_and_nowhere_else(values: str) -> None:
    manifests = rendered(values)
    assert not named(manifests, "Secret")
    for manifest in manifests:
        pod = pod_of(manifest)
        for entry in [] if pod is None else (e for c in containers_of(pod) for e in (c.get("env") or [])):
            if "valueFrom" in entry:
                assert entry["valueFrom"]["secretKeyRef"]["name"] == "crm"
            elif re.search("PASSWORD|SECRET|_URL$", entry["name"]) and "@" in entry["value"]:
                assert re.search(r":\$\([A-Z_]+\)@", entry["value"]), entry
            elif "PASSWORD" in entry["name"]:
                assert re.fullmatch(r"\$\([A-Z_]+\)", entry["value"]), entry


def test_an_app_gets_its_own_passwords_only() -> None:
    for name, deployment in named(rendered("production"), "Deployment").items():
        keys = {
            e["valueFrom"]["secretKeyRef"]["key"]
            for e in environment(deployment).values()
            if "valueFrom" in e
        }
        own = {
            "SECRET_KEY",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            f"{name.upper()}_NATS_PASSWORD",
            f"{name.upper()}_PASSWORD",
        }
        if name == "workspace":
            own |= {"GUANXI_ADMIN_SECRET", "SMTP_URL", "IMAP_URL"}
        if name in ("sales", "billing"):
            own.add("PAY_KEY")
        assert keys == (own - {"GATEWAY_PASSWORD"})


def test_the_operations_page_lists_every_key_of_the_secret() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    keys = {
        entry["valueFrom"]["secretKeyRef"]["key"]
        for values in SETS
        for manifest in rendered(values)
        if pod_of(manifest)
        for entry in environment(manifest).values()
        if "valueFrom" in entry
    }
    apps = "|".join(app.name.upper() for app in APPS)
    assert {re.sub(rf"^({apps})_", "<APP>_", key) for key in keys} - set(
        re.findall(r"`([A-Z<>_]+)`", page)
    ) == set()


def edges(manifests: list[Manifest], direction: str) -> set[tuple[str, str]]:
    """(pod, peer) for every pod-to-pod edge that the policies open in a direction, Ingress or Egress."""
    found = set[tuple[str, str]]()
    for policy in named(manifests, "NetworkPolicy").values():
        for rule in policy["spec"].get(direction.lower(), []):
            assert rule["ports"], "an edge without a port is open to all ports"
            for peer in rule["from" if direction == "Ingress" else "to"]:
                labels = peer.get("podSelector", {}).get("matchLabels", {})
                pod = policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/name", "*")
                if labels:
                    found.add((pod, labels.get("app.kubernetes.io/name", "*")))
    return found


@pytest.mark.parametrize("values", SETS)
def test_the_network_is_closed_but_for_the_declared_edges(values: str) -> None:
    manifests = rendered(values)
    deny = named(manifests, "NetworkPolicy")["default-deny"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert deny["podSelector"] == {"matchLabels": {"app.kubernetes.io/instance": "crm"}}
    assert "ingress" not in deny
    assert [port["port"] for rule in deny["egress"] for port in rule["ports"]] == [53, 53]

    services = {app.name for app in APPS} - {"gateway"}
    servers = {"postgres", "nats", "keycloak"} if values == "embedded" else set()
    # The gateway calls the services, and they ask it for the keys of the tokens that it makes.
    between = {("gateway", s) for s in services} | {(s, "gateway") for s in services}
    assert edges(manifests, "Ingress") == between | {(s, "*") for s in servers}
    out = set(between)
    if servers:
        out |= {
            (app.name, server) for app in APPS for server in servers if app.database or server != "postgres"
        }
        out |= {(f"{service}-migrate", "postgres") for service in services}
        out |= {("realm", "keycloak"), ("keycloak", "postgres")}
    assert edges(manifests, "Egress") == out


@pytest.mark.parametrize("values", SETS)
def test_every_pod_has_a_policy_that_selects_it(values: str) -> None:
    manifests = rendered(values)
    policies = {
        tuple(sorted(p["spec"]["podSelector"]["matchLabels"].items()))
        for p in named(manifests, "NetworkPolicy").values()
    }
    for manifest in manifests:
        if pod_of(manifest):
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            assert tuple(sorted(labels.items())) in policies, manifest["metadata"]["name"]


@pytest.mark.parametrize("values", SETS)
def test_an_app_stops_only_after_its_last_call(values: str) -> None:
    for deployment in named(rendered(values), "Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        # 5 s until no balancer sends anything here, then 20 s for running calls and consumers (R-RPC-4).
        assert pause >= 5
        assert pod["terminationGracePeriodSeconds"] > pause + 20


@pytest.mark.parametrize("values", SETS)
def test_every_app_survives_the_loss_of_one_pod_and_of_one_zone(values: str) -> None:
    manifests = rendered(values)
    for name, deployment in named(manifests, "Deployment").items():
        pod = deployment["spec"]["template"]["spec"]
        assert {c["topologyKey"] for c in pod["topologySpreadConstraints"]} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }
        assert "replicas" not in deployment["spec"], "the autoscaler owns the number"
        assert named(manifests, "HorizontalPodAutoscaler")[name]["spec"]["minReplicas"] >= 2
        assert named(manifests, "PodDisruptionBudget")[name]["spec"]["maxUnavailable"] == 1
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= pod["containers"][0].keys()


def test_services_may_differ_from_the_defaults() -> None:
    scalers = named(rendered("production"), "HorizontalPodAutoscaler")
    assert scalers["insight"]["spec"]["maxReplicas"] == 4
    assert scalers["sales"]["spec"]["maxReplicas"] == 9
    assert scalers["sales"]["spec"]["minReplicas"] == 3


def test_tables_are_migrated_before_an_upgrade_once_for_each_service() -> None:
    jobs = named(rendered("production"), "Job")
    assert jobs.keys() == {f"{app.name}-migrate" for app in APPS if app.database} | {"realm"}
    image = {
        job["spec"]["template"]["spec"]["containers"][0]["image"]
        for name, job in jobs.items()
        if name != "realm"
    }
    assert image == {"registry.invalid/guanxi/crm@sha256:" + "0123456789abcdef" * 4}
    for name, job in jobs.items():
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        if name != "realm":
            assert "_owner:$(DATABASE_PASSWORD)@" in environment(job)["MIGRATION_DATABASE_URL"]["value"]
            assert "DATABASE_URL" not in environment(job)


def test_with_embedded_servers_no_job_waits_for_a_database_that_comes_after_it() -> None:
    jobs = named(rendered("embedded"), "Job")
    assert all("annotations" not in job["metadata"] for job in jobs.values())
    assert all(name.endswith("-1") for name in jobs)


def test_the_embedded_bus_syncs_every_message_and_lets_an_app_publish_its_own_facts_only() -> None:
    config = named(rendered("embedded"), "ConfigMap")["embedded"]["data"]["nats.conf"]
    assert "sync_interval: always" in config
    users = re.findall(r'user: (\w+), password: \$(\w+), .*?allow: \[\s*"crm\.(\w+)\.v1\.>"', config)
    assert users == [
        (name, f"{name.upper()}_NATS_PASSWORD", name) for name in sorted(app.name for app in APPS)
    ]
    assert not re.search(r"STREAM\.(DELETE|PURGE)|MSG\.DELETE", config)


def test_all_templates_together_are_short() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in Path(CHART / "templates").iterdir())
    assert lines <= 480


@pytest.mark.parametrize(("values", "url"), [("production", "tcp://clamd.security:3310"), ("default", "")])
def test_who_takes_files_in_reaches_the_scanner_and_nobody_else_does(values: str, url: str) -> None:
    manifests = rendered(values)
    assert named(manifests, "ConfigMap")["settings"]["data"].get("CLAMAV_URL", "") == url
    reaching = {
        name
        for name, policy in named(manifests, "NetworkPolicy").items()
        for rule in policy["spec"].get("egress", [])
        if {"port": 3310} in rule["ports"]
    }
    assert reaching == ({"gateway", "workspace"} if url else set())


@pytest.mark.parametrize(("values", "url"), [("production", "https://id-admin.example.internal"), ("embedded", "http://crm-keycloak:8080")])  # fmt: skip
def test_workspace_alone_administers_keycloak(values: str, url: str) -> None:
    for name, deployment in named(rendered(values), "Deployment").items():
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        found = {entry["name"]: entry for entry in container["env"] if entry["name"].startswith("KEYCLOAK_")}
        if name != "workspace":
            assert not found or name == "keycloak"
            continue
        assert found["KEYCLOAK_URL"]["value"] == url
        key = found["KEYCLOAK_ADMIN_SECRET"]["valueFrom"]["secretKeyRef"]["key"]
        assert key == "GUANXI_ADMIN_SECRET"


BACKUP = ("backup.enabled=true", "backup.vault=vault", "backup.keySecret=backup-key")


@pytest.mark.parametrize("values", SETS)
def test_the_agent_of_backups_runs_each_minute_and_reaches_the_gateway_and_the_database_alone(
    values: str,
) -> None:
    assert "CronJob" not in {manifest["kind"] for manifest in rendered(values)}
    manifests = rendered(values, *BACKUP)
    for manifest in manifests:
        if manifest["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    [job] = named(manifests, "CronJob").values()
    assert (job["spec"]["schedule"], job["spec"]["concurrencyPolicy"]) == ("* * * * *", "Forbid")
    pod = pod_of(job)
    assert pod is not None and not list(violations(pod))
    # The same command as on one machine without the launcher, from an image that no app runs.
    [agent] = pod["containers"]
    assert agent["args"] == ["local_platform.agent", "--once"]
    image = {
        c["image"] for d in named(manifests, "Deployment").values() for c in containers_of(pod_of(d) or {})
    }
    assert agent["image"] not in image
    said = environment(job)
    assert said["CRM_URL"]["value"] == "http://crm-gateway:8080"
    assert said["DATABASE_URL"]["value"].startswith("postgresql://postgres:$(DATABASE_PASSWORD)@")
    keys = {e["valueFrom"]["secretKeyRef"]["key"] for e in said.values() if "valueFrom" in e}
    assert keys == {"SECRET_KEY", "BACKUP_API_KEY", "POSTGRES_PASSWORD"}
    mounts = {one["mountPath"]: one for one in agent["volumeMounts"]}
    assert said["BACKUP_STATE"]["value"] + "/backups" in mounts
    assert said["BACKUP_KEY"]["value"].startswith("/etc/backup/") and mounts["/etc/backup"]["readOnly"]
    labels = job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    policy = named(manifests, "NetworkPolicy")["backup"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels and policy["policyTypes"] == ["Egress"]
    assert ("gateway", "backup") in edges(manifests, "Ingress")
    out = {peer for pod, peer in edges(manifests, "Egress") if pod == "backup"}
    assert out == ({"gateway", "postgres"} if values == "embedded" else {"gateway"})
    assert len(policy["egress"]) == 2


def test_backups_want_a_place_and_drills_a_key() -> None:
    values = str(VALUES / "default.yaml")
    arguments = ("template", "crm", str(CHART), "--kube-version", KUBERNETES, "--values", values)
    refused = run(*arguments, "--set", "backup.enabled=true")
    assert refused.returncode != 0 and "backup.vault" in refused.stderr
    [job] = named(rendered("default", *BACKUP[:2]), "CronJob").values()
    assert environment(job)["BACKUP_KEY"]["value"] == ""
