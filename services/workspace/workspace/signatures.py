"""What devices sign without a network: ECDSA over P-256 and SHA-256, as WebCrypto makes it."""

from base64 import b64decode

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

HALF = 32


def public_key(text: str) -> ec.EllipticCurvePublicKey:
    """The key that a DER text in base64 holds; ValueError where it is none of P-256."""
    try:
        key = load_der_public_key(b64decode(text, validate=True))
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError
    return key


def signs(key: str, content: bytes, signature: str) -> bool:
    """Whether the key has signed the content; the signature is r and s of 32 bytes each, in base64."""
    try:
        raw = b64decode(signature, validate=True)
        halves = (int.from_bytes(part) for part in (raw[:HALF], raw[HALF:]))
        public_key(key).verify(encode_dss_signature(*halves), content, ec.ECDSA(SHA256()))
    except (ValueError, InvalidSignature):
        return False
    return len(raw) == 2 * HALF
