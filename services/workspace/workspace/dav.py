"""CalDAV (RFC 4791) as far as a calendar is read and written: what is there, its texts, and writes that say on what
version they rest."""

import re
from collections.abc import Sequence
from types import TracebackType
from typing import cast
from urllib.parse import quote, unquote, urljoin, urlsplit
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

import httpx
from crmkit.errors import FailedPrecondition
from defusedxml import DefusedXmlException, ElementTree

from workspace.mailboxes import check_peer
from workspace.model.mail_account import check_host

SECONDS = 10
LARGEST = 20 * 1024 * 1024
MOST_EVENTS = 10_000
HOPS = 3
PORTS = frozenset([443, 5232, 8443])
SLASH = re.compile("%2F", re.IGNORECASE)
DAV, CAL = "{DAV:}", "{urn:ietf:params:xml:ns:caldav}"
NAMES = 'xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"'


class Stale(Exception):
    """Somebody else has changed it."""


class Dav:
    """A calendar server, as one person. CALENDAR_UNREACHABLE, CALENDAR_AUTH_FAILED, CALENDAR_MISSING."""

    def __init__(self, url: str, user: str, password: str, environment: str) -> None:
        self._url, self._environment = url, environment
        self._client = httpx.AsyncClient(auth=(user, password), timeout=SECONDS, trust_env=False)

    async def __aenter__(self) -> "Dav":
        parts = urlsplit(self._url)
        check_url(self._url, self._environment)
        try:
            check_peer(parts.hostname or "", parts.port or 443, self._environment)
        except FailedPrecondition as problem:
            reason = problem.reason.replace("MAIL_", "CALENDAR_")
            raise FailedPrecondition(reason, **problem.metadata) from None
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._client.aclose()

    async def calendar(self) -> str:
        """The calendar at the address, or the first one of the person who signs in."""
        wanted = "<d:resourcetype/><d:current-user-principal/><c:calendar-home-set/>"
        where = self._url
        for _ in range(HOPS):
            answer = next(iter((await self._properties(where, wanted, "0")).values()), Element("prop"))
            if answer.find(f"{DAV}resourcetype/{CAL}calendar") is not None:
                return where
            if (home := answer.findtext(f"{CAL}calendar-home-set/{DAV}href")) is not None:
                listed = await self._properties(self._same(home.strip()), "<d:resourcetype/>", "1")
                found = [
                    at
                    for at, one in listed.items()
                    if one.find(f"{DAV}resourcetype/{CAL}calendar") is not None
                ]
                if found:
                    return found[0]
                break
            principal = answer.findtext(f"{DAV}current-user-principal/{DAV}href")
            if principal is None:
                break
            where = self._same(principal.strip())
        raise FailedPrecondition("CALENDAR_MISSING", detail=self._url)

    async def etags(self, calendar: str) -> dict[str, str]:
        """What is in the calendar, and of which version."""
        listed = await self._properties(calendar, "<d:getetag/><d:resourcetype/>", "1")
        if len(listed) > MOST_EVENTS:
            raise FailedPrecondition("CALENDAR_MISSING", detail=f"> {MOST_EVENTS}")
        return {
            where: (one.findtext(f"{DAV}getetag") or "").strip()
            for where, one in listed.items()
            if where.rstrip("/") != calendar.rstrip("/")
            and one.find(f"{DAV}resourcetype/{DAV}collection") is None
        }

    async def texts(self, calendar: str, wanted: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Version and text of each that is there."""
        hrefs = "".join(f"<d:href>{escape(urlsplit(one).path)}</d:href>" for one in wanted)
        body = f"<c:calendar-multiget {NAMES}><d:prop><d:getetag/><c:calendar-data/></d:prop>{hrefs}</c:calendar-multiget>"
        found = await self._xml("REPORT", calendar, body, "1")
        return {
            where: ((one.findtext(f"{DAV}getetag") or "").strip(), text)
            for where, one in found.items()
            if (text := one.findtext(f"{CAL}calendar-data"))
        }

    async def put(self, where: str, text: str, etag: str) -> str:
        """Writes over one version, or what is new; the version that it has then, empty where the server does not say."""
        condition = {"if-match": etag} if etag else {"if-none-match": "*"}
        answer = await self._send(
            "PUT", where, text, {"content-type": "text/calendar; charset=utf-8", **condition}
        )
        if answer.status_code in {404, 409, 412}:
            raise Stale
        return answer.headers.get("etag", "")

    async def delete(self, where: str, etag: str) -> None:
        """Takes one version away; what is gone already is well."""
        answer = await self._send("DELETE", where, "", {"if-match": etag} if etag else {})
        if answer.status_code == 412:
            raise Stale

    async def _properties(self, where: str, wanted: str, depth: str) -> dict[str, Element]:
        body = f"<d:propfind {NAMES}><d:prop>{wanted}</d:prop></d:propfind>"
        return await self._xml("PROPFIND", where, body, depth)

    async def _xml(self, method: str, where: str, body: str, depth: str) -> dict[str, Element]:
        headers = {"content-type": "application/xml; charset=utf-8", "depth": depth}
        answer = await self._send(method, where, f'<?xml version="1.0" encoding="utf-8"?>{body}', headers)
        if answer.status_code != 207:
            raise FailedPrecondition("CALENDAR_MISSING", detail=f"{method} {where}: {answer.status_code}")
        try:
            root = cast("Element", ElementTree.fromstring(answer.content))
        except (ParseError, DefusedXmlException) as error:
            raise FailedPrecondition("CALENDAR_MISSING", detail=str(error)[:200]) from None
        found: dict[str, Element] = {}
        for response in root.findall(f"{DAV}response"):
            good = [
                one
                for one in response.findall(f"{DAV}propstat")
                if " 200" in (one.findtext(f"{DAV}status") or "")
            ]
            if (
                (href := response.findtext(f"{DAV}href"))
                and good
                and (prop := good[0].find(f"{DAV}prop")) is not None
            ):
                found[self._same(href.strip())] = prop
        return found

    async def _send(self, method: str, where: str, body: str, headers: dict[str, str]) -> httpx.Response:
        answer = await self._once(method, where, body, headers)
        for _ in range(HOPS):
            if answer.has_redirect_location:
                # A server sends to its own pages alone: the password is for nobody else.
                answer = await self._once(method, self._same(answer.headers["location"]), body, headers)
        said = f"{answer.status_code} {answer.reason_phrase}"
        if answer.status_code in {401, 403}:
            raise FailedPrecondition("CALENDAR_AUTH_FAILED", detail=said)
        if answer.status_code >= 500 or answer.status_code == 429 or answer.has_redirect_location:
            raise FailedPrecondition("CALENDAR_UNREACHABLE", detail=said)
        return answer

    async def _once(self, method: str, where: str, body: str, headers: dict[str, str]) -> httpx.Response:
        content = bytearray()
        try:
            async with self._client.stream(method, where, content=body.encode(), headers=headers) as answer:
                async for piece in answer.aiter_bytes():
                    content += piece
                    if len(content) > LARGEST:
                        raise FailedPrecondition("CALENDAR_UNREACHABLE", detail=f"> {LARGEST >> 20} MB")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise FailedPrecondition("CALENDAR_UNREACHABLE", detail=repr(error)[:200]) from None
        # The content is decoded: it bears no encoding and no length of before.
        kept = {key: value for key, value in answer.headers.items() if not key.startswith("content-")}
        return httpx.Response(answer.status_code, headers=kept, content=bytes(content))

    def _same(self, href: str) -> str:
        """The address of what the server names, on the server itself."""
        found, own = urlsplit(urljoin(self._url, href)), urlsplit(self._url)
        if (found.scheme, found.netloc) != (own.scheme, own.netloc):
            raise FailedPrecondition("HOST_NOT_ALLOWED", host=found.netloc[:200])
        # One address for each: servers write the same path with other characters escaped.
        pieces = [quote(unquote(piece), safe="/@:!$&'()*+,;=~") for piece in SLASH.split(found.path)]
        return found._replace(path="%2F".join(pieces)).geturl()


def check_url(url: str, environment: str) -> None:
    """Refuses what is no way to a server of others by TLS. HOST_NOT_ALLOWED, TLS_REQUIRED."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise FailedPrecondition("HOST_NOT_ALLOWED", host=url[:200]) from None
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.password:
        raise FailedPrecondition("HOST_NOT_ALLOWED", host=url[:200])
    if environment != "local" and parts.scheme != "https":
        raise FailedPrecondition("TLS_REQUIRED")
    check_host(host, port or 443, environment == "local", PORTS)
