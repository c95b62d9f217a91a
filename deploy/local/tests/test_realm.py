import json
import os
import subprocess
import sys
from typing import Any

import crmprotos
import pytest
import yaml
from crm.options.v1 import options_pb2
from crmkit.access import Scope
from local_platform.layout import ROLES, ROOT

# The generated stubs know extensions under another type.
PERMISSION: Any = options_pb2.permission


@pytest.fixture(scope="module")
def realm() -> dict[str, Any]:
    command = [sys.executable, ROOT / "deploy/keycloak/realm.py", "--web-origin", "https://crm.example.com"]
    environment = {**os.environ, "GUANXI_ADMIN_SECRET": "of the test"}
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)


def test_every_permission_of_the_protos_is_a_client_role(realm: dict[str, Any]) -> None:
    declared = {
        method.options.Extensions[PERMISSION]
        for file in crmprotos.load().file
        for service in file.service
        for method in service.method
    }
    known = {role["name"] for role in realm["roles"]["client"]["crm-api"]}
    assert "customer.accounts.read" in known
    assert declared - {"*", "public", ""} <= known


def test_a_business_role_is_composed_of_what_its_patterns_match(realm: dict[str, Any]) -> None:
    every = {role["name"] for role in realm["roles"]["client"]["crm-api"]}
    composites = {
        role["name"]: set(role["composites"]["client"]["crm-api"]) for role in realm["roles"]["realm"]
    }
    assert composites.keys() == yaml.safe_load(ROLES.read_text()).keys()
    assert composites["administrator"] == every
    assert {name for name in every if name.startswith("customer.")} <= composites["sales_manager"]
    assert "customer.accounts.read" in composites["sales_representative"]
    assert "customer.accounts.delete" not in composites["sales_representative"]


def test_roles_have_both_labels_and_a_scope() -> None:
    for role in yaml.safe_load(ROLES.read_text()).values():
        assert role["label"].keys() == {"zh", "en"}
        assert role["scope"] in set(Scope)
        assert role["permissions"]


def test_the_realm_is_closed_where_the_rules_want_it(realm: dict[str, Any]) -> None:
    assert realm["accessTokenLifespan"] <= 300
    assert realm["ssoSessionIdleTimeout"] <= 1800 and realm["ssoSessionMaxLifespan"] <= 10 * 3600
    assert realm["revokeRefreshToken"] and realm["refreshTokenMaxReuse"] == 0
    assert realm["bruteForceProtected"] and "length(12)" in realm["passwordPolicy"]
    assert not realm["registrationAllowed"]
    for client in realm["clients"]:
        assert not client["directAccessGrantsEnabled"] and not client["implicitFlowEnabled"]
    web = next(client for client in realm["clients"] if client["clientId"] == "guanxi-web")
    assert web["publicClient"] and web["attributes"]["pkce.code.challenge.method"] == "S256"
    assert web["redirectUris"] == ["https://crm.example.com/*"]
    profile = json.loads(
        realm["components"]["org.keycloak.userprofile.UserProfileProvider"][0]["config"][
            "kc.user.profile.config"
        ][0]
    )
    editable = {entry["name"] for entry in profile["attributes"] if "user" in entry["permissions"]["edit"]}
    assert editable == {"locale"}
