"""Whether the gateway lives, and whether it can serve."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

routes = APIRouter()


@routes.get("/healthz")
async def alive() -> Response:
    """The event loop turns; nothing else is asked."""
    return JSONResponse({"status": "alive"})


@routes.get("/readyz")
async def ready(request: Request) -> Response:
    """Routes are compiled, roles and the issuer's keys are known. A service that is away changes nothing here."""
    if request.app.state.ready():
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "starting"}, status_code=503)
