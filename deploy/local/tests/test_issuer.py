import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from local_platform import people
from local_platform.issuer import NotLoopback, issuer
from local_platform.signin import discover, refresh, sign_in

BACK = "http://127.0.0.1:8080/session/callback"
VERIFIER = secrets.token_urlsafe(48)
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
QUERY = {
    "response_type": "code",
    "client_id": "guanxi-web",
    "redirect_uri": BACK,
    "scope": "openid profile",
    "state": "s1",
    "nonce": "n1",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


async def test_a_sign_in_gives_exactly_the_claims_of_the_contract(issuer_url: str) -> None:
    tokens = await sign_in(issuer_url, "sales1", BACK)
    claims = await verified(issuer_url, tokens.access_token)
    person = people.load().people["sales1"]
    assert claims.pop("exp") - claims["iat"] == 300
    assert abs(claims.pop("iat") - time.time()) < 5
    assert abs(claims.pop("auth_time") - time.time()) < 30
    assert claims == {
        "acr": "2",
        "iss": issuer_url,
        "sub": person.subject,
        "aud": "crm-api",
        "azp": "guanxi-web",
        "typ": "Bearer",
        "preferred_username": "sales1",
        "name": "肖一凡",
        "locale": "zh-CN",
        "roles": ["sales_representative"],
        "employee": person.employee,
        "kind": "staff",
        "groups": ["/关系科技/华东分公司/销售一部"],
    }


async def test_partners_and_customers_carry_their_account(issuer_url: str) -> None:
    partner = await verified(issuer_url, (await sign_in(issuer_url, "partner", BACK)).access_token)
    customer = await verified(issuer_url, (await sign_in(issuer_url, "customer", BACK)).access_token)
    assert partner["account"].startswith("accounts/") and partner["employee"].startswith("employees/")
    assert customer["account"].startswith("accounts/") and customer["contact"].startswith("contacts/")
    assert "employee" not in customer


async def test_the_id_token_is_for_the_client_and_repeats_the_nonce(issuer_url: str) -> None:
    async with httpx.AsyncClient() as browser:
        answer = await redeem(browser, issuer_url, await code(browser, issuer_url))
        claims = await verified(issuer_url, answer.json()["id_token"])
    assert (claims["aud"], claims["nonce"], claims["typ"]) == ("guanxi-web", "n1", "ID")


@pytest.mark.parametrize(
    ("language", "expected"),
    [("zh-CN,zh", "点选一位同事"), ("en-GB,en", "choose a person"), ("", "点选一位同事")],
)
async def test_the_sign_in_page_speaks_the_browsers_language_and_lists_everybody(
    issuer_url: str, language: str, expected: str
) -> None:
    async with httpx.AsyncClient(headers={"Accept-Language": language}) as browser:
        page = await browser.get(f"{issuer_url}/authorize", params=QUERY)
    assert expected in page.text
    assert all(f'value="{username}"' in page.text for username in people.load().people)
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("verifier", ["", "another-verifier-of-the-right-length-0123456789"])
async def test_a_wrong_verifier_is_refused_and_uses_the_code_up(issuer_url: str, verifier: str) -> None:
    async with httpx.AsyncClient() as browser:
        got = await code(browser, issuer_url)
        wrong = await redeem(browser, issuer_url, got, code_verifier=verifier)
        right = await redeem(browser, issuer_url, got)
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_grant")
    assert (right.status_code, right.json()["error"]) == (400, "invalid_grant")


async def test_a_code_works_once_for_its_own_redirect_address_and_a_second_use_ends_what_it_gave(
    issuer_url: str,
) -> None:
    async with httpx.AsyncClient() as browser:
        elsewhere = await redeem(
            browser, issuer_url, await code(browser, issuer_url), redirect_uri="http://127.0.0.1:1/"
        )
        assert elsewhere.json()["error"] == "invalid_grant"
        got = await code(browser, issuer_url)
        first = await redeem(browser, issuer_url, got)
        second = await redeem(browser, issuer_url, got)
        assert (first.status_code, second.status_code) == (200, 400)
        form = {"client_id": "guanxi-web", "grant_type": "refresh_token"}
        form["refresh_token"] = first.json()["refresh_token"]
        assert (await browser.post(f"{issuer_url}/token", data=form)).json()["error"] == "invalid_grant"


async def test_a_refresh_token_works_once_and_its_reuse_ends_the_session(issuer_url: str) -> None:
    first = await sign_in(issuer_url, "manager", BACK)
    second = await refresh(issuer_url, first)
    assert second.refresh_token != first.refresh_token
    for used_or_ended in (first, second):
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            await refresh(issuer_url, used_or_ended)


async def test_a_revoked_session_gives_no_more_tokens(issuer_url: str) -> None:
    tokens = await sign_in(issuer_url, "manager", BACK)
    async with httpx.AsyncClient() as browser:
        form = {"client_id": "guanxi-web", "token": tokens.refresh_token}
        assert (await browser.post(f"{issuer_url}/revoke", data=form)).status_code == 200
    with pytest.raises(httpx.HTTPStatusError):
        await refresh(issuer_url, tokens)


async def test_signing_out_ends_the_session_and_goes_back_to_the_client(issuer_url: str) -> None:
    tokens = await sign_in(issuer_url, "manager", BACK)
    async with httpx.AsyncClient() as browser:
        query = {"id_token_hint": tokens.id_token, "post_logout_redirect_uri": "http://127.0.0.1:8080/"}
        answer = await browser.get(f"{issuer_url}/end_session", params=query)
        assert answer.headers["location"] == "http://127.0.0.1:8080/"
        evil = {"post_logout_redirect_uri": "https://evil.example/"}
        assert (await browser.get(f"{issuer_url}/end_session", params=evil)).status_code == 200
    with pytest.raises(httpx.HTTPStatusError):
        await refresh(issuer_url, tokens)


async def test_sessions_and_the_key_outlive_a_restart(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    async with issuer(tmp_path, port) as url:
        tokens = await sign_in(url, "finance", BACK)
    async with issuer(tmp_path, port) as url:
        await verified(url, tokens.access_token)
        assert (await refresh(url, tokens)).access_token


@pytest.mark.parametrize("grant", ["password", "client_credentials", "implicit", ""])
async def test_no_other_grant_is_given(issuer_url: str, grant: str) -> None:
    form = {"client_id": "guanxi-web", "grant_type": grant, "username": "admin", "password": "x"}
    async with httpx.AsyncClient() as browser:
        answer = await browser.post(f"{issuer_url}/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"prompt": "none"}, "login_required"),
    ],
)
async def test_a_bad_request_goes_back_to_the_client_with_its_error(
    issuer_url: str, change: dict[str, str], error: str
) -> None:
    async with httpx.AsyncClient() as browser:
        answer = await browser.get(f"{issuer_url}/authorize", params=QUERY | change)
    assert parse_qs(urlsplit(answer.headers["location"]).query) == {"error": [error], "state": ["s1"]}


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "other"},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": "http://127.0.0.1.evil.example/"},
        {"redirect_uri": "http://127.0.0.1@evil.example/"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": ""},
    ],
)
async def test_nothing_is_sent_to_a_client_or_address_that_is_not_known(
    issuer_url: str, change: dict[str, str]
) -> None:
    async with httpx.AsyncClient() as browser:
        answer = await browser.get(f"{issuer_url}/authorize", params=QUERY | change)
    assert answer.status_code in (400, 401)
    assert "location" not in answer.headers


async def test_the_shortcut_gives_a_token_to_scripts_but_not_to_web_pages(issuer_url: str) -> None:
    async with httpx.AsyncClient() as client:
        url = f"{issuer_url}/dev/token"
        claims = await verified(
            issuer_url, (await client.post(url, json={"username": "admin"})).json()["access_token"]
        )
        assert claims["roles"] == ["administrator"]
        assert (await client.post(url, json={"username": "nobody"})).status_code == 400
        assert (await client.post(url, json=["admin"])).status_code == 400
        # What a page can send without asking first, and what a rebound name would bring.
        assert (await client.post(url, content='{"username": "admin"}')).status_code == 400
        rebound = await client.post(url, json={"username": "admin"}, headers={"Host": "evil.example"})
        assert rebound.status_code == 400
        foreign = await client.post(
            url, json={"username": "admin"}, headers={"Origin": "https://evil.example"}
        )
        assert "access-control-allow-origin" not in foreign.headers


async def test_userinfo_takes_access_tokens_only(issuer_url: str) -> None:
    tokens = await sign_in(issuer_url, "agent", BACK)
    async with httpx.AsyncClient() as client:

        async def ask(token: str) -> httpx.Response:
            return await client.get(f"{issuer_url}/userinfo", headers={"Authorization": f"Bearer {token}"})

        assert (await ask(tokens.access_token)).json()["preferred_username"] == "agent"
        for wrong in (tokens.id_token, tokens.refresh_token, "x", tokens.access_token[:-8] + "AAAAAAAA"):
            assert (await ask(wrong)).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "10.0.0.5"])
async def test_it_refuses_to_listen_on_anything_but_loopback(
    tmp_path: Path, host: str, free_port: Callable[[], int]
) -> None:
    with pytest.raises(NotLoopback):
        async with issuer(tmp_path, free_port(), host):
            pass


async def code(browser: httpx.AsyncClient, issuer_url: str) -> str:
    answer = await browser.post(f"{issuer_url}/authorize", params=QUERY, data={"username": "sales2"})
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert query["state"] == ["s1"]
    return query["code"][0]


async def redeem(browser: httpx.AsyncClient, issuer_url: str, code: str, **change: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "client_id": "guanxi-web", "redirect_uri": BACK}
    form |= {"code_verifier": VERIFIER, "code": code}
    return await browser.post(f"{issuer_url}/token", data=form | change)


async def verified(issuer_url: str, token: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        endpoints = await discover(client, issuer_url)
        keys = KeySet.import_key_set((await client.get(endpoints["jwks_uri"])).json())
    return jwt.decode(token, keys, algorithms=["RS256"]).claims
