"""Signing a demo person in from a script: the whole code flow with PKCE, at the dev issuer or at Keycloak."""

import base64
import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from local_platform import people
from local_platform.issuer import CLIENT
from local_platform.secret import Secrets


@dataclass(frozen=True)
class Tokens:
    """What the token endpoint gave."""

    access_token: str
    refresh_token: str
    id_token: str


async def sign_in(
    issuer: str,
    username: str,
    redirect_uri: str,
    keys: Secrets | None = None,
    *,
    second_factor: bool = False,
    password: str = "",
) -> Tokens:
    """Sign in as a browser would and return the tokens. Nothing need listen at `redirect_uri`.

    With a second factor Keycloak asks for a one-time password, which is set up where there is none. Who is not of the
    demo company gives a password.
    """
    keys = keys or Secrets()
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    async with httpx.AsyncClient(timeout=30) as browser:
        endpoints = await discover(browser, issuer)
        page = await browser.get(
            endpoints["authorization_endpoint"],
            params={
                "response_type": "code",
                "client_id": CLIENT,
                "redirect_uri": redirect_uri,
                "scope": "openid",
                "state": secrets.token_urlsafe(8),
                "code_challenge": challenge,
                "code_challenge_method": "S256",
                **({"acr_values": "2", "prompt": "login"} if second_factor else {}),
            },
        )
        page.raise_for_status()
        # Browsers trust loopback and send secure cookies there over plain HTTP; httpx does not.
        for cookie in browser.cookies.jar:
            cookie.secure = False
        answer = await _fill_in(browser, page, username, keys, password)
        while second_factor and not answer.headers.get("location", "").startswith(redirect_uri):
            if answer.is_redirect:
                answer = await browser.get(answer.headers["location"])
            elif 'name="otp"' in answer.text or 'name="totp"' in answer.text:
                answer = await _fill_in(browser, answer, username, keys)
            else:
                break
        found = parse_qs(urlsplit(answer.headers.get("location", "")).query)
        if "code" not in found:
            raise ValueError(f"{username} could not sign in: status {answer.status_code}")
        return await exchange(
            browser,
            endpoints,
            grant_type="authorization_code",
            code=found["code"][0],
            redirect_uri=redirect_uri,
            code_verifier=verifier,
        )


async def open_session(gateway: str, username: str, keys: Secrets | None = None) -> dict[str, str]:
    """Sign in at the gateway as a browser does, by its redirects; the cookies of the session."""
    async with httpx.AsyncClient(timeout=30) as browser:
        begun = await browser.get(f"{gateway}/session/sign-in")
        kept = {cookie.name: cookie.value or "" for cookie in browser.cookies.jar}
        page = await browser.get(begun.headers["location"])
        page.raise_for_status()
        for cookie in browser.cookies.jar:
            cookie.secure = False
        answer = await _fill_in(browser, page, username, keys or Secrets())
        back = answer.headers.get("location", "")
        if not back.startswith(gateway):
            raise ValueError(f"{username} could not sign in: status {answer.status_code}")
    async with httpx.AsyncClient(timeout=30, cookies=kept) as browser:
        await browser.get(back)
        return {cookie.name: cookie.value or "" for cookie in browser.cookies.jar}


async def _fill_in(
    browser: httpx.AsyncClient, page: httpx.Response, username: str, keys: Secrets, password: str = ""
) -> httpx.Response:
    """Send the form of a page: name, password or one-time password."""
    # Keycloak's form names its address; that of the dev issuer goes back to its own.
    action = re.search(r'<form[^>]*\baction="([^"]+)"', page.text)
    shared = keys.get(f"otp.{username}")
    if 'name="otp"' in page.text:
        form = {"otp": one_time_password(shared)}
    elif 'name="totp"' in page.text:
        # Whoever sets it up says what is shared from then on.
        form = {"totp": one_time_password(shared), "totpSecret": shared, "userLabel": "script"}
    else:
        form = {"username": username}
        if action:
            form["password"] = password or people.password(people.load().people[username], keys)
    return await browser.post(unescape(action[1]) if action else str(page.url), data=form)


def one_time_password(shared: str) -> str:
    """The six digits of this half minute (RFC 6238)."""
    digest = hmac.digest(shared.encode(), int(time.time() // 30).to_bytes(8, "big"), "sha1")
    place = digest[-1] & 15
    return f"{(int.from_bytes(digest[place : place + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


async def refresh(issuer: str, tokens: Tokens) -> Tokens:
    """Exchange the refresh token for new tokens."""
    async with httpx.AsyncClient(timeout=30) as browser:
        endpoints = await discover(browser, issuer)
        return await exchange(
            browser, endpoints, grant_type="refresh_token", refresh_token=tokens.refresh_token
        )


async def discover(browser: httpx.AsyncClient, issuer: str) -> dict[str, Any]:
    """Return the issuer's metadata."""
    answer = await browser.get(f"{issuer}/.well-known/openid-configuration")
    answer.raise_for_status()
    return answer.json()


async def exchange(browser: httpx.AsyncClient, endpoints: dict[str, Any], **grant: str) -> Tokens:
    """Call the token endpoint; a refusal is an HTTPStatusError."""
    answer = await browser.post(endpoints["token_endpoint"], data={"client_id": CLIENT, **grant})
    answer.raise_for_status()
    body = answer.json()
    return Tokens(body["access_token"], body["refresh_token"], body["id_token"])
