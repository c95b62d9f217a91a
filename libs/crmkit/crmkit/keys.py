"""API keys of partners: `crm_<environment>_<id of 8>_<secret of 43>_<checksum of 8>`.

The text is shown once; kept are the id and an HMAC of the secret under a pepper made from
`SECRET_KEY`. `workspace` makes keys, the gateway checks them; both do it here.
"""

import base64
import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass

_FORM = re.compile(r"crm_([a-z]{1,16})_([0-9a-z]{8})_([A-Za-z0-9_-]{43})_([0-9a-f]{8})")
_ID_CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key in its parts; `str()` gives the text that its holder sends."""

    environment: str
    id: str
    secret: str

    @classmethod
    def make(cls, environment: str) -> "ApiKey":
        """A new key with 256 random bits."""
        key_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(8))
        return cls(
            environment, key_id, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        )

    @classmethod
    def parse(cls, text: str) -> "ApiKey | None":
        """The key of a text; None where its form or checksum is wrong."""
        match = _FORM.fullmatch(text)
        if match is None:
            return None
        key = cls(match[1], match[2], match[3])
        return key if str(key) == text else None

    def digest(self, secret_key: str) -> str:
        """What is kept of the secret."""
        pepper = hmac.digest(secret_key.encode(), b"api key pepper", hashlib.sha256)
        return hmac.digest(pepper, self.secret.encode(), hashlib.sha256).hex()

    def __str__(self) -> str:
        body = f"crm_{self.environment}_{self.id}_{self.secret}"
        return f"{body}_{zlib.crc32(body.encode()):08x}"
