"""Whom a service believes: only what the configured issuer has signed, for us, for now."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from crmkit.auth import Verifier
from crmkit.errors import Unauthenticated
from crmkit.testing import Client, Issuer, Refused, Service
from joserfc import jwt
from joserfc.jwk import RSAKey

DEEP = base64.urlsafe_b64encode(b"[" * 50_000).decode() + ".e30.x"


class Listener:
    """An HTTP server that remembers what it was asked for."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.asked: list[str] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listener.asked.append(self.path)
                body = answers.get(self.path)
                self.send_response(200 if body else 404)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        answers["/.well-known/openid-configuration"] = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def canary() -> Iterator[Listener]:
    listener = Listener({})
    yield listener
    listener.close()


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def refused(customer: Service, token: str) -> None:
    with pytest.raises(Refused) as problem:
        await Client(customer.running, customer.channel, token).ListAccounts(pageSize=1)
    assert problem.value.code == grpc.StatusCode.UNAUTHENTICATED
    assert problem.value.reason == "UNAUTHENTICATED"


async def accepted(customer: Service, token: str) -> None:
    await Client(customer.running, customer.channel, token).ListAccounts(pageSize=1)


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


@pytest.mark.parametrize("algorithm", ["none", "nOnE", "NONE"])
async def test_a_token_without_a_signature_is_refused(customer: Service, algorithm: str) -> None:
    claims = claims_of(customer.parts.issuer.token(customer.person("admin")))
    for signature in ("", "AAAA"):
        await refused(customer, f"{part({'alg': algorithm, 'kid': 'test'})}.{part(claims)}.{signature}")


async def test_a_token_signed_with_the_public_key_as_secret_is_refused(customer: Service) -> None:
    issuer = customer.parts.issuer
    claims = claims_of(issuer.token(customer.person("admin")))
    body = f"{part({'alg': 'HS256', 'kid': 'test', 'typ': 'JWT'})}.{part(claims)}"
    for secret in (issuer.key.as_pem(private=False), json.dumps(issuer.key.as_dict(private=False)).encode()):
        signature = base64.urlsafe_b64encode(hmac.digest(secret, body.encode(), hashlib.sha256)).rstrip(b"=")
        await refused(customer, f"{body}.{signature.decode()}")


async def test_a_token_of_another_realm_with_the_same_key_id_is_refused(customer: Service) -> None:
    foreign = Issuer()
    try:
        person = customer.person("admin")
        await refused(customer, foreign.token(person))
        await refused(customer, foreign.token(person, iss=customer.parts.issuer.url))
        await refused(customer, customer.parts.issuer.token(person, iss=f"{customer.parts.issuer.url}.evil"))
        await refused(customer, customer.parts.issuer.token(person, iss=f"{customer.parts.issuer.url}/"))
    finally:
        foreign.close()


async def test_a_key_that_the_token_brings_along_is_neither_used_nor_fetched(
    customer: Service, canary: Listener
) -> None:
    own = RSAKey.generate_key(2048, {"kid": "mine"})
    claims = claims_of(customer.parts.issuer.token(customer.person("admin")))
    for kid in ("mine", "test"):
        for header in (
            {"jku": f"{canary.url}/jwks"},
            {"x5u": f"{canary.url}/chain"},
            {"jwk": own.as_dict(private=False)},
        ):
            protected = {"alg": "RS256", "kid": kid, "typ": "JWT", **header}
            body = f"{part(protected)}.{part(claims)}"
            signed = jwt.encode({"alg": "RS256", "kid": kid}, claims, own).rpartition(".")[2]
            await refused(customer, f"{body}.{signed}")
    assert canary.asked == []
    # Signed by the right key, they are refused all the same.
    person = customer.person("admin")
    await refused(customer, customer.parts.issuer.token(person, {"jku": f"{canary.url}/jwks"}))
    assert canary.asked == []


async def test_time_is_kept_with_half_a_minute_of_leeway(customer: Service) -> None:
    issuer, person, now = customer.parts.issuer, customer.person("admin"), int(time.time())
    await refused(customer, issuer.token(person, exp=now - 31))
    await accepted(customer, issuer.token(person, exp=now - 20))
    await refused(customer, issuer.token(person, nbf=now + 3600))
    await refused(customer, issuer.token(person, iat=now + 3600))
    await refused(customer, issuer.token(person, exp=None))
    await refused(customer, issuer.token(person, exp="tomorrow"))


async def test_a_token_that_was_good_once_ends_when_it_expires(customer: Service) -> None:
    token = customer.parts.issuer.token(customer.person("admin"), exp=int(time.time()) - 28)
    await accepted(customer, token)
    await customer.eventually(lambda: _is_refused(customer, token), 5)


async def _is_refused(customer: Service, token: str) -> bool:
    try:
        await accepted(customer, token)
    except Refused:
        return True
    return False


@pytest.mark.parametrize(
    "bent",
    [
        {"aud": "another-api"},
        {"aud": ["another-api"]},
        {"aud": None},
        {"typ": "ID"},
        {"typ": "Refresh"},
        {"sub": None},
        {"iss": None},
    ],
)
async def test_a_token_for_something_else_is_refused(customer: Service, bent: dict[str, Any]) -> None:
    await refused(customer, customer.parts.issuer.token(customer.person("admin"), **bent))


async def test_one_of_several_audiences_is_enough(customer: Service) -> None:
    token = customer.parts.issuer.token(customer.person("admin"), aud=["account", "crm-api"])
    await accepted(customer, token)


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "é", "x" * 20_000, f"{part([])}.{part({})}.x", DEEP]
)
async def test_what_is_no_token_is_refused(customer: Service, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await customer.running.verifier.verify(token)


async def test_metadata_names_nobody(customer: Service) -> None:
    nobody = Client(customer.running, customer.channel, "")
    with pytest.raises(Refused) as problem:
        await nobody.send("ListAccounts", b"", {"x-user-id": "admin", "x-employee": "employees/1"})
    assert problem.value.code == grpc.StatusCode.UNAUTHENTICATED


async def test_known_keys_go_on_without_the_issuer_and_unknown_ones_are_asked_for_once(
    customer: Service,
) -> None:
    key = RSAKey.generate_key(2048, {"kid": "known"})
    issuer = Listener({"/jwks": {"keys": [key.as_dict(private=False)]}})
    verifier = Verifier(issuer.url, "crm-api")

    def token(kid: str, name: str) -> str:
        now = int(time.time())
        claims = {"iss": issuer.url, "sub": name, "aud": "crm-api", "iat": now, "exp": now + 300}
        return jwt.encode({"alg": "RS256", "kid": kid}, claims, key)

    assert (await verifier.verify(token("known", "a")))["sub"] == "a"
    verifier._sources[issuer.url]._tried -= 31
    asked = len(issuer.asked)
    for number in range(100):
        with pytest.raises(Unauthenticated):
            await verifier.verify(token("unknown", str(number)))
    assert len(issuer.asked) - asked <= 2  # the description, if it is read again, and the keys
    issuer.close()
    verifier._sources[issuer.url]._tried -= 31
    assert (await verifier.verify(token("known", "b")))["sub"] == "b"
    with pytest.raises(Unauthenticated):
        await verifier.verify(token("unknown", "c"))
    assert (await verifier.verify(token("known", "d")))["sub"] == "d"


async def test_a_disabled_employee_is_out_within_five_seconds_whatever_the_token_says(
    customer: Service,
) -> None:
    person = customer.person("everything2")
    key = f"employee.{person.employee.partition('/')[2]}"
    token = customer.parts.issuer.token(person)
    await accepted(customer, token)
    async with customer.parts.configuration() as config:
        entry = customer.running.config.get(key)
        try:
            await config.put(key, {**entry, "disabled": True})
            await customer.eventually(lambda: _is_refused(customer, token), 5)
        finally:
            await config.put(key, entry)
    await customer.eventually(lambda: _is_accepted(customer, token), 5)


async def _is_accepted(customer: Service, token: str) -> bool:
    return not await _is_refused(customer, token)


async def test_a_changed_role_counts_within_five_seconds_whatever_the_token_says(customer: Service) -> None:
    person = customer.person("everything2")
    key = f"employee.{person.employee.partition('/')[2]}"
    token = customer.parts.issuer.token(person)
    client = Client(customer.running, customer.channel, token)
    await client.ListAccounts(pageSize=1)
    async with customer.parts.configuration() as config:
        entry = customer.running.config.get(key)
        try:
            await config.put(key, {**entry, "roles": []})

            async def denied() -> bool:
                try:
                    await client.ListAccounts(pageSize=1)
                except Refused as problem:
                    return problem.code == grpc.StatusCode.PERMISSION_DENIED
                return False

            await customer.eventually(denied)
        finally:
            await config.put(key, entry)
    await customer.eventually(lambda: _is_accepted(customer, token), 5)
