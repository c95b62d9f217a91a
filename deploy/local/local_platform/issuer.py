"""The dev issuer: a small OpenID provider that signs in the demo people without a password.

It is for local runs only and refuses to start on anything but loopback. Its tokens carry the claims of
docs/kit.md, as Keycloak's do. Authorization code with PKCE S256 is the only grant beside refresh;
`POST /dev/token` serves tests and scripts. With a secret it keeps the accounts that workspace tells it of
(`local_platform.accounts`), as Keycloak does.
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import os
import re
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import uvicorn
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from local_platform import signin_page
from local_platform.accounts import Accounts, routes
from local_platform.people import Company, Person, load
from local_platform.sessions import Session, Sessions

AUDIENCE = "crm-api"
CLIENT = "guanxi-web"
ACCESS_LIFETIME = 300
CODE_LIFETIME = 60
# More names are no choice; whoever is not among them is asked for by `login_hint` or `/dev/token`.
MOST_LISTED = 100
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}


class NotLoopback(Exception):
    """The dev issuer was asked to listen where others could reach it."""


@asynccontextmanager
async def issuer(directory: Path, port: int, host: str = "127.0.0.1", secret: str = "") -> AsyncIterator[str]:
    """Serve the dev issuer with its key, accounts and sessions in `directory`, and yield its URL."""
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise NotLoopback(f"The dev issuer signs anybody in, so it listens on loopback only, not on {host}.")
    url = f"http://{host}:{port}"
    provider = Issuer(url, directory, load(), secret)
    server = _Server(
        uvicorn.Config(
            provider.app(), host=host, port=port, log_config=None, access_log=False, lifespan="off"
        )
    )
    listening = socket.create_server((host, port), reuse_port=False)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        yield url
    finally:
        server.should_exit = True
        await serving
        provider.close()


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        # Signals belong to the launcher, which stops this server in its turn.
        return nullcontext()


class Refused(Exception):
    """An OAuth error, such as `invalid_grant`."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error, self.description = error, description


@dataclass(frozen=True)
class Code:
    """An authorization code that waits for its exchange."""

    username: str
    client: str
    redirect_uri: str
    challenge: str
    nonce: str | None
    expires: float


class Issuer:
    """The provider behind one URL."""

    def __init__(self, url: str, directory: Path, company: Company, secret: str = "") -> None:
        self.url, self._secret = url, secret
        self._key = _load_key(directory / "key.json")
        self._sessions = Sessions(directory / "sessions.sqlite")
        self._accounts = Accounts(directory / "accounts.sqlite", company, self._sessions)
        self._codes: dict[str, Code] = {}
        self._sessions_of_codes: dict[str, str] = {}

    def app(self) -> Starlette:
        """Return the provider as an ASGI app."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.discovery),
                Route("/jwks", self.jwks),
                Route("/authorize", self.authorize, methods=["GET", "POST"]),
                Route("/token", self.token, methods=["POST"]),
                Route("/userinfo", self.userinfo, methods=["GET", "POST"]),
                Route("/revoke", self.revoke, methods=["POST"]),
                Route("/end_session", self.end_session, methods=["GET", "POST"]),
                Route("/dev/token", self.dev_token, methods=["POST"]),
                *routes(self._accounts, self._sessions, self._secret),
            ],
            middleware=[
                # A page elsewhere whose name resolves to 127.0.0.1 must not reach us through a browser.
                Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]"]),
                Middleware(
                    CORSMiddleware,
                    allow_origin_regex=r"http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?",
                    allow_methods=["GET", "POST"],
                    allow_headers=["authorization", "content-type"],
                ),
            ],
            exception_handlers={Refused: _refusal},
        )

    def close(self) -> None:
        self._accounts.close()
        self._sessions.close()

    def access_token(self, person: Person, client: str, auth_time: int) -> str:
        """Sign an access token for a person.

        Choosing a name is all there is to signing in here, so it stands for the second factor, too. The session is named
        in the ID token alone: scripts that sign in as somebody end no browser of theirs.
        """
        claims = {"aud": AUDIENCE, "azp": client, "typ": "Bearer", "acr": "2", "auth_time": auth_time}
        return self._sign({**claims, **person.claims()}, person, ACCESS_LIFETIME)

    async def discovery(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "userinfo_endpoint": f"{self.url}/userinfo",
                "end_session_endpoint": f"{self.url}/end_session",
                "revocation_endpoint": f"{self.url}/revoke",
                "jwks_uri": f"{self.url}/jwks",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "subject_types_supported": ["public"],
                "scopes_supported": ["openid", "profile"],
                "ui_locales_supported": ["zh-CN", "en"],
            }
        )

    async def jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": [self._key.as_dict(private=False)]})

    async def authorize(self, request: Request) -> Response:
        """Show who may sign in; once somebody is chosen, go back to the client with a code."""
        query = request.query_params
        client, redirect_uri = query.get("client_id", ""), query.get("redirect_uri", "")
        # Before these two are known to be right, nothing may be sent to the redirect address.
        if client != CLIENT:
            raise Refused("invalid_client", "The client is unknown.")
        if not _is_loopback_url(redirect_uri):
            raise Refused("invalid_request", "The redirect address is not on loopback.")
        back = {"state": query["state"]} if "state" in query else {}
        problem = _authorization_problem(query)
        if problem:
            return _redirect(redirect_uri, {"error": problem, **back})
        if request.method == "GET":
            language = signin_page.language(query.get("ui_locales"), request.headers.get("accept-language"))
            return HTMLResponse(
                signin_page.render(self._accounts.people()[:MOST_LISTED], language, query.get("login_hint")),
                headers={"Cache-Control": "no-store", "Content-Security-Policy": POLICY},
            )
        form = await request.form()
        person = self._person(str(form.get("username", "")))
        code = secrets.token_urlsafe(32)
        self._forget_old_codes()
        self._codes[code] = Code(
            username=person.username,
            client=client,
            redirect_uri=redirect_uri,
            challenge=query["code_challenge"],
            nonce=query.get("nonce"),
            expires=time.monotonic() + CODE_LIFETIME,
        )
        return _redirect(redirect_uri, {"code": code, **back, "iss": self.url})

    async def token(self, request: Request) -> Response:
        """Exchange a code or a refresh token."""
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        client = form.get("client_id", "")
        if client != CLIENT:
            raise Refused("invalid_client", "The client is unknown.")
        match form.get("grant_type"):
            case "authorization_code":
                session, nonce = self._redeem_code(form, client)
            case "refresh_token":
                session, nonce = self._sessions.redeem(form.get("refresh_token", ""), client), None
            case _:
                raise Refused(
                    "unsupported_grant_type", "Only authorization_code and refresh_token are granted."
                )
        if session is None:
            raise Refused("invalid_grant", "The code or token is unknown, over or was used before.")
        person = self._person(session.username)
        return JSONResponse(
            {
                "access_token": self.access_token(person, client, session.auth_time),
                "token_type": "Bearer",
                "expires_in": ACCESS_LIFETIME,
                "refresh_token": self._sessions.issue(session),
                "id_token": self._id_token(person, session, nonce),
                "scope": "openid profile",
            },
            headers={"Cache-Control": "no-store"},
        )

    async def userinfo(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        claims = self._verify(token) if scheme.lower() == "bearer" else None
        if claims is None or claims.get("typ") != "Bearer" or claims["exp"] < time.time():
            return JSONResponse({"error": "invalid_token"}, 401, {"WWW-Authenticate": "Bearer"})
        person = self._person(claims["preferred_username"])
        return JSONResponse({"sub": person.subject, **person.claims()})

    async def revoke(self, request: Request) -> Response:
        """End the session of a refresh token; as RFC 7009 wants it, an unknown token is no error."""
        form = await request.form()
        self._sessions.revoke(str(form.get("token", "")), str(form.get("client_id", "")))
        return Response()

    async def end_session(self, request: Request) -> Response:
        """End the session that the id token names, and go back where the client wants."""
        given = {**request.query_params, **(await request.form())}
        hint = self._verify(str(given.get("id_token_hint", "")))
        if hint and hint.get("typ") == "ID":
            self._sessions.end(hint["sid"])
        back = str(given.get("post_logout_redirect_uri", ""))
        if _is_loopback_url(back):
            return _redirect(back, {"state": str(given["state"])} if "state" in given else {})
        language = signin_page.language(None, request.headers.get("accept-language"))
        return HTMLResponse(signin_page.signed_out(language))

    async def dev_token(self, request: Request) -> Response:
        """Give an access token for `{"username": …}` to a caller on this machine."""
        if request.client is None or not ipaddress.ip_address(request.client.host).is_loopback:
            raise Refused("access_denied", "Only this machine may ask.")
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise Refused("invalid_request", "The body is JSON with a username.")
        try:
            body = await request.json()
        except ValueError:
            body = None
        username = body.get("username") if isinstance(body, dict) else None
        person = self._person(username if isinstance(username, str) else "")
        token = self.access_token(person, CLIENT, int(time.time()))
        return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": ACCESS_LIFETIME})

    def _redeem_code(self, form: dict[str, str], client: str) -> tuple[Session | None, str | None]:
        text = form.get("code", "")
        code = self._codes.pop(text, None)
        if code is None:
            # A code that comes twice has leaked: what it gave ends.
            self._sessions.end(self._sessions_of_codes.pop(text, ""))
            return None, None
        if (
            code.expires < time.monotonic()
            or code.client != client
            or code.redirect_uri != form.get("redirect_uri")
        ):
            return None, None
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=")
        if not hmac.compare_digest(challenge, code.challenge.encode()):
            raise Refused("invalid_grant", "The code verifier does not match.")
        session = self._sessions.open(code.username, client)
        self._sessions_of_codes[text] = session.id
        return session, code.nonce

    def _forget_old_codes(self) -> None:
        now = time.monotonic()
        self._codes = {text: code for text, code in self._codes.items() if code.expires > now}

    def _id_token(self, person: Person, session: Session, nonce: str | None) -> str:
        claims = {"aud": session.client, "azp": session.client, "typ": "ID", "sid": session.id}
        claims |= {"auth_time": session.auth_time, **person.claims()}
        return self._sign(claims | ({"nonce": nonce} if nonce else {}), person, ACCESS_LIFETIME)

    def _sign(self, claims: dict[str, Any], person: Person, lifetime: int) -> str:
        now = int(time.time())
        header = {"alg": "RS256", "typ": "JWT", "kid": self._key.kid}
        claims = {"iss": self.url, "sub": person.subject, "iat": now, "exp": now + lifetime, **claims}
        return jwt.encode(header, claims, self._key, algorithms=["RS256"])

    def _verify(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a token of ours, also of one that is over; None for any other."""
        try:
            return jwt.decode(token, self._key, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return None

    def _person(self, username: str) -> Person:
        person = self._accounts.person(username)
        if person is None:
            raise Refused("invalid_request", "Nobody may sign in by this username.")
        return person


def _authorization_problem(query: Any) -> str | None:
    if query.get("response_type") != "code":
        return "unsupported_response_type"
    if query.get("code_challenge_method") != "S256":
        return "invalid_request"
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}", query.get("code_challenge", "")):
        return "invalid_request"
    if "openid" not in query.get("scope", "").split():
        return "invalid_scope"
    # We keep no cookie, so nobody is ever signed in already.
    return "login_required" if query.get("prompt") == "none" else None


def _is_loopback_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return (
        parts.scheme == "http"
        and parts.hostname in LOOPBACK_NAMES
        and not parts.username
        and not parts.fragment
    )


def _redirect(url: str, parameters: dict[str, str]) -> Response:
    separator = "&" if "?" in url else "?"
    # 303 turns the POST of the sign-in form into a GET.
    target = f"{url}{separator}{urlencode(parameters)}" if parameters else url
    return RedirectResponse(target, 303, headers={"Cache-Control": "no-store"})


async def _refusal(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Refused)
    status = 401 if problem.error == "invalid_client" else 400
    return JSONResponse(
        {"error": problem.error, "error_description": problem.description},
        status,
        {"Cache-Control": "no-store"},
    )


def _load_key(path: Path) -> RSAKey:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(key.as_dict(private=True), file)
        draft.replace(path)
    return RSAKey.import_key(json.loads(path.read_text()))
