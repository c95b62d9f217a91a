"""What the gateway alone sees, told as facts: who signed in, who was refused, which key called, which file left.

    tell / count → waiting facts → JetStream, acknowledged → workspace's audit

The gateway has no database, so what waits is kept in memory: while NATS is away up to `MOST_WAITING` facts, and with
the process they end. Nobody waits for it: an audit that is away never keeps anybody from signing in.
"""

# pyright: reportUnknownMemberType=false
# The NATS client tells the types of some of its methods only in part.

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from crm.gateway.v1 import gateway_pb2 as pb
from crmkit.background import forever
from crmkit.bus import Bus
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from nats.errors import Error as NatsError
from uuid_utils.compat import uuid7

from gateway.sessions import Session, claims_of

COUNT_SECONDS = 60.0
SEND_SECONDS = 0.2
END_SECONDS = 3.0
MOST_WAITING = 20_000
MOST_COUNTED = 5_000
MOST_SEEN = 500
LONGEST_DEVICE = 200
# By this an app that has no cookies says which device it runs on.
DEVICE_HEADER = b"x-device"
# What is no try to get at something: a session that has run out, a page opened before signing in.
COMMON = frozenset({"SESSION_EXPIRED"})

log = logging.getLogger("gateway.witness")


class Told(NamedTuple):
    """A fact that waits to be sent."""

    message: Message
    about: str
    actor: str
    time: datetime
    id: str


class Witness:
    """Collects the facts of one gateway process, and sends them while `run` runs."""

    def __init__(self) -> None:
        self.waiting: deque[Told] = deque()
        self._seen: dict[str, pb.SeenSession] = {}
        # Sessions of clients without a cookie that were told.
        self._known: set[str] = set()
        self._counts: dict[tuple[str, ...], tuple[int, datetime]] = {}
        # The connection on which the stream was last seen to.
        self._stream_on = 0

    def tell(self, message: Message, about: str, actor: str) -> None:
        """Has the fact sent as soon as may be."""
        if len(self.waiting) >= MOST_WAITING:
            log.error("a fact of the gateway is lost: too many wait to be sent")
            return
        self.waiting.append(Told(message, about, actor, datetime.now(UTC), str(uuid7())))

    def signed_in(self, session: Session, before: Session | None, scope: Any) -> None:
        """A session was opened, and takes the place of the one that the browser had before."""
        person, claims = actor_of(session.access_token), session.claims()
        groups = [str(one) for name in ("groups", "roles") for one in claims.get(name) or ()]
        replaces = before.id if before is not None and before.id != session.id else ""
        fact = pb.SignedIn(
            person=person, method="browser", groups=groups, session=_seen(session, scope), replaces=replaces,
            **_place(scope),
        )  # fmt: skip
        self.tell(fact, person, person)

    def seen(self, session: Session, scope: Any) -> None:
        """A session was used; that is told each minute, of all together."""
        if session.id and session.id not in self._seen and len(self._seen) < MOST_COUNTED:
            self._seen[session.id] = _seen(session, scope)

    def seen_token(self, session: str, token: str, claims: Mapping[str, Any], scope: Any) -> None:
        """The same of a client that brings a token; one that is new here is told at once, as nobody told it signed in."""
        if session in self._seen or len(self._seen) >= MOST_COUNTED:
            return
        told = _seen_with_token(session, token, claims, scope)
        if session in self._known:
            self._seen[session] = told
            return
        if len(self._known) >= MOST_COUNTED:
            self._known.clear()
        self._known.add(session)
        self.tell(pb.SessionsSeen(sessions=[told]), "", "")

    def sign_in_refused(self, token: str, reason: str, scope: Any) -> None:
        """A session was not opened."""
        person = actor_of(token)
        fact = pb.SignInRefused(person=person, method="browser", reason=reason, **_place(scope))
        self.tell(fact, person, person)

    def signed_out(self, session: Session, scope: Any) -> None:
        """A session was ended by the person."""
        person = actor_of(session.access_token)
        self._seen.pop(session.id, None)
        fact = pb.SignedOut(person=person, method="browser", session=session.id, **_place(scope))
        self.tell(fact, person, person)

    def downloaded(self, token: str, file: str, scope: Any) -> None:
        """The bytes of a file are given out."""
        person = actor_of(token)
        self.tell(pb.FileDownloaded(caller=person, file=file, **_place(scope)), file, person)

    def infected(self, token: str, signature: str, file: dict[str, str], scope: Any) -> None:
        """An upload was refused for what the scanner has found in it."""
        person = actor_of(token)
        fact = pb.FileInfected(caller=person, signature=signature, **file, **_place(scope))
        self.tell(fact, person, person)

    def printed(self, authorization: str, record: str, method: str, scope: Any) -> None:
        """A record leaves as a paper."""
        person = actor_of(authorization.removeprefix("Bearer "))
        self.tell(
            pb.RecordPrinted(caller=person, record=record, method=method, **_place(scope)), record, person
        )

    def refused(self, authorization: str, method: str, reason: str, address: str, believed: bool) -> None:
        """A call was refused. Where the credentials themselves were, nobody is named: anybody may forge a name."""
        if reason not in COMMON:
            caller = actor_of(authorization.removeprefix("Bearer ")) if believed else ""
            self._count("refused", caller, method, reason, address)

    def called(self, key: str, address: str) -> None:
        """A key has called."""
        self._count("called", key, address)

    def settle(self) -> None:
        """Makes facts of what was counted."""
        seen, self._seen = list(self._seen.values()), {}
        for index in range(0, len(seen), MOST_SEEN):
            self.tell(pb.SessionsSeen(sessions=seen[index : index + MOST_SEEN]), "", "")
        counts, self._counts = self._counts, {}
        for (kind, caller, *rest), (count, first) in counts.items():
            if kind == "called":
                fact: Any = pb.KeyCalled(caller=caller, address=rest[0], count=count)
            else:
                method, reason, address = rest
                fact = pb.AccessRefused(
                    caller=caller, method=method, reason=reason, address=address, count=count
                )
            fact.first_time.FromDatetime(first)
            # A hundred refusals told of the person himself would be taken one by one, and his new role behind them.
            self.tell(fact, caller if kind == "called" else "", caller)

    async def run(self, bus: Bus) -> None:
        """Sends until cancelled; then what is left, as long as it takes, but not for ever."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(forever(self._count_up, COUNT_SECONDS))
                tasks.create_task(forever(lambda: self._send(bus), SEND_SECONDS))
        finally:
            self.settle()
            if bus.up:
                with suppress(TimeoutError, NatsError):
                    async with asyncio.timeout(END_SECONDS):
                        while self.waiting:
                            await self._send_one(bus)

    async def _count_up(self) -> None:
        self.settle()

    async def _send(self, bus: Bus) -> None:
        if not self.waiting:
            return
        await bus.connected()
        if self._stream_on != (connection := bus.connections):
            await bus.ensure_stream("gateway")
            self._stream_on = connection
        while self.waiting:
            await self._send_one(bus)

    async def _send_one(self, bus: Bus) -> None:
        """Sends the first; it stays the first until it is acknowledged, and the broker drops what comes twice."""
        told = self.waiting[0]
        subject = told.message.DESCRIPTOR.full_name
        headers = {
            "Nats-Msg-Id": told.id,
            "ce-specversion": "1.0",
            "ce-id": told.id,
            "ce-type": subject,
            "ce-source": "crm/gateway",
            "ce-time": told.time.isoformat(),
            "ce-subject": told.about,
            "crm-actor": told.actor,
            "crm-version": "",
            "crm-schema-version": "1",
        }
        body = MessageToJson(told.message, indent=None, ensure_ascii=False).encode()
        await bus.js.publish(subject, body, headers=headers)
        if self.waiting and self.waiting[0] is told:
            self.waiting.popleft()

    def _count(self, *key: str) -> None:
        count, first = self._counts.get(key, (0, datetime.now(UTC)))
        if count or len(self._counts) < MOST_COUNTED:
            self._counts[key] = count + 1, first
        else:
            # A flood from very many places: it is still told, together.
            rest = (key[0], "", *[""] * (len(key) - 2))
            count, first = self._counts.get(rest, (0, datetime.now(UTC)))
            self._counts[rest] = count + 1, first


def actor_of(token: str) -> str:
    """Who a good token stands for, as the services name the caller."""
    claims = claims_of(token)
    subject = str(claims.get("sub", ""))
    if subject.startswith("apiKeys/"):
        return subject
    named = claims.get("employee") or claims.get("contact")
    return str(named or (f"users/{subject}" if subject else ""))


def _seen(session: Session, scope: Any) -> pb.SeenSession:
    # The cookie stays between us and the browser; its hash tells browsers apart as well.
    key = sha256(session.device.encode()).hexdigest()[:32]
    place = _place(scope)
    told = pb.SeenSession(
        id=session.id, provider_id=session.provider_id, person=actor_of(session.access_token), device_key=key,
        address=place["address"], device=place["device"],
    )  # fmt: skip
    told.begin_time.FromMicroseconds(int(session.began * 1e6))
    told.seen_time.GetCurrentTime()
    return told


def _seen_with_token(session: str, token: str, claims: Mapping[str, Any], scope: Any) -> pb.SeenSession:
    """A session of an app: the device is what the app calls it, or the app on that kind of device."""
    place = _place(scope)
    headers: dict[bytes, bytes] = scope["header_map"]
    device = headers.get(DEVICE_HEADER, b"").decode("latin-1")[:LONGEST_DEVICE]
    key = device or f"{claims.get('azp', '')} {place['device']}"
    told = pb.SeenSession(
        id=session, provider_id=str(claims["sid"]), person=actor_of(token), address=place["address"],
        device_key=sha256(f"app {key}".encode()).hexdigest()[:32], device=place["device"],
    )  # fmt: skip
    began = claims.get("auth_time") or claims.get("iat") or 0
    told.begin_time.FromSeconds(int(began))
    told.seen_time.GetCurrentTime()
    return told


def _place(scope: Any) -> dict[str, str]:
    headers: dict[bytes, bytes] = scope["header_map"]
    device = headers.get(b"user-agent", b"").decode("latin-1")[:LONGEST_DEVICE]
    return {"address": scope["client"][0] if scope["client"] else "", "device": device}
