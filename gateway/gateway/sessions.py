"""Browser sessions: the tokens of a signed-in person, sealed in an HttpOnly cookie.

The browser never sees a token. What the provider calls the session is its id, here and in workspace, which lists
sessions and says in the configuration (`session.<id>`) which of them count no more. A session is renewed when its
access token is about to end; calls that come at the same time, still with the old cookie, share one renewal.
"""

import asyncio
import hmac
import json
import re
import secrets
import time
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import httpx
from crmkit.auth import SECOND_FACTOR, session_id
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.errors import Refusal
from gateway.settings import Settings

SESSION_COOKIE = "crm_session"
SIGN_IN_COOKIE = "crm_sign_in"
# Stands for the browser itself, so that a person can tell one device from another.
DEVICE_COOKIE = "crm_device"
DEVICE = re.compile(r"[A-Za-z0-9_-]{22}")
DEVICE_SECONDS = 400 * 24 * 3600
SESSION_SECONDS = 10 * 3600
SIGN_IN_SECONDS = 600
RENEW_BEFORE_SECONDS = 30
# A renewed session stays known under its old cookie while the browser's other calls are on their way.
GRACE_SECONDS = 60
CHUNK = 3800
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# What the browser is told of a session that workspace has ended.
REASONS = {"LIMIT": "SESSION_LIMIT", "DEVICE_REVOKED": "DEVICE_REVOKED", "SIGNED_OUT": "SESSION_EXPIRED"}


@dataclass(frozen=True, slots=True)
class Session:
    """What the cookie holds."""

    access_token: str
    refresh_token: str
    id_token: str
    expires: float
    began: float
    csrf: str
    # These are empty in cookies of older releases.
    id: str = ""
    provider_id: str = ""
    device: str = ""
    employee: str = ""

    def claims(self) -> dict[str, Any]:
        """The claims of the access token; it came from the issuer itself and was sealed by us."""
        return claims_of(self.access_token)


class Seal:
    """Encrypts small JSON values for cookies."""

    def __init__(self, secret_key: str) -> None:
        self._cipher = AESGCM(HKDF(SHA256(), 32, None, b"session cookie").derive(secret_key.encode()))

    def close(self, purpose: str, value: dict[str, Any]) -> str:
        nonce = secrets.token_bytes(12)
        packed = zlib.compress(json.dumps(value, separators=(",", ":")).encode())
        return urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, packed, purpose.encode())).decode()

    def open(self, purpose: str, sealed: str) -> dict[str, Any] | None:
        """The value, or None for anything that we did not seal for this purpose."""
        try:
            data = urlsafe_b64decode(sealed)
            packed = self._cipher.decrypt(data[:12], data[12:], purpose.encode())
        except (ValueError, InvalidTag):
            return None
        return json.loads(zlib.decompress(packed))


class Issuer:
    """The OpenID provider: where to send people, and how codes and refresh tokens become tokens."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient) -> None:
        self._settings = settings
        self._client = client
        self._discovered: dict[str, Any] = {}

    async def discovered(self) -> dict[str, Any]:
        """The provider's own description, read once."""
        if not self._discovered:
            found = await self._send("GET", self._settings.discovery)
            if found.get("issuer") != self._settings.oidc_issuer:
                raise Refusal("UNAVAILABLE", "UNAVAILABLE")
            self._discovered = found
        return self._discovered

    async def tokens(self, **form: str) -> dict[str, Any]:
        """The token endpoint's answer; Refusal with SIGN_IN_FAILED where it refuses."""
        return await self._send("POST", (await self.discovered())["token_endpoint"], self._form(form))

    async def end(self, id_token: str) -> None:
        """Ends the session at the provider too."""
        await self._send(
            "POST", (await self.discovered())["end_session_endpoint"], self._form({"id_token_hint": id_token})
        )

    def _form(self, form: dict[str, str]) -> dict[str, str]:
        form["client_id"] = self._settings.oidc_client_id
        if self._settings.oidc_client_secret:
            form["client_secret"] = self._settings.oidc_client_secret
        return form

    async def _send(self, method: str, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            response = await self._client.request(method, url, data=form)
        except httpx.HTTPError:
            raise Refusal("UNAVAILABLE", "UNAVAILABLE") from None
        if response.status_code >= 500:
            raise Refusal("UNAVAILABLE", "UNAVAILABLE")
        if response.status_code >= 400:
            raise Refusal("UNAUTHENTICATED", "SIGN_IN_FAILED")
        is_json = response.headers.get("content-type", "").startswith("application/json")
        return response.json() if is_json else {}


class Sessions:
    """Opens, renews and ends sessions."""

    def __init__(
        self, settings: Settings, issuer: Issuer, lookup: Callable[[str], Mapping[str, Any] | None]
    ) -> None:
        self._settings = settings
        self._issuer = issuer
        self._lookup = lookup
        self._seal = Seal(settings.secret_key)
        self._opened: dict[str, Session] = {}
        self._renewals: dict[str, tuple[float, asyncio.Task[Session]]] = {}

    def known(self, scope: Any) -> Session | None:
        """The session that the browser brings, whether it counts or not; it is neither checked nor renewed."""
        sealed = _cookie(scope["header_map"], SESSION_COOKIE)
        return self._open(sealed) if sealed else None

    async def of(self, scope: Any) -> Session | None:
        """The session of a request, renewed if need be; None without one. Refuses forged calls."""
        session = self.known(scope)
        if session is None:
            return None
        if scope["method"] not in SAFE_METHODS:
            self.check_origin(scope, session)
        now = time.time()
        if reason := self.ended(session):
            raise self._ended(scope, reason)
        if session.began + SESSION_SECONDS < now:
            raise self._ended(scope)
        if session.expires - RENEW_BEFORE_SECONDS > now:
            return session
        if self._signed_out(session):
            raise self._ended(scope)
        try:
            renewed = await self._renew(session)
        except Refusal as refusal:
            if refusal.reason == "UNAVAILABLE" and session.expires > now:
                return session
            raise self._ended(scope) if refusal.reason == "SIGN_IN_FAILED" else refusal from None
        scope["exchange"].extra_headers += self.cookies(renewed)
        return renewed

    def ended(self, session: Session) -> str:
        """Why the session counts no more, though the provider may still know of it; empty where it does."""
        return self.over(session.id, session.employee)

    def over(self, session: str, employee: str) -> str:
        """The same by the session's id and its person, for clients that bring a token and no cookie."""
        key = employee.partition("/")[2]
        person = (self._lookup(f"employee.{key}") if key else None) or {}
        if person.get("disabled"):
            return "EMPLOYEE_FROZEN" if person.get("frozen") else "SESSION_ENDED"
        told = self._lookup(f"session.{session}") if session else None
        return REASONS.get(told["reason"], "SESSION_ENDED") if told else ""

    def _signed_out(self, session: Session) -> bool:
        """True where others have ended the person's sessions since this one began; its old token counts nowhere."""
        employee = str(session.claims().get("employee", ""))
        entry = self._lookup(f"employee.{employee.partition('/')[2]}") if employee else None
        return bool(entry) and session.began <= (entry or {}).get("signedOut", 0)

    async def begin(
        self, return_to: str, redirect_uri: str, step_up: bool = False, anew: bool = False
    ) -> tuple[str, list[tuple[bytes, bytes]]]:
        """Where to send the browser to sign in, and the cookie that it brings back.

        To step up is to sign in anew, with a second factor, whatever session the provider knows of; `anew` is the
        same without one.
        """
        verifier, state, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **({"acr_values": SECOND_FACTOR} if step_up else {}),
            **({"prompt": "login"} if step_up or anew else {}),
        }
        pending = {
            "verifier": verifier,
            "state": state,
            "nonce": nonce,
            "return_to": return_to,
            "redirect_uri": redirect_uri,
            "began": time.time(),
        }
        cookie = self._set_cookie(SIGN_IN_COOKIE, self._seal.close(SIGN_IN_COOKIE, pending), SIGN_IN_SECONDS)
        endpoint = (await self._issuer.discovered())["authorization_endpoint"]
        return f"{endpoint}?{urlencode(query)}", [cookie]

    async def complete(
        self, scope: Any, code: str, state: str
    ) -> tuple[str, list[tuple[bytes, bytes]], Session | None]:
        """Where the browser goes on to, its cookies, and the session.

        None where the provider still had the session that was ended here: it has ended it now, and asks anew.
        """
        sealed = _cookie(scope["header_map"], SIGN_IN_COOKIE)
        pending = self._seal.open(SIGN_IN_COOKIE, sealed) if sealed else None
        if (
            pending is None
            or pending["began"] + SIGN_IN_SECONDS < time.time()
            or not hmac.compare_digest(pending["state"].encode(), state.encode())
        ):
            raise Refusal("UNAUTHENTICATED", "SIGN_IN_FAILED")
        answer = await self._issuer.tokens(
            grant_type="authorization_code",
            code=code,
            redirect_uri=pending["redirect_uri"],
            code_verifier=pending["verifier"],
        )
        identity = claims_of(answer.get("id_token", ""))
        audience = identity.get("aud")
        if (
            identity.get("nonce") != pending["nonce"]
            or identity.get("iss") != self._settings.oidc_issuer
            or self._settings.oidc_client_id not in (audience if isinstance(audience, list) else [audience])
        ):
            raise Refusal("UNAUTHENTICATED", "SIGN_IN_FAILED")
        provider_id = str(identity.get("sid") or "")
        device = _cookie(scope["header_map"], DEVICE_COOKIE)
        device = device if DEVICE.fullmatch(device) else secrets.token_urlsafe(16)
        session = replace(
            _session(answer, began=time.time(), csrf=secrets.token_urlsafe(24)),
            id=session_id(identity["iss"], provider_id) if provider_id else str(uuid4()),
            provider_id=provider_id,
            device=device,
        )
        if (over := self._lookup(f"session.{session.id}")) and over["reason"] != "DEVICE_REVOKED":
            # The person may sign in, but not go on with what was ended.
            with suppress(Refusal):
                await self._issuer.end(session.id_token)
            return *await self.begin(pending["return_to"], pending["redirect_uri"], anew=True), None
        cookies = [
            *self.cookies(session),
            self._set_cookie(SIGN_IN_COOKIE, "", 0),
            self._set_cookie(DEVICE_COOKIE, device, DEVICE_SECONDS),
        ]
        return pending["return_to"], cookies, session

    async def end(self, scope: Any) -> list[tuple[bytes, bytes]]:
        """Ends the session here and at the provider; the cookies that make the browser forget it."""
        session = await self.of(scope)
        if session is not None:
            self._opened.clear()
            # The person is signed out here in any case; the provider's session ends by itself.
            with suppress(Refusal):
                await self._issuer.end(session.id_token)
        scope["exchange"].extra_headers.clear()
        return self._forget(scope)

    def cookies(self, session: Session) -> list[tuple[bytes, bytes]]:
        """The session as cookies, in as many as its length takes."""
        sealed = self._seal.close(SESSION_COOKIE, asdict(session))
        chunks = [sealed[i : i + CHUNK] for i in range(0, len(sealed), CHUNK)]
        names = [SESSION_COOKIE + (str(index) if index else "") for index in range(len(chunks))]
        # An empty one behind the last, so that a chunk of a longer session before is not taken for ours.
        ending = self._set_cookie(f"{SESSION_COOKIE}{len(chunks)}", "", 0)
        return [*map(self._set_cookie, names, chunks), ending]

    def check_origin(self, scope: Any, session: Session) -> None:
        """Refuses calls that another site made the browser send."""
        headers: dict[bytes, bytes] = scope["header_map"]
        origin = headers.get(b"origin", b"").decode("latin-1")
        own = urlsplit(self._settings.public_url).netloc or headers.get(b"host", b"").decode("latin-1")
        if (
            not hmac.compare_digest(headers.get(b"x-csrf", b""), session.csrf.encode())
            or headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none")
            or (origin and urlsplit(origin).netloc != own)
        ):
            raise Refusal("PERMISSION_DENIED", "CSRF_FAILED")

    async def _renew(self, session: Session) -> Session:
        key = sha256(session.refresh_token.encode()).hexdigest()
        now = time.time()
        self._renewals = {k: v for k, v in self._renewals.items() if v[0] > now}
        if key not in self._renewals:
            task = asyncio.create_task(self._renewed(session))
            self._renewals[key] = (now + GRACE_SECONDS, task)
        try:
            return await asyncio.shield(self._renewals[key][1])
        except Refusal as refusal:
            if refusal.reason == "UNAVAILABLE":
                self._renewals.pop(key, None)
            raise

    async def _renewed(self, session: Session) -> Session:
        answer = await self._issuer.tokens(grant_type="refresh_token", refresh_token=session.refresh_token)
        kept = {"refresh_token": session.refresh_token, "id_token": session.id_token}
        renewed = _session(kept | answer, session.began, session.csrf)
        return replace(renewed, id=session.id, provider_id=session.provider_id, device=session.device)

    def _open(self, sealed: str) -> Session | None:
        session = self._opened.get(sealed)
        if session is None:
            value = self._seal.open(SESSION_COOKIE, sealed)
            if value is None:
                return None
            if len(self._opened) > 10_000:
                self._opened.clear()
            session = self._opened[sealed] = Session(**value)
        return session

    def _ended(self, scope: Any, reason: str = "SESSION_EXPIRED") -> Refusal:
        return Refusal("UNAUTHENTICATED", reason, headers=self._forget(scope))

    def _forget(self, scope: Any) -> list[tuple[bytes, bytes]]:
        names = [name for name in _cookies(scope["header_map"]) if name.startswith(SESSION_COOKIE)]
        return [self._set_cookie(name, "", 0) for name in names]

    def _set_cookie(self, name: str, value: str, max_age: int | None = None) -> tuple[bytes, bytes]:
        parts = [f"{name}={value}", "Path=/", "HttpOnly", "SameSite=Lax"]
        if max_age is not None:
            parts.append(f"Max-Age={max_age}")
        if self._settings.secure_cookies:
            parts.append("Secure")
        return b"set-cookie", "; ".join(parts).encode()


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a token that needs no check any more; empty for what is none."""
    try:
        payload = token.split(".")[1]
        return json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}


def _session(answer: dict[str, Any], began: float, csrf: str) -> Session:
    return Session(
        access_token=answer["access_token"],
        refresh_token=answer.get("refresh_token", ""),
        id_token=answer["id_token"],
        expires=time.time() + float(answer.get("expires_in", 0)),
        began=began,
        csrf=csrf,
        employee=str(claims_of(answer["access_token"]).get("employee") or ""),
    )


def _cookies(headers: dict[bytes, bytes]) -> dict[str, str]:
    try:
        jar = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


def _cookie(headers: dict[bytes, bytes], name: str) -> str:
    """A cookie's value, put together from its chunks."""
    if name.encode() not in headers.get(b"cookie", b""):
        return ""
    cookies = _cookies(headers)
    value, index = cookies.get(name, ""), 1
    while chunk := cookies.get(f"{name}{index}"):
        value += chunk
        index += 1
    return value
