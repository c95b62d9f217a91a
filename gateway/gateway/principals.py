"""Who calls: a bearer token as it came, a partner's key exchanged for one, or a browser's session.

Services verify every token themselves and decide; nothing here grants anything.
"""

import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Any

from crmkit.auth import ended_with_owner, session_id
from crmkit.keys import ApiKey
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwt
from joserfc.jwk import ECKey

from gateway.callers import Authenticate
from gateway.errors import Refusal
from gateway.limits import Buckets
from gateway.sessions import Sessions, claims_of
from gateway.witness import Witness

ISSUER = "guanxi-gateway"
TOKEN_SECONDS = 60
KEY_RATE = 50.0
MOST_CHECKED = 5_000
# HMAC of a secret that no key has: an unknown id costs what a known one does.
NO_HASH = "0" * 64

Lookup = Callable[[str], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Principal:
    """What goes on to the services, and whose bucket pays."""

    authorization: str
    bucket: str
    rate: float
    address: str

    @property
    def metadata(self) -> list[tuple[str, str]]:
        sent = [("x-forwarded-for", self.address)]
        return [*sent, ("authorization", self.authorization)] if self.authorization else sent


class Principals:
    """Finds the principal of a request."""

    def __init__(
        self,
        sessions: Sessions,
        keys: "ApiKeys",
        buckets: Buckets,
        rate: float,
        witness: Witness,
        authenticate: Authenticate,
    ) -> None:
        self._sessions = sessions
        self._keys = keys
        self._buckets = buckets
        self._rate = rate
        self._witness = witness
        self._authenticate = authenticate
        # Session and claims of tokens that were valid when they were first seen; services verify each every time.
        self._checked: dict[str, tuple[str, dict[str, Any]]] = {}

    async def of(self, scope: Any) -> Principal:
        """The principal, its quota charged; without authorization where there are no credentials at all."""
        principal = await self._found(scope)
        scope["exchange"].authorization = principal.authorization
        if principal.bucket.startswith("apiKeys/"):
            self._witness.called(principal.bucket, principal.address)
        self._buckets.take(principal.bucket, principal.rate)
        return principal

    async def _found(self, scope: Any) -> Principal:
        headers: dict[bytes, bytes] = scope["header_map"]
        address: str = scope["client"][0] if scope["client"] else ""
        authorization = _ascii(headers.get(b"authorization", b""))
        scheme, _, credentials = authorization.partition(" ")
        scheme = scheme.lower()
        if scheme == "apikey" or b"x-api-key" in headers:
            text = credentials if scheme == "apikey" else _ascii(headers[b"x-api-key"])
            return self._keys.principal(text.strip(), address)
        if authorization:
            if scheme != "bearer" or not credentials:
                raise Refusal("UNAUTHENTICATED", "UNAUTHENTICATED")
            await self._check_session(credentials, scope)
            return self._bearer(credentials, address)
        if session := await self._sessions.of(scope):
            self._witness.seen(session, scope)
            return self._bearer(session.access_token, address)
        return Principal("", address, self._rate, address)

    async def _check_session(self, token: str, scope: Any) -> None:
        """A person's client that brings a token and no cookie has a session too: listed, limited and ended likewise.

        Tokens of machines belong to no session. What a service would refuse is refused here, so that nobody can tell
        of sessions that are not his.
        """
        known = self._checked.get(token)
        session, claims = known or _session_of(token)
        if not session:
            return
        if reason := self._sessions.over(session, str(claims.get("employee") or "")):
            raise Refusal("UNAUTHENTICATED", reason)
        if known is None or claims.get("exp", 0) < time.time():
            await self._authenticate(token)
            if len(self._checked) >= MOST_CHECKED:
                self._checked.clear()
            self._checked[token] = session, claims
        self._witness.seen_token(session, token, claims, scope)

    def _bearer(self, token: str, address: str) -> Principal:
        # The end of a token is its signature, so that nobody can empty the bucket of somebody else.
        return Principal(f"Bearer {token}", token[-43:], self._rate, address)


def _session_of(token: str) -> tuple[str, dict[str, Any]]:
    """The session that a token belongs to, and its claims; empty for a machine's, which belongs to none."""
    claims = claims_of(token)
    issuer, sid = claims.get("iss"), claims.get("sid")
    return session_id(str(issuer), str(sid)) if issuer and sid else "", claims


class ApiKeys:
    """Checks keys against the configuration and mints the short-lived tokens that stand for them."""

    def __init__(self, lookup: Lookup, secret_key: str, audience: str) -> None:
        self._lookup = lookup
        self._secret_key = secret_key
        self._audience = audience
        self._signing_key = _signing_key(secret_key)
        self._minted: dict[str, tuple[str, str, float]] = {}

    def jwks(self) -> dict[str, Any]:
        """The public half of the key that signs the minted tokens."""
        return {"keys": [{**self._signing_key.as_dict(private=False), "use": "sig", "alg": "ES256"}]}

    def principal(self, text: str, address: str) -> Principal:
        """The principal of a key that is known, alive and used from where it may be."""
        key = ApiKey.parse(text)
        if key is None:
            raise Refusal("UNAUTHENTICATED", "KEY_UNKNOWN")
        entry = self._lookup(f"apiKey.{key.id}")
        if (
            not hmac.compare_digest(key.digest(self._secret_key), entry["hash"] if entry else NO_HASH)
            or not entry
        ):
            raise Refusal("UNAUTHENTICATED", "KEY_UNKNOWN")
        if reason := ended_with_owner(entry, self._lookup):
            raise Refusal("UNAUTHENTICATED", reason)
        if entry.get("disabled"):
            raise Refusal("UNAUTHENTICATED", "KEY_REVOKED")
        if (expires := entry.get("expires")) and datetime.fromisoformat(expires).timestamp() < time.time():
            raise Refusal("UNAUTHENTICATED", "KEY_EXPIRED")
        if (ranges := entry.get("cidrs")) and not _within(address, ranges):
            raise Refusal("PERMISSION_DENIED", "IP_NOT_ALLOWED")
        return Principal(
            f"Bearer {self._token(key.id, entry)}",
            f"apiKeys/{key.id}",
            float(entry.get("rate") or KEY_RATE),
            address,
        )

    def _token(self, key_id: str, entry: Mapping[str, Any]) -> str:
        claims = {
            "iss": ISSUER,
            "sub": f"apiKeys/{key_id}",
            "aud": self._audience,
            "azp": ISSUER,
            "typ": "Bearer",
            "permissions": list(entry.get("permissions") or ()),
            "scope_level": entry.get("scope") or "OWN",
            "account": entry.get("account") or "",
            "partner": entry.get("partner") or "",
        }
        now = time.time()
        version = json.dumps(claims, sort_keys=True)
        minted = self._minted.get(key_id)
        if minted is None or minted[0] != version or minted[2] < now:
            times = {"iat": int(now), "exp": int(now) + TOKEN_SECONDS}
            header = {"alg": "ES256", "kid": self._signing_key.kid}
            token = jwt.encode(header, claims | times, self._signing_key)
            minted = self._minted[key_id] = (version, token, now + TOKEN_SECONDS / 2)
        return minted[1]


def _signing_key(secret_key: str) -> ECKey:
    """One key for all processes of the gateway, made from the secret that they share."""
    material = HKDF(SHA256(), 40, None, b"gateway token key").derive(secret_key.encode())
    # 40 bytes reduced to the order of the curve, as FIPS 186-5 (A.2.1) does it.
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    private = ec.derive_private_key(int.from_bytes(material) % (order - 1) + 1, ec.SECP256R1())
    kid = sha256(b"kid" + material).hexdigest()[:16]
    return ECKey.import_key(_jwk(private, kid))


def _jwk(private: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    from joserfc.util import urlsafe_b64encode

    numbers = private.private_numbers()
    public = numbers.public_numbers
    parts = {"x": public.x, "y": public.y, "d": numbers.private_value}
    encoded = {name: urlsafe_b64encode(value.to_bytes(32)).decode() for name, value in parts.items()}
    return {"kty": "EC", "crv": "P-256", "kid": kid, **encoded}


def _within(address: str, ranges: list[str]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in ip_network(text, strict=False) for text in ranges)


def _ascii(value: bytes) -> str:
    try:
        return value.decode("ascii").strip()
    except UnicodeDecodeError:
        raise Refusal("UNAUTHENTICATED", "UNAUTHENTICATED") from None
