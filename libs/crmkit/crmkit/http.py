"""HTTP clients that read the machine's certificate authorities once something is asked over TLS.

They are 10 to 20 MB of a process, of which nothing inside a cluster or a machine has any use.
"""

import ssl
from typing import Any
from urllib.request import getproxies

import httpx


def client(**settings: Any) -> httpx.AsyncClient:
    """A client that follows no redirects and trusts the machine's authorities, or those of SSL_CERT_FILE."""
    if settings.get("trust_env", True) and getproxies():
        # Whatever is asked may go over TLS, and by whom the environment says.
        return httpx.AsyncClient(follow_redirects=False, **settings)
    return httpx.AsyncClient(
        follow_redirects=False, verify=False, mounts={"https://": _Verified()}, **settings
    )


class _Verified(httpx.AsyncBaseTransport):
    """TLS with authorities, from the first request on."""

    def __init__(self) -> None:
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._transport is None:
            self._transport = httpx.AsyncHTTPTransport(verify=ssl.create_default_context())
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()
