"""Texts that only this installation reads: passwords of other systems, and tokens that come back unchanged."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from secrets import token_bytes

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = 12


def seal(text: str, purpose: str, secret: bytes) -> str:
    """The text sealed for a purpose: what was sealed for another one does not open."""
    nonce = token_bytes(NONCE)
    sealed = AESGCM(secret).encrypt(nonce, text.encode(), purpose.encode())
    return urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()


def unseal(sealed: str, purpose: str, secret: bytes) -> str:
    """The text; ValueError for what is bent, sealed for another purpose or by another key."""
    try:
        raw = urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        return AESGCM(secret).decrypt(raw[:NONCE], raw[NONCE:], purpose.encode()).decode()
    except InvalidTag:
        raise ValueError("sealed for another purpose, by another key, or bent") from None
