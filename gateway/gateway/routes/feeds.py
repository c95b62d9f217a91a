"""Calendars that other programs subscribe to. The address is the secret, so it is neither logged nor cached by others."""

import json
import re

from crmkit.json import JsonCodec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.errors import LOCALES, Refusal
from gateway.rest import READ_SECONDS
from gateway.surroundings import Surroundings

MESSAGES = "crm.workspace.v1"
READ = f"{MESSAGES}.ReadCalendarFeedRequest"
REPLY = f"{MESSAGES}.ReadCalendarFeedResponse"
SECRET = re.compile(r"[A-Za-z0-9_-]{40,60}")
HEADERS = {"cache-control": "private, max-age=300", "content-disposition": "inline; filename=calendar.ics"}


def router(around: Surroundings, codec: JsonCodec) -> APIRouter:
    """The one route of feeds."""
    routes = APIRouter(prefix="/feeds")

    @routes.get("/{secret}.ics")
    async def read(request: Request, secret: str) -> Response:
        """The calendar of a secret address."""
        exchange = request.scope["exchange"]
        exchange.label = "GET /feeds"
        if not SECRET.fullmatch(secret):
            raise Refusal("NOT_FOUND", "NOT_FOUND")
        message = codec.from_value(READ, {"secret": secret})
        metadata = [("accept-language", LOCALES[exchange.language]), ("traceparent", exchange.traceparent)]
        rpc = f"/{MESSAGES}.WorkspaceService/ReadCalendarFeed"
        reply, _ = await around.upstream.call("workspace", rpc, message, metadata, READ_SECONDS)
        content: str = json.loads(codec.to_json(REPLY, reply)).get("content", "")
        return Response(content, media_type="text/calendar; charset=utf-8", headers=HEADERS)

    return routes
