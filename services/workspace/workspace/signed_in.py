"""What becomes of a session that the gateway tells of: it is listed, it may be one too many, it may look borrowed.

at most one session on a computer and one on a telephone; `SESSION_LIMIT` says which of two ends
borrowed: the same kind of session on two devices in two networks within ten minutes, or two devices that take
each other's place again and again. Nobody is kept out on such a guess; who looks after the platform is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from crmkit.call import Call
from crmkit.driver import driver
from sqlalchemy import select

from workspace.alerts import raise_alert
from workspace.model.employee import Employee
from workspace.model.session import Device, Session

# A session lives ten hours at the gateway, and as long as its provider lets it rest.
LONGEST = timedelta(hours=10, minutes=10)
RESTS = timedelta(minutes=45)
KEPT = timedelta(days=90)
AT_ONCE = timedelta(minutes=10)
TURNS, TURNS_WITHIN = 3, timedelta(days=1)
CHUNK = 500
CLIENTS = (
    ("DingTalk", "DingTalk"), ("wxwork", "WeCom"), ("MicroMessenger", "WeChat"), ("Edg", "Edge"), ("OPR/", "Opera"),
    ("Firefox", "Firefox"), ("FxiOS", "Firefox"), ("CriOS", "Chrome"), ("Chrome", "Chrome"), ("Safari", "Safari"),
)  # fmt: skip
SYSTEMS = (
    ("iPhone", "iPhone"), ("iPad", "iPad"), ("HarmonyOS", "HarmonyOS"), ("OpenHarmony", "HarmonyOS"),
    ("Android", "Android"), ("okhttp", "Android"), ("CFNetwork", "iOS"), ("Windows", "Windows"),
    ("Macintosh", "macOS"), ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip
_USED = "UPDATE sessions SET seen_time = $2, address = $3, state = 'OPEN' WHERE id = $1 AND seen_time < $2"
_USED_WITH = "UPDATE devices SET seen_time = $2, address = $3 WHERE id = $1 AND seen_time < $2"
CARRIED = ("iPhone", "iPad", "iOS", "Android", "HarmonyOS")


@dataclass(frozen=True)
class Seen:
    """A session as the gateway tells it."""

    id: UUID
    provider_id: str
    person: str
    device_key: str
    agent: str
    address: str
    begins: datetime
    seen: datetime

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Seen | None":
        """None for a session of somebody who is no employee: portals have a list of their own."""
        person = str(told.get("person", ""))
        if not told.get("id") or not person.startswith("employees/"):
            return None
        begins, seen = (datetime.fromisoformat(str(told[key])) for key in ("beginTime", "seenTime"))
        provider, key, agent, address = (
            str(told.get(name, "")) for name in ("providerId", "deviceKey", "device", "address")
        )
        return cls(UUID(str(told["id"])), provider, person, key, agent, address, begins, seen)


def client_of(agent: str) -> tuple[str, str]:
    """What a browser calls itself, for people: "Chrome · Windows", and DESKTOP or MOBILE."""
    client = next((name for mark, name in CLIENTS if mark in agent), "")
    system = next((name for mark, name in SYSTEMS if mark in agent), "")
    kind = "MOBILE" if system in CARRIED or "Mobi" in agent else "DESKTOP"
    return " · ".join(filter(None, (client, system))) or "?", kind


async def seen(told: Sequence[Seen], call: Call) -> None:
    """Sessions were used: that is noted without a fact; one that is not known yet is taken in."""
    for index in range(0, len(told), CHUNK):
        part = told[index : index + CHUNK]
        rows = await call.db.execute(
            select(Session.id, Session.state).where(Session.id.in_([one.id for one in part]))
        )
        known = {row.id: row.state for row in rows}
        for one in part:
            if one.id not in known:
                await opened(one, call)
        used = [one for one in part if known.get(one.id, "ENDED") != "ENDED"]
        connection = await driver(call.db)
        await connection.executemany(_USED, [(one.id, one.seen, one.address) for one in used])
        await connection.executemany(_USED_WITH, [(device_id(one), one.seen, one.address) for one in used])


async def opened(one: Seen, call: Call) -> None:
    """Takes a session in, once, and ends what is too much."""
    # One person's sessions one after the other, on whatever process.
    await call.one_at_a_time([f"sessions:{one.person}"])
    person = await call.named(Employee, one.person)
    if person is None or await call.find(Session, Session.id == one.id) is not None:
        return
    title, kind = client_of(one.agent)
    whose = {"owner": one.person, "creator": one.person, "department": person.department}
    device = await call.find(Device, Device.id == device_id(one), lock=True)
    if device is None:
        device = await call.add(
            Device(
                id=device_id(one), display_name=title, kind=kind, address=one.address, seen_time=one.seen, state="KNOWN",
                device_key=one.device_key, **whose,
            )
        )  # fmt: skip
        await call.flush()
    else:
        device.address, device.seen_time, device.display_name = one.address, one.seen, title
    others = await _lately(one, kind, call)
    session = await call.add(
        Session(
            id=one.id, display_name=title, device=device.name, kind=kind, address=one.address, begin_time=one.begins,
            seen_time=one.seen, state="OPEN", provider_id=one.provider_id, **whose,
        )
    )  # fmt: skip
    if person.state != "ACTIVE":
        session.over("ACCESS_LOST", call)
    elif device.state == "REVOKED":
        session.over("DEVICE_REVOKED", call)
    else:
        _keep_one([session, *(other for other in others if other.state == "OPEN")], call)
    await call.flush()
    await _look_borrowed(session, others, person, call)


async def gone(session: str, call: Call) -> None:
    """The person has ended the session, or taken up another in the same browser."""
    row = await call.find(Session, Session.id == UUID(session), lock=True) if session else None
    if row is not None and row.state == "OPEN":
        row.over("SIGNED_OUT", call)


async def expire(as_of: datetime, call: Call) -> None:
    """What nobody uses any more is said to be over; what is long over is forgotten."""
    over = (Session.seen_time < as_of - RESTS) | (Session.begin_time < as_of - LONGEST)
    resting = select(Session).where(Session.state == "OPEN", over).limit(CHUNK)
    for row in await call.db.scalars(resting.with_for_update(skip_locked=True)):
        row.state, row.end_time = "EXPIRED", as_of
    old = select(Session).where(Session.state != "OPEN", Session.end_time < as_of - KEPT).limit(CHUNK)
    for row in await call.db.scalars(old.with_for_update(skip_locked=True)):
        await call.db.delete(row)


def device_id(one: Seen) -> UUID:
    """One for each person and browser."""
    return uuid5(NAMESPACE_OID, f"{one.person}#{one.device_key}")


async def _lately(one: Seen, kind: str, call: Call) -> list[Session]:
    """The person's other sessions of the kind that are open or have ended within a day."""
    since = one.seen - TURNS_WITHIN
    found = select(Session).where(
        Session.owner == one.person,
        Session.kind == kind,
        (Session.state == "OPEN") | (Session.end_time > since),
    )
    return list(await call.db.scalars(found.order_by(Session.begin_time).with_for_update()))


def _keep_one(open_ones: list[Session], call: Call) -> None:
    """Of the open sessions of a kind one goes on, by setting the newest or the oldest."""
    newest_stays = call.running.settings.session_limit == "END_OLDEST"
    ordered = sorted(open_ones, key=lambda row: (row.begin_time, row.id), reverse=newest_stays)
    for row in ordered[1:]:
        row.over("LIMIT", call)


async def _look_borrowed(session: Session, others: list[Session], person: Employee, call: Call) -> None:
    begins = session.begin_time
    assert begins is not None
    elsewhere = [
        other
        for other in others
        if other.device != session.device
        and other.seen_time is not None
        and other.seen_time > begins - AT_ONCE
        and not _near(other.address, session.address)
    ]
    pushed = [one for one in (session, *others) if one.end_reason == "LIMIT"]
    turns = len(pushed) >= TURNS and len({one.device for one in (session, *others)}) > 1
    if elsewhere:
        other = elsewhere[-1]
        zh = f"{session.display_name}（{session.address}）与 {other.display_name}（{other.address}）十分钟内同时使用"
        en = (
            f"{session.display_name} ({session.address}) and {other.display_name} ({other.address}) "
            "were used within ten minutes"
        )
    elif turns:
        zh = f"一天内 {len(pushed)} 次在不同设备之间轮换登录"
        en = f"devices took each other's place {len(pushed)} times within a day"
    else:
        return
    who = person.display_name
    await raise_alert(
        "BORROWED_ACCOUNT", person.name, f"“{who}”的账号可能被他人借用：{zh}",
        f"The account of {who} may have been borrowed: {en}", call, key=f"{person.name}:{begins:%Y-%m-%d}",
    )  # fmt: skip


def _near(one: str, other: str) -> bool:
    """True for addresses of one network, as far as that can be told."""
    try:
        first, second = ip_address(one), ip_address(other)
    except ValueError:
        return True
    if first.version != second.version:
        # A machine may be reached by either; that says nothing.
        return True
    return second in ip_network(f"{one}/{16 if first.version == 4 else 40}", strict=False)
