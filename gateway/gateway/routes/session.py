"""Signing in and out of a browser, and who is signed in."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from gateway.errors import Refusal
from gateway.principals import ApiKeys
from gateway.sessions import Session, Sessions
from gateway.settings import Settings
from gateway.surroundings import Surroundings


def router(sessions: Sessions, keys: ApiKeys, around: Surroundings, settings: Settings) -> APIRouter:
    """The routes below /session."""
    witness = around.witness
    routes = APIRouter(prefix="/session")

    @routes.get("")
    async def who(request: Request) -> Response:
        """Who is signed in, with roles, permissions and data scope; `signedIn: false` where nobody is."""
        session = await sessions.of(request.scope)
        if session is None:
            return _json({"signedIn": False})
        witness.seen(session, request.scope)
        claims = session.claims()
        caller = await around.authenticate(session.access_token)
        return _json(
            {
                "signedIn": True,
                "employee": caller.employee,
                "account": caller.account,
                "contact": claims.get("contact") or "",
                "displayName": caller.display_name,
                "roles": sorted(caller.roles),
                # Colleagues see who has which role; what it permits is for those who read roles.
                "roleNames": {} if caller.account else _names(around.prefix("role.")),
                "permissions": sorted(caller.permissions),
                "scope": caller.scope.value,
                "locale": claims.get("locale") or "zh-CN",
                "csrf": session.csrf,
                "session": f"sessions/{session.id}" if session.id else "",
            }
        )

    @routes.get("/sign-in")
    async def sign_in(request: Request, return_to: str = "/") -> Response:
        """Sends the browser to the provider; afterwards it comes back to `return_to`, a path of this site.

        Who is signed in already has come to do what wants a second factor.
        """
        local = return_to.startswith("/") and not return_to.startswith(("//", "/\\"))
        target = return_to if local else "/"
        back, known = (
            f"{_base(request, settings)}/session/callback",
            await _found(sessions, request.scope) is not None,
        )
        url, cookies = await sessions.begin(target, back, step_up=known)
        return _redirect(url, cookies)

    @routes.get("/callback")
    async def callback(request: Request, code: str = "", state: str = "") -> Response:
        """The provider sends the browser here with a code."""
        before = sessions.known(request.scope)
        try:
            path, cookies, session = await sessions.complete(request.scope, code, state)
        except Refusal as refusal:
            witness.sign_in_refused("", refusal.reason, request.scope)
            raise
        if session is not None:
            witness.signed_in(session, before, request.scope)
        return _redirect(path, cookies)

    @routes.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        """Ends the session here and at the provider."""
        response = _json({"signedIn": False})
        session = await sessions.of(request.scope)
        response.raw_headers.extend(await sessions.end(request.scope))
        if session is not None:
            witness.signed_out(session, request.scope)
        return response

    @routes.get("/jwks")
    async def jwks() -> Response:
        """The key that signs the tokens which stand for partners' keys."""
        return JSONResponse(keys.jwks(), headers={"cache-control": "public, max-age=300"})

    return routes


def _names(roles: Mapping[str, Any]) -> dict[str, Any]:
    return {code: role["label"] for code, role in sorted(roles.items()) if "label" in role}


async def _found(sessions: Sessions, scope: Any) -> Session | None:
    try:
        return await sessions.of(scope)
    except Refusal:
        # What has run out, or was ended by others, is no session.
        return None


def _base(request: Request, settings: Settings) -> str:
    return settings.public_url.rstrip("/") or f"{request.url.scheme}://{request.url.netloc}"


def _json(value: Any) -> JSONResponse:
    return JSONResponse(value, headers={"cache-control": "no-store"})


def _redirect(url: str, cookies: list[tuple[bytes, bytes]]) -> Response:
    response = RedirectResponse(url, status_code=303, headers={"cache-control": "no-store"})
    response.raw_headers.extend(cookies)
    return response
