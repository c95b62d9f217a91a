"""The payment service that the web shop is tried with."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from crmkit.paying import LINKED, REPORTED, instant, link, signature, signed
from local_platform.pay import PaymentService

KEY = "agreed"


def asked(until: datetime) -> dict[str, str]:
    return {
        "reference": "quotes/1", "title": "Q-1", "amount": "226.00", "currency": "CNY", "until": instant(until),
    }  # fmt: skip


async def test_who_pays_is_sent_back_and_the_platform_is_told_once_more_of_the_same_payment() -> None:
    told: list[dict[str, Any]] = []

    async def report(one: dict[str, Any]) -> None:
        told.append(one)

    tomorrow = datetime.now(UTC) + timedelta(days=1)
    page = link("http://pay.example/pay", KEY, asked(tomorrow))
    transport = httpx.ASGITransport(PaymentService(KEY, report).app())
    async with httpx.AsyncClient(transport=transport) as client:
        shown = await client.get(page)
        assert shown.status_code == 200 and "226.00 CNY" in shown.text and "Q-1" in shown.text
        for _ in range(2):
            answer = await client.post(
                f"{page}&back=http://shop.example/shop?order=1", data={"method": "WECHAT"}
            )
            assert parse_qs(urlsplit(answer.headers["location"]).query)["paid"] == ["1"]
        # Another amount, another key, too late: there is nothing to be paid.
        for wrong in (
            page.replace("226.00", "2.26"),
            link("http://pay.example/pay", "other", asked(tomorrow)),
            link("http://pay.example/pay", KEY, asked(datetime.now(UTC) - timedelta(days=1))),
        ):
            assert (await client.get(wrong)).status_code == (await client.post(wrong)).status_code == 400
    assert len(told) == 2 and told[0] == told[1]
    one = told[0]
    values = {**one, "amount": one["amount"]["amount"], "currency": one["amount"]["currencyCode"]}
    values["time"] = instant(datetime.fromisoformat(one["time"]))
    assert signed(KEY, [values[name] for name in REPORTED], one["signature"])
    assert [values[name] for name in LINKED[:1]] == ["quotes/1"] and one["method"] == "WECHAT"
    assert not signed(KEY, ["x"], signature("other", ["x"]))
