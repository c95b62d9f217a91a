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
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

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


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def forged_by_padding(key: RSAKey, body: str) -> Iterator[str]:
    """Signatures under the right key whose padding is none that PKCS #1 allows, as lenient checks let through."""
    numbers = key.private_key.private_numbers()
    modulus, size = numbers.public_numbers.n, (numbers.public_numbers.n.bit_length() + 7) // 8
    digest = hashlib.sha256(body.encode()).digest()
    sha256 = bytes.fromhex("3031300d060960864801650304020105000420")
    no_null = bytes.fromhex("302f300b0609608648016503040201 0420".replace(" ", ""))
    sha1 = bytes.fromhex("3021300906052b0e03021a05000414")

    def filled(tail: bytes, filler: bytes = b"\xff", kind: bytes = b"\x01", behind: bytes = b"") -> bytes:
        return b"\x00" + kind + filler * (size - 3 - len(tail) - len(behind)) + b"\x00" + tail + behind

    for block in (
        filled(sha256 + digest, filler=b"\x00"),
        filled(sha256 + digest, filler=b"\xfe"),
        filled(sha256 + digest, kind=b"\x02"),
        filled(sha256 + digest, kind=b"\x00"),
        filled(no_null + digest),
        filled(digest),
        filled(sha1 + hashlib.sha1(body.encode()).digest()),
        filled(sha256 + digest, behind=b"\x00"),
        b"\x00\x01" + b"\xff" * 8 + b"\x00" + sha256 + digest + b"\x00" * (size - 11 - len(sha256 + digest)),
        b"\x00" * (size - len(digest)) + digest,
    ):
        yield encoded(pow(int.from_bytes(block), numbers.d, modulus).to_bytes(size))
    good = pow(int.from_bytes(filled(sha256 + digest)), numbers.d, modulus)
    yield encoded(b"\x00" + good.to_bytes(size))
    yield encoded((good + modulus).to_bytes(size + 1))
    yield encoded(modulus.to_bytes(size))
    for number in (0, 1, modulus - 1):
        yield encoded(number.to_bytes(size))


def forged_by_numbers(good: str) -> Iterator[str]:
    """Signatures for an elliptic curve that are none: zeros, the order of the group, another form."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    raw = base64.urlsafe_b64decode(good + "==")
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    for first, second in ((0, 0), (1, 0), (0, 1), (1, 1), (order, order), (r, 0), (0, s), (r, order), (s, r)):
        yield encoded(first.to_bytes(32) + second.to_bytes(32))
    yield encoded(encode_dss_signature(r, s))
    yield encoded(raw + b"\x00")
    yield encoded(raw[:-1])
    yield encoded(b"\x00" + raw[:32] + b"\x00" + raw[32:])


@pytest.mark.capability("a.role")
async def test_every_kind_of_the_public_attacks_on_signed_tokens_is_refused() -> None:
    """The kinds that the collections of attacks on JOSE list, made anew for keys of ours."""
    answers: dict[str, Any] = {}
    issuer = Listener(answers)
    rsa, curve = (
        RSAKey.generate_key(2048, {"kid": "rsa", "alg": "RS256", "use": "sig"}),
        ECKey.generate_key("P-256", {"kid": "curve", "alg": "ES256", "use": "sig"}),
    )
    for_encryption = RSAKey.generate_key(2048, {"kid": "enc", "alg": "RSA-OAEP", "use": "enc"})
    other = ECKey.generate_key("P-256", {"kid": "curve"})
    published = [key.as_dict(private=False) for key in (rsa, curve, for_encryption)]
    answers["/jwks"] = {"keys": published}
    verifier = Verifier(issuer.url, "crm-api")
    now = int(time.time())
    claims = {"iss": issuer.url, "sub": "a", "aud": "crm-api", "typ": "Bearer", "iat": now, "exp": now + 300}
    higher = part({**claims, "sub": "admin"})

    def signed(algorithm: str, key: Any, **header: Any) -> str:
        unbound = {
            name: value for name, value in key.as_dict(private=True).items() if name not in ("alg", "use")
        }
        head = {"alg": algorithm, "kid": key.kid, **header}
        return jwt.encode(head, claims, type(key).import_key(unbound), algorithms=[algorithm])

    good = {"RS256": signed("RS256", rsa), "ES256": signed("ES256", curve)}
    bad: list[str] = ["", ".", "..", "..."]
    for algorithm, token in good.items():
        assert (await verifier.verify(token))["sub"] == "a"
        header, payload, signature = token.split(".")
        key = rsa if algorithm == "RS256" else curve
        kid = {"alg": algorithm, "kid": key.kid}
        flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
        bad += [
            f"{header}.{payload}.{flipped}", f"{header}.{payload}.", f"{header}.{payload}", f"{header}.{higher}.{signature}",
            f"{header}..{signature}", f"{header}.{signature}", f"{part({**kid, 'x': 1})}.{payload}.{signature}",
            f".{payload}.{signature}", f"{payload}.{signature}", f".{payload}.", payload, f"{token}.", f"{token}.foo",
            f"{header}.{payload}.{signature}=", f"{header}.{payload}.{signature[:4]}\n{signature[4:]}",
            f"{header}.{payload}.{signature[:4]}!{signature[4:]}", f" {token}", f"{token} ",
            json.dumps({"payload": payload, "protected": header, "signature": signature}),
            json.dumps({"payload": payload, "signatures": [{"protected": header, "signature": signature}]}),
            f"{part({**kid, 'alg': 'none'})}.{payload}.", f"{part({'alg': 'none'})}.{payload}.{signature}",
            f"{part({'alg': algorithm})}.{payload}.{signature}", f"{part({**kid, 'kid': 'enc'})}.{payload}.{signature}",
            f"{part({**kid, 'kid': '../../dev/null'})}.{payload}.{signature}",
        ]  # fmt: skip
        for number in ("HS256", "HS384", "HS512"):
            body = f"{part({'alg': number, 'kid': key.kid})}.{payload}"
            public = key.as_dict(private=False)
            for secret in (
                key.as_pem(private=False), key.as_der(private=False), json.dumps(public).encode(),
                str(public.get("n") or public.get("x")).encode(), b"",
            ):  # fmt: skip
                digest = hmac.digest(secret, body.encode(), f"sha{number[2:]}")
                bad.append(f"{body}.{encoded(digest)}")
    # Right keys, used for what they are not: other algorithms, extensions that nobody understands.
    bad += [signed(algorithm, rsa) for algorithm in ("RS384", "RS512", "PS256", "PS384", "PS512")]
    bad += [signed("RS256", for_encryption), signed("ES256", other)]
    embedded = part({"alg": "ES256", "kid": "curve", "jwk": other.as_dict(private=False)})
    body = f"{embedded}.{part(claims)}"
    bad.append(f"{body}.{signed('ES256', other).rpartition('.')[2]}")
    header, payload, signature = good["RS256"].split(".")
    bad += [f"{header}.{payload}.{one}" for one in forged_by_padding(rsa, f"{header}.{payload}")]
    header, payload, signature = good["ES256"].split(".")
    bad += [f"{header}.{payload}.{one}" for one in forged_by_numbers(signature)]
    assert len(bad) > 110
    let_in: list[str] = []
    for token in bad:
        try:
            await verifier.verify(token)
        except Unauthenticated:
            continue
        let_in.append(token)
    assert let_in == []
    issuer.close()


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
