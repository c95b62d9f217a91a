"""The real Keycloak gives the same tokens as the dev issuer. Slow: it is fetched and built the first time."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from local_platform import people
from local_platform.child import StartFailed
from local_platform.keycloak import find_java, keycloak
from local_platform.layout import STATE
from local_platform.secret import Secrets
from local_platform.servers import postgres
from local_platform.signin import discover, refresh, sign_in

ORIGIN = "http://127.0.0.1:8080"
BACK = f"{ORIGIN}/session/callback"
# What Keycloak adds of its own to every access token.
PROTOCOL = {"jti", "sid", "scope"}


def missing() -> str:
    try:
        find_java()
    except StartFailed as failure:
        return str(failure)
    return "" if shutil.which("mvn") else "mvn is missing"


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


async def test_a_real_keycloak_gives_the_tokens_of_the_dev_issuer_and_refuses_what_it_refuses(
    issuer_url: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    # One test, because it is one server: two workers must not run it in the same directory.
    place = STATE / "keycloak-of-tests"
    async with (
        postgres(tmp_path / "postgres", free_port()) as server,
        keycloak(place, free_port(), [ORIGIN], server, Secrets()) as url,
    ):
        for username in ("admin", "sales2", "partner", "customer"):
            await says_the_same_of(username, url, issuer_url)
        await gives_the_second_level_for_a_one_time_password(url)
        await rotates_refresh_tokens(url)
        await grants_nothing_for_a_password_and_nothing_without_a_challenge(url)
        await lets_the_synchronisation_read_people_and_departments(url)


async def says_the_same_of(username: str, keycloak_url: str, issuer_url: str) -> None:
    real = await claims(keycloak_url, username)
    local = await claims(issuer_url, username)
    assert real.keys() - PROTOCOL == local.keys()
    assert (real["acr"], local["acr"]) == ("1", "2") and real["auth_time"] <= real["iat"]
    assert real["exp"] - real["iat"] == local["exp"] - local["iat"] == 300
    same = local.keys() - {"iss", "exp", "iat", "acr", "auth_time"}
    assert {claim: real[claim] for claim in same} == {claim: local[claim] for claim in same}


async def gives_the_second_level_for_a_one_time_password(keycloak_url: str) -> None:
    # The first time it is set up, from then on it is asked for.
    for _ in range(2):
        strong = await claims(keycloak_url, "finance", second_factor=True)
        assert strong["acr"] == "2" and strong["iat"] - strong["auth_time"] < 60
        assert (await claims(keycloak_url, "finance"))["acr"] == "1"


async def rotates_refresh_tokens(keycloak_url: str) -> None:
    first = await sign_in(keycloak_url, "manager", BACK)
    second = await refresh(keycloak_url, first)
    for used_or_ended in (first, second):
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            await refresh(keycloak_url, used_or_ended)


async def grants_nothing_for_a_password_and_nothing_without_a_challenge(keycloak_url: str) -> None:
    password = people.password(people.load().people["admin"], Secrets())
    async with httpx.AsyncClient() as client:
        endpoints = await discover(client, keycloak_url)
        form = {
            "grant_type": "password",
            "client_id": "guanxi-web",
            "username": "admin",
            "password": password,
        }
        assert (await client.post(endpoints["token_endpoint"], data=form)).json()[
            "error"
        ] == "unauthorized_client"
        query = {"response_type": "code", "client_id": "guanxi-web", "redirect_uri": BACK, "scope": "openid"}
        answer = await client.get(endpoints["authorization_endpoint"], params=query)
        assert "error=invalid_request" in answer.headers["location"]
        elsewhere = query | {"redirect_uri": "https://evil.example/"}
        assert (await client.get(endpoints["authorization_endpoint"], params=elsewhere)).status_code == 400


async def lets_the_synchronisation_read_people_and_departments(keycloak_url: str) -> None:
    admin = keycloak_url.replace("/realms/", "/admin/realms/")
    async with httpx.AsyncClient() as client:
        endpoints = await discover(client, keycloak_url)
        form = {"grant_type": "client_credentials", "client_id": "guanxi-admin"}
        form["client_secret"] = Secrets().get("keycloak.guanxi-admin")
        token = (await client.post(endpoints["token_endpoint"], data=form)).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        groups = (await client.get(f"{admin}/groups", params={"search": "销售一部"})).json()
        users = (await client.get(f"{admin}/users", params={"username": "sales1", "exact": True})).json()
        roles = (await client.get(f"{admin}/roles/sales_manager/composites")).json()
        told = (await client.get(admin)).json()
        clients = {one["clientId"]: one for one in (await client.get(f"{admin}/clients")).json()}
        management = clients["realm-management"]["id"]
        robot = {"username": "service-account-guanxi-admin", "exact": True}
        (account,) = (await client.get(f"{admin}/users", params=robot)).json()
        held = f"{admin}/users/{account['id']}/role-mappings/clients/{management}"
        powers = {role["name"] for role in (await client.get(held)).json()}
    # Nothing of other providers' settings, of keys, or of events but to read them.
    assert powers == {"manage-users", "manage-realm", "manage-clients", "view-events"}
    keeps_what_the_rules_want(told, clients)
    assert groups[0]["name"] == "关系科技"
    assert users[0]["attributes"]["employee"] == [people.load().people["sales1"].employee]
    assert "customer.accounts.read" in {role["name"] for role in roles}


def keeps_what_the_rules_want(told: dict[str, Any], clients: dict[str, Any]) -> None:
    """What the server itself says of the realm, not what was given to it to import."""
    wanted = {
        "accessTokenLifespan": 300,
        "ssoSessionIdleTimeout": 1800,
        "ssoSessionMaxLifespan": 36000,
        "revokeRefreshToken": True,
        "refreshTokenMaxReuse": 0,
        "registrationAllowed": False,
        "loginWithEmailAllowed": False,
        "editUsernameAllowed": False,
        "bruteForceProtected": True,
        "failureFactor": 5,
        "sslRequired": "external",
        "defaultSignatureAlgorithm": "RS256",
        "eventsEnabled": True,
        "adminEventsEnabled": True,
    }
    assert {key: told.get(key) for key in wanted} == wanted
    rules = set(told["passwordPolicy"].split(" and "))
    assert {"length(12)", "passwordHistory(5)"} <= rules
    assert {rule.partition("(")[0] for rule in rules} >= {"notUsername", "notContainsUsername"}
    for name in ("crm-api", "guanxi-web", "guanxi-admin"):
        assert not clients[name]["implicitFlowEnabled"] and not clients[name]["directAccessGrantsEnabled"]
    web = clients["guanxi-web"]
    assert web["attributes"]["pkce.code.challenge.method"] == "S256"
    assert web["redirectUris"] == [f"{ORIGIN}/*"]


async def claims(issuer: str, username: str, *, second_factor: bool = False) -> dict[str, Any]:
    tokens = await sign_in(issuer, username, BACK, second_factor=second_factor)
    async with httpx.AsyncClient() as client:
        endpoints = await discover(client, issuer)
        document = (await client.get(endpoints["jwks_uri"])).json()
    keys = [key for key in document["keys"] if key.get("use") == "sig"]
    token = jwt.decode(tokens.access_token, KeySet.import_key_set({"keys": keys}), algorithms=["RS256"])
    assert token.header["alg"] == "RS256"
    return token.claims
