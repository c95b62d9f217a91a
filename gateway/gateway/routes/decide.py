"""The page behind the link of a mail that asks for a decision. To open it decides nothing; its two buttons do.

The address is the secret: it is neither logged nor kept by others.
"""

import json
import re
from html import escape
from typing import Any
from urllib.parse import parse_qs

from crmkit.json import JsonCodec
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from grpc.aio import AioRpcError

from gateway.errors import LOCALES, Errors, Refusal
from gateway.rest import READ_SECONDS, WRITE_SECONDS
from gateway.routes import plain
from gateway.surroundings import Surroundings

MESSAGES = "crm.workspace.v1"
READ, DECIDE = f"{MESSAGES}.ReadDecisionLinkRequest", f"{MESSAGES}.DecideByLinkRequest"
REPLY = f"{MESSAGES}.ReadDecisionLinkResponse"
TOKEN = re.compile(r"[A-Za-z0-9_-]{40,1000}")
VOTES = frozenset(["AGREED", "REFUSED"])
COLUMNS = ("field", "before", "after")
WORDS = {
    "zh": {
        "title": "审批", "asks": "申请人", "you": "审批人", "field": "字段", "before": "变更前", "after": "变更后",
        "reason": "意见（拒绝时必填）", "agree": "同意", "refuse": "拒绝", "done": "已记录您的决定。",
    },
    "en": {
        "title": "Approval", "asks": "Asked by", "you": "Decided by", "field": "Field", "before": "Before",
        "after": "After", "reason": "Remark (needed to refuse)", "agree": "Approve", "refuse": "Reject",
        "done": "Your decision is recorded.",
    },
}  # fmt: skip


def router(around: Surroundings, codec: JsonCodec, errors: Errors) -> APIRouter:
    """The page and what its buttons do."""
    routes = APIRouter(prefix="/decide")

    async def ask(request: Request, method: str, kind: str, body: dict[str, str]) -> HTMLResponse:
        exchange = request.scope["exchange"]
        exchange.label = f"{request.method} /decide"
        if not TOKEN.fullmatch(body["token"]):
            raise Refusal("NOT_FOUND", "NOT_FOUND")
        done, words = method == "DecideByLink", WORDS[plain.language(request)]
        metadata = [("accept-language", LOCALES[exchange.language]), ("traceparent", exchange.traceparent)]
        message, seconds = codec.from_value(kind, body), WRITE_SECONDS if done else READ_SECONDS
        rpc = f"/{MESSAGES}.WorkspaceService/{method}"
        try:
            reply, _ = await around.upstream.call("workspace", rpc, message, metadata, seconds)
        except AioRpcError as error:
            return plain.refused(request, words["title"], error, errors)
        told: dict[str, Any] = json.loads(codec.to_json(REPLY, reply))
        return plain.page(request, words["title"], _content(told, words, done))

    @routes.get("/{token}")
    async def show(request: Request, token: str) -> HTMLResponse:
        """What is asked, and the two buttons."""
        return await ask(request, "ReadDecisionLink", READ, {"token": token})

    @routes.post("/{token}")
    async def decide(request: Request, token: str) -> HTMLResponse:
        """Decides once."""
        form = parse_qs(await plain.body(request))
        vote, reason = form.get("vote", [""])[0], form.get("reason", [""])[0]
        if vote not in VOTES:
            raise Refusal("INVALID_ARGUMENT", "MALFORMED", detail="vote")
        body = {"token": token, "vote": vote, "reason": reason[:1000]}
        return await ask(request, "DecideByLink", DECIDE, body)

    return routes


def _content(told: dict[str, Any], words: dict[str, str], done: bool) -> str:
    """What is asked for, and the buttons or that it is done."""
    rows = [
        "".join(f"<td>{escape(str(one.get(key, '')))}</td>" for key in COLUMNS)
        for one in told.get("changes", [])
    ]
    heads = "".join(f"<th>{words[key]}</th>" for key in COLUMNS)
    table = f"<table><tr>{heads}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>" if rows else ""
    form = (
        f'<form method="post"><label>{words["reason"]}<textarea name="reason" maxlength="1000"></textarea></label>'
        f'<button name="vote" value="AGREED">{words["agree"]}</button>'
        f'<button name="vote" value="REFUSED">{words["refuse"]}</button></form>'
    )
    people = f"{words['asks']}: {escape(told.get('requester', ''))} · {words['you']}: {escape(told.get('approver', ''))}"
    end = f'<p role="status">{words["done"]}</p>' if done else form
    return f"<h1>{escape(told.get('displayName', ''))}</h1><p>{people}</p>{table}{end}"
