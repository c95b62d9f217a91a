"""What a payment service and the platform sign for each other."""

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

from crmkit.paying import LINKED, instant, link, signature, signed


def test_a_link_to_pay_says_what_for_and_bears_a_signature_that_no_other_text_has() -> None:
    asked = {
        "reference": "quotes/1", "title": "Q-1", "amount": "226.00", "currency": "CNY", "until": "1795000000",
    }  # fmt: skip
    query = parse_qs(urlsplit(link("https://pay.example/checkout", "key", asked)).query)
    told = {name: values[0] for name, values in query.items()}
    assert {name: told[name] for name in LINKED} == asked
    parts = [told[name] for name in LINKED]
    assert signed("key", parts, told["signature"])
    assert not signed("key", [*parts[:2], "2.26", *parts[3:]], told["signature"])
    assert not signed("other", parts, told["signature"])
    # Without a key nothing is signed, not even with none.
    assert not signed("", parts, signature("", parts))


def test_an_instant_is_signed_alike_in_every_zone() -> None:
    here = datetime(2026, 11, 22, 18, tzinfo=UTC)
    assert instant(here) == instant(here.astimezone(timezone(timedelta(hours=8))))
