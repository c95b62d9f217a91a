"""Signing a demo person in from a script: the whole code flow with PKCE, at the dev issuer or at Keycloak."""

import base64
import hashlib
import re
import secrets
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


async def sign_in(issuer: str, username: str, redirect_uri: str, keys: Secrets | None = None) -> Tokens:
    """Sign in as a browser would and return the tokens. Nothing need listen at `redirect_uri`."""
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
            },
        )
        page.raise_for_status()
        # Browsers trust loopback and send secure cookies there over plain HTTP; httpx does not.
        for cookie in browser.cookies.jar:
            cookie.secure = False
        # Keycloak's form names its address; that of the dev issuer goes back to its own.
        action = re.search(r'<form[^>]*\baction="([^"]+)"', page.text)
        form = {"username": username}
        if action:
            form["password"] = people.password(people.load().people[username], keys or Secrets())
        answer = await browser.post(unescape(action[1]) if action else str(page.url), data=form)
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
