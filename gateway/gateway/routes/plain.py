"""Pages for people without the client: they load nothing, run nothing, and are kept by nobody."""

import json
import secrets
from html import escape

from fastapi import Request
from fastapi.responses import HTMLResponse
from grpc.aio import AioRpcError

from gateway.errors import Errors, Refusal

MOST_BYTES = 8000
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{border:1px solid #ccc;padding:.3rem;text-align:left;word-break:break-word}"
    "textarea,input{width:100%;font:inherit}textarea{height:5rem}"
    "button{font:inherit;padding:.6rem 1.4rem;margin:.5rem .5rem 0 0}"
)


def language(request: Request) -> str:
    """ "en" or "zh"."""
    return "en" if request.scope["exchange"].language == "en" else "zh"


def page(request: Request, title: str, content: str, status: int = 200) -> HTMLResponse:
    """A page of trusted content."""
    nonce = secrets.token_urlsafe(16)
    text = (
        f'<!doctype html><html lang="{language(request)}"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        f'<style nonce="{nonce}">{STYLE}</style></head><body><main>{content}</main></body></html>'
    )
    policy = f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; frame-ancestors 'none'"
    headers = {
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "content-security-policy": policy,
    }
    return HTMLResponse(text, status, headers)


def refused(request: Request, title: str, error: AioRpcError, errors: Errors, more: str = "") -> HTMLResponse:
    """Why it cannot be, in words and not as JSON."""
    exchange = request.scope["exchange"]
    status, _, refusal = errors.rpc(error, exchange.language, exchange.traceparent)
    said = escape(json.loads(refusal)["error"]["message"])
    return page(request, title, f'<h1>{title}</h1><p role="alert">{said}</p>{more}', status)


async def body(request: Request) -> str:
    """What a form sends, at most a few thousand bytes."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MOST_BYTES:
            raise Refusal("RESOURCE_EXHAUSTED", "TOO_LARGE", limit=str(MOST_BYTES))
    return raw.decode(errors="replace")
