"""Keys become short-lived tokens, cookies become bearer tokens, and neither can be borrowed."""

import asyncio
import json
import secrets
import time
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from crmkit.keys import ApiKey
from gateway.sessions import claims_of
from gateway.testing import BEARER, Echo, Gateway, reason
from joserfc import jwt
from joserfc.jwk import KeySet


def known_key(gateway: Gateway, **changed: Any) -> ApiKey:
    """A key that the configuration knows."""
    key = ApiKey.make("live")
    gateway.config[f"apiKey.{key.id}"] = {
        "hash": key.digest(gateway.settings.secret_key),
        "permissions": ["echo.things.read"],
        "scope": "OWN",
        "account": "accounts/1",
        "partner": "partners/1",
        **changed,
    }
    return key


async def test_a_key_is_exchanged_for_a_token_that_names_it(gateway: Gateway, echo: Echo) -> None:
    key = known_key(gateway)
    response = await gateway.client.get("/v1/things/1", headers={"x-api-key": str(key)})
    assert response.status_code == 200
    scheme, _, token = echo.last.metadata["authorization"].partition(" ")
    jwks = (await gateway.client.get("/session/jwks")).json()
    claims = jwt.decode(token, KeySet.import_key_set(jwks), algorithms=["ES256"]).claims
    assert scheme == "Bearer"
    assert claims.pop("exp") - claims.pop("iat") <= 60
    assert claims == {
        "iss": "guanxi-gateway",
        "sub": f"apiKeys/{key.id}",
        "aud": "crm-api",
        "azp": "guanxi-gateway",
        "typ": "Bearer",
        "permissions": ["echo.things.read"],
        "scope_level": "OWN",
        "account": "accounts/1",
        "partner": "partners/1",
    }
    assert "d" not in jwks["keys"][0]
    assert str(key) not in json.dumps(echo.last.metadata, default=str)


async def test_a_key_comes_in_either_header(gateway: Gateway, echo: Echo) -> None:
    key = known_key(gateway)
    for headers in ({"authorization": f"ApiKey {key}"}, {"X-API-Key": str(key)}):
        assert (await gateway.client.get("/v1/things/1", headers=headers)).status_code == 200


@pytest.mark.capability("a.security")
@pytest.mark.parametrize(
    ("changed", "status", "why"),
    [
        ({"hash": "0" * 64}, 401, "KEY_UNKNOWN"),
        ({"disabled": True}, 401, "KEY_REVOKED"),
        ({"expires": "2020-01-01T00:00:00+00:00"}, 401, "KEY_EXPIRED"),
        ({"cidrs": ["10.0.0.0/8"]}, 403, "IP_NOT_ALLOWED"),
        ({"cidrs": ["203.0.113.0/24"], "expires": "2999-01-01T00:00:00Z"}, 200, ""),
    ],
)
async def test_a_key_works_only_as_long_and_where_it_may(
    gateway: Gateway, echo: Echo, changed: dict[str, Any], status: int, why: str
) -> None:
    key = known_key(gateway, **changed)
    response = await gateway.client.get("/v1/things/1", headers={"x-api-key": str(key)})
    assert response.status_code == status
    assert not why or (reason(response) == why and echo.calls == [])


async def test_a_revoked_key_stops_at_once(gateway: Gateway) -> None:
    key = known_key(gateway)
    assert (await gateway.client.get("/v1/things/1", headers={"x-api-key": str(key)})).status_code == 200
    gateway.config[f"apiKey.{key.id}"]["disabled"] = True
    assert (await gateway.client.get("/v1/things/1", headers={"x-api-key": str(key)})).status_code == 401


async def test_a_key_that_is_none_is_refused(gateway: Gateway) -> None:
    key = str(known_key(gateway))
    flipped = key[:-1] + ("0" if key[-1] != "0" else "1")
    for text in ("", "crm_live_x", flipped, str(ApiKey.make("live")), key.upper(), f"{key}x", "ключ"):
        response = await gateway.client.get("/v1/things/1", headers={"x-api-key": text.encode()})
        assert response.status_code == 401, text
    query = await gateway.client.get(f"/v1/things/1?x-api-key={key}")
    assert query.status_code == 401
    basic = await gateway.client.get("/v1/things/1", headers={"authorization": "Basic YTpi"})
    assert basic.status_code == 401


async def test_a_key_has_its_own_rate(gateway: Gateway) -> None:
    key = known_key(gateway, rate=2)
    headers = {"x-api-key": str(key)}
    statuses = [(await gateway.client.get("/v1/things/1", headers=headers)).status_code for _ in range(6)]
    assert statuses[:4] == [200] * 4 and 429 in statuses
    assert (await gateway.client.get("/v1/things/1", headers=BEARER)).status_code == 200


def token(**claims: Any) -> str:
    """A token as unreadable to us as a real one: only its claims matter here."""
    payload = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.signature"


async def signed_in(gateway: Gateway, lifetime: float = 300, sid: str = "s1") -> dict[str, Any]:
    """Goes through the whole dance; the cookies are in the client afterwards."""
    begun = await gateway.client.get("/session/sign-in?return_to=/customers")
    assert begun.status_code == 303
    query = {key: value[0] for key, value in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    assert query["code_challenge_method"] == "S256" and query["response_type"] == "code"
    assert query["redirect_uri"] == "http://crm.test/session/callback"
    identity = {"iss": "http://issuer.test", "aud": "guanxi-web", "nonce": query["nonce"]}
    access = {"employee": "employees/1", "roles": ["sales"], "name": "王芳", "locale": "zh-CN"}

    def answer(form: dict[str, str]) -> httpx.Response:
        number = len(gateway.issuer.tokens)
        tokens = {
            "access_token": token(**access, number=number),
            "refresh_token": f"refresh-{number}",
            "id_token": token(**identity, sid=sid),
            "expires_in": lifetime,
        }
        return httpx.Response(200, json=tokens)

    gateway.issuer.token_answer = answer
    back = await gateway.client.get(f"/session/callback?code=c0de&state={query['state']}")
    assert (back.status_code, back.headers["location"]) == (303, "/customers")
    opened = gateway.witness.waiting[-1]
    assert (opened.message.DESCRIPTOR.name, opened.actor) == ("SignedIn", "employees/1")
    assert gateway.issuer.tokens[-1]["code"] == "c0de"
    for cookie in back.headers.get_list("set-cookie"):
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    return (await gateway.client.get("/session")).json()


async def test_nobody_is_signed_in_at_first(gateway: Gateway) -> None:
    assert (await gateway.client.get("/session")).json() == {"signedIn": False}


async def test_signing_in_gives_a_session_without_a_token_in_the_browser(
    gateway: Gateway, echo: Echo
) -> None:
    gateway.config["role.sales"] = {"permissions": [], "scope": "OWN", "label": {"zh": "销售", "en": "Sales"}}
    gateway.config["role.chief"] = {
        "permissions": ["*"],
        "scope": "ALL",
        "label": {"zh": "总监", "en": "Chief"},
    }
    session = await signed_in(gateway)
    assert session.pop("csrf") and session.pop("session").startswith("sessions/")
    assert session == {
        "signedIn": True,
        "employee": "employees/1",
        "account": "",
        "contact": "",
        "displayName": "王芳",
        "roles": ["sales"],
        # Those of colleagues, too, whether or not one may read roles.
        "roleNames": {"chief": {"zh": "总监", "en": "Chief"}, "sales": {"zh": "销售", "en": "Sales"}},
        "permissions": [],
        "scope": "OWN",
        "locale": "zh-CN",
    }
    assert (await gateway.client.get("/v1/things/1")).status_code == 200
    assert claims_of(echo.last.metadata["authorization"])["employee"] == "employees/1"
    assert all("e30." not in cookie.value for cookie in gateway.client.cookies.jar if cookie.value)


async def test_who_is_signed_in_and_signs_in_again_gives_a_second_factor(gateway: Gateway) -> None:
    async def asked() -> dict[str, list[str]]:
        answer = await gateway.client.get("/session/sign-in")
        return parse_qs(urlsplit(answer.headers["location"]).query)

    first = await asked()
    assert "acr_values" not in first and "prompt" not in first
    await signed_in(gateway)
    again = await asked()
    assert (again["acr_values"], again["prompt"]) == (["2"], ["login"])


async def test_a_call_that_changes_something_needs_the_sessions_token(gateway: Gateway, echo: Echo) -> None:
    csrf = (await signed_in(gateway))["csrf"]
    win = "/v1/things/1:win"
    for headers in (
        {},
        {"x-csrf": "guess"},
        {"x-csrf": csrf, "origin": "http://evil.test"},
        {"x-csrf": csrf, "sec-fetch-site": "cross-site"},
    ):
        refused = await gateway.client.post(win, headers=headers)
        assert (refused.status_code, reason(refused)) == (403, "CSRF_FAILED")
    assert echo.calls == []
    headers = {"x-csrf": csrf, "origin": "http://crm.test", "sec-fetch-site": "same-origin"}
    assert (await gateway.client.post(win, headers=headers)).status_code == 200
    # Who brings a token of its own needs none: no browser sends that by itself.
    assert (await gateway.client.post(win, headers=BEARER)).status_code == 200


async def test_a_session_is_renewed_once_for_calls_that_come_together(gateway: Gateway, echo: Echo) -> None:
    await signed_in(gateway, lifetime=1)
    before = len(gateway.issuer.tokens)
    cookie = f"crm_session={gateway.client.cookies['crm_session']}"
    gateway.client.cookies.clear()
    gets = (gateway.client.get("/v1/things/1", headers={"cookie": cookie}) for _ in range(5))
    answers = await asyncio.gather(*gets)
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len(gateway.issuer.tokens) == before + 1
    assert gateway.issuer.tokens[-1]["refresh_token"] == f"refresh-{before}"
    assert all(answer.headers.get_list("set-cookie") for answer in answers)


async def test_a_session_that_cannot_be_renewed_is_over(gateway: Gateway) -> None:
    await signed_in(gateway, lifetime=1)
    gateway.issuer.token_answer = lambda _: httpx.Response(400, json={"error": "invalid_grant"})
    over = await gateway.client.get("/v1/things/1")
    assert (over.status_code, reason(over)) == (401, "SESSION_EXPIRED")
    assert (await gateway.client.get("/session")).json() == {"signedIn": False}


async def test_a_session_that_others_have_ended_is_not_renewed(gateway: Gateway) -> None:
    await signed_in(gateway, lifetime=1)
    key, before = "employee.1", len(gateway.issuer.tokens)
    gateway.config[key] = {"signedOut": time.time() - 3600}
    assert (await gateway.client.get("/v1/things/1")).status_code == 200
    gateway.config[key] = {"signedOut": time.time() + 1}
    over = await gateway.client.get("/v1/things/1")
    assert (over.status_code, reason(over)) == (401, "SESSION_EXPIRED")
    assert (await gateway.client.get("/session")).json() == {"signedIn": False}
    assert len(gateway.issuer.tokens) == before + 1


async def test_a_session_that_is_told_to_be_over_is_refused_with_the_reason_and_the_browser_emptied(
    gateway: Gateway,
) -> None:
    frozen = {"disabled": True, "frozen": True}
    for number, (key, entry, why, wiped) in enumerate(
        [
            ("session", {"reason": "LIMIT"}, "SESSION_LIMIT", False),
            ("session", {"reason": "ENDED_BY_HAND"}, "SESSION_ENDED", True),
            ("session", {"reason": "DEVICE_REVOKED"}, "DEVICE_REVOKED", True),
            ("session", {"reason": "SIGNED_OUT"}, "SESSION_EXPIRED", False),
            ("employee.1", frozen, "EMPLOYEE_FROZEN", True),
            ("employee.1", {"disabled": True}, "SESSION_ENDED", True),
        ]
    ):
        name = (await signed_in(gateway, sid=f"over{number}"))["session"]
        assert (await gateway.client.get("/v1/things/1")).status_code == 200
        key = name.replace("sessions/", "session.") if key == "session" else key
        gateway.config[key] = entry
        over = await gateway.client.get("/v1/things/1")
        assert (over.status_code, reason(over)) == (401, why)
        assert over.headers.get("clear-site-data") == ('"cache", "storage"' if wiped else None)
        # The browser has forgotten it, but not which browser it is.
        assert "crm_session" not in gateway.client.cookies and gateway.client.cookies["crm_device"]
        gateway.config.pop(key)


@pytest.mark.capability("a.account")
async def test_a_key_of_somebody_frozen_says_so_at_once_and_of_somebody_gone_that_it_has_ended(
    gateway: Gateway,
) -> None:
    key = known_key(gateway, owner="employees/9")
    headers = {"x-api-key": str(key)}
    assert (await gateway.client.get("/v1/things/1", headers=headers)).status_code == 200
    # The person's entry is there before the key's own.
    gateway.config["employee.9"] = {"disabled": True, "frozen": True}
    frozen = await gateway.client.get("/v1/things/1", headers=headers)
    assert (frozen.status_code, reason(frozen)) == (401, "EMPLOYEE_FROZEN")
    gateway.config["employee.9"] = {"disabled": True}
    gateway.config[f"apiKey.{key.id}"]["disabled"] = True
    gone = await gateway.client.get("/v1/things/1", headers=headers)
    assert (gone.status_code, reason(gone)) == (401, "KEY_REVOKED")


@pytest.mark.capability("a.account")
async def test_an_app_with_a_token_has_a_session_that_is_listed_limited_and_ended(gateway: Gateway) -> None:
    def told() -> list[Any]:
        facts = [one.message for one in gateway.witness.waiting]
        return [one for fact in facts if fact.DESCRIPTOR.name == "SessionsSeen" for one in fact.sessions]

    def app(sid: str, **claims: Any) -> dict[str, str]:
        given = token(
            iss="http://issuer.test", sid=sid, employee="employees/1", azp="app", auth_time=1000, **claims
        )
        return {
            "authorization": f"Bearer {given}",
            "user-agent": "Guanxi/1 (iPhone)",
            "x-device": f"phone-{sid}",
        }

    # At once where it is new, then each minute; another token of the session is the same session.
    for headers in (app("a"), app("a", iat=5), app("a")):
        assert (await gateway.client.get("/v1/things/1", headers=headers)).status_code == 200
    (first,) = told()
    assert (first.provider_id, first.person, first.device) == ("a", "employees/1", "Guanxi/1 (iPhone)")
    assert first.begin_time.seconds == 1000 and len(first.device_key) == 32
    gateway.witness.settle()
    assert [one.id for one in told()] == [first.id, first.id]
    # What the browser has of that session of the provider is the same one.
    assert (await signed_in(gateway, sid="a"))["session"] == f"sessions/{first.id}"
    gateway.client.cookies.clear()
    assert (await gateway.client.get("/v1/things/1", headers=app("b"))).status_code == 200
    second = told()[-1]
    assert second.id != first.id and second.device_key != first.device_key

    for key, entry, why in (
        (f"session.{first.id}", {"reason": "LIMIT"}, "SESSION_LIMIT"),
        (f"session.{first.id}", {"reason": "ENDED_BY_HAND"}, "SESSION_ENDED"),
        ("employee.1", {"disabled": True, "frozen": True}, "EMPLOYEE_FROZEN"),
    ):
        gateway.config[key] = entry
        over = await gateway.client.get("/v1/things/1", headers=app("a"))
        assert (over.status_code, reason(over)) == (401, why)
        gateway.config.pop(key)

    # Nobody can tell of a session by a token that does not count, and machines have none.
    gateway.witness.settle()
    count = len(told())
    forged = token(iss="http://issuer.test", sid="c", contact="contacts/1")
    refused = await gateway.client.get("/v1/things/1", headers={"authorization": f"Bearer {forged}"})
    assert (refused.status_code, reason(refused)) == (401, "UNAUTHENTICATED")
    machine = token(iss="http://issuer.test", employee="employees/1")
    await gateway.client.get("/v1/things/1", headers={"authorization": f"Bearer {machine}"})
    gateway.witness.settle()
    assert len(told()) == count


async def test_who_comes_back_with_the_providers_old_session_signs_in_anew(gateway: Gateway) -> None:
    key = (await signed_in(gateway, sid="old"))["session"].replace("sessions/", "session.")
    gateway.config[key] = {"reason": "ENDED_BY_HAND"}
    assert (await gateway.client.get("/v1/things/1")).status_code == 401
    begun = await gateway.client.get("/session/sign-in?return_to=/customers")
    query = parse_qs(urlsplit(begun.headers["location"]).query)
    identity = {"iss": "http://issuer.test", "aud": "guanxi-web", "nonce": query["nonce"][0], "sid": "old"}
    tokens = {
        "access_token": token(employee="employees/1"),
        "refresh_token": "r",
        "id_token": token(**identity),
    }
    gateway.issuer.token_answer = lambda _: httpx.Response(200, json={**tokens, "expires_in": 60})
    back = await gateway.client.get(f"/session/callback?code=x&state={query['state'][0]}")
    again = urlsplit(back.headers["location"])
    assert (again.hostname, parse_qs(again.query)["prompt"]) == ("issuer.test", ["login"])
    assert gateway.issuer.ended[-1]["id_token_hint"] == tokens["id_token"]
    assert "crm_session" not in gateway.client.cookies


async def test_sessions_are_told_when_they_begin_and_each_minute_while_they_go_on(gateway: Gateway) -> None:
    session = await signed_in(gateway)
    opened = gateway.witness.waiting[-1].message
    told = opened.session
    assert (f"sessions/{told.id}", told.provider_id, told.person) == (session["session"], "s1", "employees/1")
    assert told.address == "203.0.113.7" and told.device.startswith("python-httpx")
    cookie = gateway.client.cookies["crm_device"]
    assert len(told.device_key) == 32 and cookie not in str(opened)
    for _ in range(3):
        await gateway.client.get("/v1/things/1")
    gateway.witness.settle()
    (again,) = gateway.witness.waiting[-1].message.sessions
    assert (again.id, again.device_key) == (told.id, told.device_key)
    assert again.begin_time == told.begin_time and again.seen_time.ToDatetime() >= told.seen_time.ToDatetime()
    gateway.witness.settle()
    assert gateway.witness.waiting[-1].message.DESCRIPTOR.name == "SessionsSeen"
    assert len([one for one in gateway.witness.waiting if one.message.DESCRIPTOR.name == "SessionsSeen"]) == 1
    # A second session in the same browser takes the place of the first.
    await signed_in(gateway, sid="s2")
    replaced = gateway.witness.waiting[-1].message
    assert replaced.replaces == told.id and replaced.session.device_key == told.device_key


async def test_a_provider_that_is_away_does_not_end_a_session_that_still_lives(gateway: Gateway) -> None:
    await signed_in(gateway, lifetime=20)
    gateway.issuer.token_answer = lambda _: httpx.Response(503)
    assert (await gateway.client.get("/v1/things/1")).status_code == 200


async def test_signing_out_ends_it_here_and_at_the_provider(gateway: Gateway) -> None:
    csrf = (await signed_in(gateway))["csrf"]
    assert (await gateway.client.post("/session/sign-out")).status_code == 403
    assert (await gateway.client.post("/session/sign-out", headers={"x-csrf": csrf})).status_code == 200
    assert gateway.issuer.ended and (await gateway.client.get("/session")).json() == {"signedIn": False}


async def test_a_callback_that_nobody_began_is_refused(gateway: Gateway) -> None:
    for query in ("", "?code=x&state=y"):
        refused = await gateway.client.get(f"/session/callback{query}")
        assert (refused.status_code, reason(refused)) == (401, "SIGN_IN_FAILED")
    await gateway.client.get("/session/sign-in")
    assert (await gateway.client.get("/session/callback?code=x&state=other")).status_code == 401
    assert gateway.issuer.tokens == []


async def test_a_token_for_another_client_or_sign_in_is_refused(gateway: Gateway) -> None:
    begun = await gateway.client.get("/session/sign-in")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    for identity in (
        {"iss": "http://issuer.test", "aud": "guanxi-web", "nonce": "other"},
        {"iss": "http://issuer.test.evil", "aud": "guanxi-web"},
    ):
        answer = {
            "access_token": token(),
            "refresh_token": "r",
            "id_token": token(**identity),
            "expires_in": 60,
        }
        gateway.issuer.token_answer = lambda _, answer=answer: httpx.Response(200, json=answer)
        assert (await gateway.client.get(f"/session/callback?code=x&state={state}")).status_code == 401


async def test_nobody_is_sent_to_another_site_after_signing_in(gateway: Gateway) -> None:
    for target in ("//evil.test", "https://evil.test", "/\\evil.test", "javascript:alert(1)"):
        await gateway.client.get("/session/sign-in", params={"return_to": target})
        begun = await gateway.client.get("/session/sign-in", params={"return_to": target})
        query = parse_qs(urlsplit(begun.headers["location"]).query)
        identity = {"iss": "http://issuer.test", "aud": "guanxi-web", "nonce": query["nonce"][0]}
        answer = {
            "access_token": token(),
            "refresh_token": "r",
            "id_token": token(**identity),
            "expires_in": 60,
        }
        gateway.issuer.token_answer = lambda _, answer=answer: httpx.Response(200, json=answer)
        back = await gateway.client.get(f"/session/callback?code=x&state={query['state'][0]}")
        assert back.headers["location"] == "/"


async def test_a_forged_or_altered_cookie_is_no_session(gateway: Gateway) -> None:
    await signed_in(gateway)
    value = gateway.client.cookies["crm_session"]
    gateway.client.cookies.clear()
    for forged in (value[:-4] + "AAAA", "x", "", value[10:], "!!!"):
        response = await gateway.client.get("/session", headers={"cookie": f"crm_session={forged}"})
        assert response.json() == {"signedIn": False}


async def test_a_session_too_long_for_one_cookie_takes_several(gateway: Gateway) -> None:
    begun = await gateway.client.get("/session/sign-in")
    query = parse_qs(urlsplit(begun.headers["location"]).query)
    identity = {"iss": "http://issuer.test", "aud": "guanxi-web", "nonce": query["nonce"][0]}
    answer = {
        "access_token": token(employee="employees/9", noise=secrets.token_hex(4000)),
        "refresh_token": "r",
        "id_token": token(**identity),
        "expires_in": 60,
    }
    gateway.issuer.token_answer = lambda _: httpx.Response(200, json=answer)
    await gateway.client.get(f"/session/callback?code=x&state={query['state'][0]}")
    assert (await gateway.client.get("/session")).json()["employee"] == "employees/9"
    assert "crm_session1" in gateway.client.cookies
