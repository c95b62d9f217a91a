"""What the payment service and the platform tell each other, signed with the key that both have (`PAY_KEY`).

The platform sends a buyer to `PAY_URL?reference=…&title=…&amount=…&currency=…&until=…&signature=…`. The service tells of
the payment by `POST /v1/payments:report` with what `reported` signs, as often as it likes until it is taken.
"""

import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime
from urllib.parse import urlencode

LINKED = ("reference", "title", "amount", "currency", "until")
REPORTED = ("reference", "providerPayment", "method", "amount", "currency", "time")


def signature(key: str, parts: Iterable[str]) -> str:
    """The HMAC-SHA256 of the parts, each on a line of its own."""
    return hmac.new(key.encode(), "\n".join(parts).encode(), "sha256").hexdigest()


def signed(key: str, parts: Iterable[str], told: str) -> bool:
    """Whether somebody who has the key has signed the parts. Without a key nobody has."""
    return bool(key) and hmac.compare_digest(signature(key, parts), told)


def link(page: str, key: str, asked: Mapping[str, str]) -> str:
    """The address of the page where somebody pays what is `asked`."""
    return f"{page}?{urlencode({**asked, 'signature': signature(key, [asked[name] for name in LINKED])})}"


def instant(time: datetime) -> str:
    """An instant as it is signed: seconds since 1970, which nobody writes in two ways."""
    return str(round(time.timestamp()))
