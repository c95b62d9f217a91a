"""A little payment service to try the web shop with: a page on which one pays without money, and the report of it.

The contract is that of `crmkit.paying`, which an adapter of a real service keeps too. `python -m local_platform.pay --report
http://…/v1/payments:report --key …` serves it; the platform runs with `PAY_URL=http://127.0.0.1:7491/pay` and the same `PAY_KEY`.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode
from uuid import uuid4

import httpx
import uvicorn
from crmkit.paying import LINKED, REPORTED, instant, signature, signed
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

Report = Callable[[dict[str, Any]], Awaitable[None]]
METHODS = {"CARD": "银行卡 Card", "WECHAT": "微信 WeChat", "ALIPAY": "支付宝 Alipay"}
PAGE = """<!doctype html><meta charset="utf-8"><title>支付 Pay</title><main style="font: 16px sans-serif; margin: 3rem">
<h1>支付 Pay</h1><p>{title}</p><p><strong>{amount} {currency}</strong></p>
<form method="post" action="?{query}">{buttons}</form></main>"""


class PaymentService:
    """Shows what is to be paid, takes it once for each reference, and tells the platform."""

    def __init__(self, key: str, report: Report) -> None:
        self._key, self._report = key, report
        self._paid: dict[str, dict[str, Any]] = {}

    def app(self) -> Starlette:
        """What answers on the port."""
        return Starlette(
            routes=[
                Route("/pay", self._show, methods=["GET"]),
                Route("/pay", self._take, methods=["POST"]),
            ]
        )

    async def _show(self, request: Request) -> Response:
        if not self._ours(request):
            return HTMLResponse("这个链接无效或已过期。 This link is not valid any more.", status_code=400)
        buttons = "".join(
            f'<button name="method" value="{name}">{label}</button> ' for name, label in METHODS.items()
        )
        shown = {name: html.escape(request.query_params[name]) for name in ("title", "amount", "currency")}
        return HTMLResponse(
            PAGE.format(query=html.escape(str(request.query_params)), buttons=buttons, **shown)
        )

    async def _take(self, request: Request) -> Response:
        if not self._ours(request):
            return HTMLResponse("这个链接无效或已过期。 This link is not valid any more.", status_code=400)
        asked, form = request.query_params, parse_qs((await request.body()).decode())
        reference, method = asked["reference"], form.get("method", ["CARD"])[0]
        # Pressed twice it is paid once, and told again.
        if reference not in self._paid:
            now = datetime.now(UTC)
            values = (
                reference,
                f"pay-{uuid4().hex}",
                method,
                asked["amount"],
                asked["currency"],
                instant(now),
            )
            told = dict(zip(REPORTED, values, strict=True))
            self._paid[reference] = {
                **{name: told[name] for name in ("reference", "providerPayment", "method")},
                "amount": {"currencyCode": asked["currency"], "amount": asked["amount"]},
                "time": now.isoformat(), "signature": signature(self._key, values),
            }  # fmt: skip
        await self._report(self._paid[reference])
        back = asked.get("back", "")
        if not back.startswith(("http://", "https://")):
            return HTMLResponse("已付款。 Paid.")
        return RedirectResponse(
            f"{back}{'&' if '?' in back else '?'}{urlencode({'paid': '1'})}", status_code=303
        )

    def _ours(self, request: Request) -> bool:
        asked = request.query_params
        parts = [asked.get(name, "") for name in LINKED]
        fresh = asked.get("until", "0") >= instant(datetime.now(UTC))
        return signed(self._key, parts, asked.get("signature", "")) and fresh

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """Serves on a port of this machine, any free one if 0; gives the address of the page."""
        server = _Server(uvicorn.Config(self.app(), log_config=None, access_log=False, lifespan="off"))
        listening = socket.create_server(("127.0.0.1", port))
        task = asyncio.create_task(server.serve([listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/pay"
        finally:
            server.should_exit = True
            await task


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        # Signals belong to whoever starts this server.
        return nullcontext()


def over_http(url: str) -> Report:
    """Tells the platform through its front door; what it does not take yet is told again."""

    async def report(told: dict[str, Any]) -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            for pause in (1, 2, 4, 8, 16, 0):
                answer = await client.post(url, json=told)
                if answer.is_success:
                    return
                await asyncio.sleep(pause)
        answer.raise_for_status()

    return report


async def _serve(port: int, key: str, report: Report) -> None:
    async with PaymentService(key, report).serving(port) as address:
        print(f"payment page at {address}")
        await asyncio.Event().wait()


if __name__ == "__main__":
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--port", type=int, default=7491)
    options.add_argument("--report", required=True, help="http://…/v1/payments:report")
    options.add_argument("--key", required=True, help="the PAY_KEY of the platform")
    given = options.parse_args()
    asyncio.run(_serve(given.port, given.key, over_http(given.report)))
