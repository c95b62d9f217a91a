"""How many rows somebody pages out of lists in an hour: whole lists leave by an export, with a purpose and a decision."""

from collections.abc import Awaitable, Callable
from time import monotonic

from crmkit.auth import Caller

from gateway.errors import Refusal
from gateway.principals import Principal
from gateway.witness import actor_of

HOUR = 3600.0
MOST_ROWS = 5000
MOST_PEOPLE = 20_000
PERMISSION = "workspace.exports.create"


class Pages:
    """Counts rows of second and later pages, over all collections, in this process; keys have quotas of their own."""

    def __init__(self, authenticate: Callable[[str], Awaitable[Caller]]) -> None:
        self._authenticate = authenticate
        self._rows: dict[str, tuple[float, int]] = {}

    async def check(self, principal: Principal) -> None:
        """EXPORT_REQUIRED for who has had enough of an hour and may not export."""
        if principal.bucket.startswith("apiKeys/"):
            return
        began, rows = self._rows.get(self._person(principal), (0.0, 0))
        if rows < MOST_ROWS or monotonic() - began > HOUR:
            return
        caller = await self._authenticate(principal.authorization.removeprefix("Bearer "))
        if not caller.may(PERMISSION):
            wait = str(max(1, round(HOUR - (monotonic() - began)))).encode()
            raise Refusal("RESOURCE_EXHAUSTED", "EXPORT_REQUIRED", headers=[(b"retry-after", wait)])

    def count(self, principal: Principal, reply: bytes) -> None:
        """Adds the rows of a page."""
        person, now = self._person(principal), monotonic()
        began, rows = self._rows.pop(person, (now, 0))
        if now - began > HOUR:
            began, rows = now, 0
        if len(self._rows) >= MOST_PEOPLE:
            for stale in list(self._rows)[: MOST_PEOPLE // 10]:
                del self._rows[stale]
        self._rows[person] = began, rows + rows_of(reply)

    def _person(self, principal: Principal) -> str:
        return actor_of(principal.authorization.removeprefix("Bearer "))


def rows_of(reply: bytes) -> int:
    """The entries of the list that a reply of a list method begins with (field 1), without reading them."""
    rows = at = 0
    while at < len(reply) and reply[at] == 0x0A:
        at, length, shift = at + 1, 0, 0
        while True:
            byte = reply[at]
            at, length, shift = at + 1, length | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
        at, rows = at + length, rows + 1
    return rows
