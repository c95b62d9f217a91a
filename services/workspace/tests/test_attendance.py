"""Punches: where, when, and how far they are to be believed."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.positions import metres, to_wgs
from crmkit.testing import Service
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import text
from workspace.model.attendance_device import content_of

OFFICE = (31.2304, 121.4737)


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


async def colleague(workspace: Service, office: Any, **more: Any) -> tuple[str, Any]:
    made = await office.hire(
        f"punch{uuid4().hex[:8]}",
        ["sales_representative"],
        superior=workspace.person("manager").employee,
        **more,
    )
    return made.name, await office.client_of(made)


class Phone:
    """A device whose key signs what is punched without a network."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = ""

    async def register(self, workspace: Service, client: Any, since: datetime) -> "Phone":
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        made = await client.CreateAttendanceDevice(
            attendanceDevice={"displayName": "手机", "publicKey": b64encode(spki).decode()}
        )
        self.name = made.name
        async with workspace.running.call("test", system("workspace")) as call:
            await call.db.execute(
                text("UPDATE attendance_devices SET create_time = :since WHERE id = :id"),
                {"since": since, "id": UUID(made.name.partition("/")[2])},
            )
        return self

    def sign(self, body: dict[str, Any]) -> dict[str, Any]:
        """The punch with the signature that WebCrypto would give: r and s, not DER."""
        moment = datetime.fromisoformat(body["deviceTime"])
        content = content_of(body["kind"], "WGS84", moment, body["lat"], body["lon"], body["uptimeMs"])
        r, s = decode_dss_signature(self.key.sign(content, ec.ECDSA(SHA256())))
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return {**body, "device": self.name, "signature": b64encode(raw).decode()}


def punch(kind: str = "FIELD", place: tuple[float, float] = OFFICE, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "lat": place[0], "lon": place[1], "accuracyM": 20, **more}


@pytest.mark.capability("w.attend")
@pytest.mark.parametrize(
    ("datum", "given", "true"),
    [
        ("GCJ02", (31.17530398364597, 121.531541859215), (31.1774276, 121.5272106)),
        ("GCJ02", (22.540796131694766, 113.9171764808363), (22.543847, 113.912316)),
        ("GCJ02", (39.91334545536069, 116.38404722455657), (39.911954, 116.377817)),
        ("BD09", (39.92133699351021, 116.41036949371029), (39.91359571849836, 116.39775550083061)),
        ("GCJ02", (39.91640428150164, 116.41024449916938), (39.915, 116.404)),
        ("GCJ02", (48.8566, 2.3522), (48.8566, 2.3522)),  # outside of China nothing is shifted
        ("WGS84", (31.2, 121.4), (31.2, 121.4)),
    ],
)
def test_places_of_chinese_maps_become_true_ones(
    datum: str, given: tuple[float, float], true: tuple[float, float]
) -> None:
    assert metres(to_wgs(*given, datum), true) <= 10


@pytest.mark.capability("w.attend")
async def test_what_is_hard_to_believe_is_marked_and_never_refused(workspace: Service, office: Any) -> None:
    now = datetime.now(UTC)
    _, client = await colleague(workspace, office)
    assert await office.refusal(client.CreateAttendance(attendance={"kind": "FIELD"})) == "LOCATION_REQUIRED"
    vague = punch(accuracyM=201)
    assert await office.refusal(client.CreateAttendance(attendance=vague)) == "LOCATION_IMPRECISE"
    fine = await client.CreateAttendance(attendance=punch(deviceTime=stamp(now), accuracyM=200))
    assert (fine.verdict, fine.datum, fine.owner != "") == (pb.Attendance.NORMAL, pb.Attendance.WGS84, True)
    mock = await client.CreateAttendance(attendance=punch(mockLocation=True))
    assert (mock.verdict, mock.remark) == (pb.Attendance.SUSPECT, "MOCK_LOCATION")
    # Beijing a moment after Shanghai.
    flown = await client.CreateAttendance(attendance=punch(place=(39.9, 116.4)))
    assert (flown.verdict, flown.remark) == (pb.Attendance.SUSPECT, "TOO_FAST")
    skewed = await client.CreateAttendance(
        attendance=punch(place=(39.9, 116.4), deviceTime=stamp(now - timedelta(minutes=20)))
    )
    assert (skewed.verdict, skewed.remark) == (pb.Attendance.SUSPECT, "CLOCK_SKEW")

    # Offline: the device's time counts, and its monotonic clock says whether that was set back meanwhile.
    _, client = await colleague(workspace, office)
    then = now - timedelta(hours=2)
    phone = await Phone().register(workspace, client, then - timedelta(days=1))
    away = phone.sign(
        punch(offline=True, deviceTime=stamp(then), uptimeMs=1000, sentUptimeMs=1000 + 2 * 3600 * 1000)
    )
    kept = await client.CreateAttendance(attendance=away)
    assert (kept.verdict, kept.signature, kept.uptime_ms) == (pb.Attendance.NORMAL, away["signature"], 1000)
    assert abs(kept.punch_time.ToDatetime(UTC) - then) < timedelta(seconds=1)
    assert kept.server_time.ToDatetime(UTC) > then + timedelta(hours=1)
    forged = await client.CreateAttendance(attendance={**away, "sentUptimeMs": 1000 + 60_000})
    assert (forged.verdict, forged.remark) == (pb.Attendance.SUSPECT, "CLOCK_SKEW")
    # What was signed cannot be changed, nor signed by another's device, by one made later, or by one out of use.
    moved = await client.CreateAttendance(attendance={**away, "lat": 31.2305})
    assert (moved.verdict, moved.remark) == (pb.Attendance.SUSPECT, "SIGNATURE_INVALID")
    for broken in ("c2lnbmVk", "***"):
        found = await client.CreateAttendance(attendance={**away, "signature": broken})
        assert (found.verdict, found.remark) == (pb.Attendance.SUSPECT, "SIGNATURE_INVALID")
    _, other = await colleague(workspace, office)
    assert await office.refusal(other.CreateAttendance(attendance=away)) == "UNKNOWN_REFERENCE"
    young = await Phone().register(workspace, client, now)
    found = await client.CreateAttendance(attendance=young.sign(away))
    assert (found.verdict, found.remark) == (pb.Attendance.SUSPECT, "DEVICE_TOO_NEW")
    await client.RevokeAttendanceDevice(name=phone.name)
    found = await client.CreateAttendance(attendance=away)
    assert (found.verdict, found.remark) == (pb.Attendance.SUSPECT, "DEVICE_UNKNOWN")
    weak = {"displayName": "假", "publicKey": "c2lnbmVk"}
    assert await office.refusal(client.CreateAttendanceDevice(attendanceDevice=weak)) == "DEVICE_KEY_INVALID"
    unsigned = {**away, "signature": ""}
    assert await office.refusal(client.CreateAttendance(attendance=unsigned)) == "VALIDATION"


@pytest.mark.capability("w.attend")
async def test_the_rule_of_the_nearest_department_judges_and_a_correction_is_agreed_to(
    workspace: Service, office: Any
) -> None:
    admin = workspace.admin
    above = await admin.CreateDepartment(
        department={"displayName": f"考勤部{uuid4().hex[:6]}", "kind": "DEPARTMENT", "code": uuid4().hex[:8]}
    )
    team = await admin.CreateDepartment(
        department={
            "displayName": f"考勤组{uuid4().hex[:6]}",
            "kind": "TEAM",
            "code": uuid4().hex[:8],
            "parent": above.name,
        }
    )
    for made in (above, team):
        key = f"department.{made.name.partition('/')[2]}"
        await workspace.eventually(lambda key=key: workspace.running.config.get(key))
    rule = {
        "displayName": "总部", "departmentRef": above.name,
        "sites": [{"label": "人民广场", "lat": OFFICE[0], "lon": OFFICE[1], "radiusM": 300}],
        "shifts": [{"weekdays": "1234567", "from": "00:00", "to": "23:59"}],
    }  # fmt: skip
    bad = {**rule, "sites": [{"label": "太小", "lat": 1, "lon": 1, "radiusM": 10}]}
    assert await office.refusal(admin.CreateAttendanceRule(attendanceRule=bad)) == "VALIDATION"
    await admin.CreateAttendanceRule(attendanceRule=rule)
    _, client = await colleague(workspace, office, department=team.name)
    late = await client.CreateAttendance(attendance=punch("IN"))
    assert (late.site, late.verdict) == ("人民广场", pb.Attendance.LATE)
    early = await client.CreateAttendance(attendance=punch("OUT"))
    assert early.verdict == pb.Attendance.EARLY
    outside = await client.CreateAttendance(attendance=punch("IN", (31.2404, 121.4737)))
    assert outside.verdict in {pb.Attendance.OUTSIDE, pb.Attendance.SUSPECT}
    assert 1000 < outside.distance_m < 1300

    # The company begins with a policy for it: the superior decides.
    shipped = await admin.ListApprovalPolicies(filter='action = "workspace.attendance.correct"')
    (policy,) = shipped.approval_policies
    assert policy.state == pb.ApprovalPolicy.ACTIVE
    key = f"approvalPolicy.{policy.name.partition('/')[2]}"
    await workspace.eventually(lambda: workspace.running.config.get(key), 30)
    before = late.punch_time.ToDatetime(UTC)
    true_time = before.replace(hour=16, minute=0, second=0, microsecond=0) - timedelta(days=1)
    assert (
        await office.refusal(client.CorrectAttendance(name=late.name, time=stamp(true_time), reason="忘"))
        == "REASON_REQUIRED"
    )
    held = await client.CorrectAttendance(name=late.name, time=stamp(true_time), reason="忘记打卡，保安可证")
    assert held.pending_approval and held.punch_time == late.punch_time

    async def asked() -> Any:
        page = await workspace.manager.ListApprovals(filter=f'target = "{late.name}"')
        return page.approvals[0] if page.approvals else None

    approval = await workspace.eventually(asked)
    await workspace.manager.ApproveApproval(name=approval.name, digest=approval.digest)

    async def corrected() -> Any:
        found = await client.GetAttendance(name=late.name)
        return found if found.corrections else None

    found = await workspace.eventually(corrected)
    assert found.punch_time.ToDatetime(UTC) == true_time
    assert found.corrections[0].before == late.punch_time
    # 16:00 UTC is midnight in Shanghai: in time for a shift that begins at 00:00.
    assert found.verdict == pb.Attendance.NORMAL


@pytest.mark.capability("w.attend")
async def test_a_closed_month_stays_as_it_is_and_its_sheet_adds_up(workspace: Service, office: Any) -> None:
    person, client = await colleague(workspace, office)
    then = datetime(2025, 3, 10, 2, tzinfo=UTC)
    passed = (datetime.now(UTC) - then).total_seconds() * 1000
    phone = await Phone().register(workspace, client, then - timedelta(days=1))
    old = phone.sign(punch(offline=True, deviceTime=stamp(then), uptimeMs=0, sentUptimeMs=passed))
    made = await client.CreateAttendance(attendance=old)
    visit = f"visits/{uuid4()}"
    told = {"name": visit, "owner": person, "checkIn": {"serverTime": "2025-03-11T02:00:00Z"}}
    await workspace.tell("crm.sales.v1.VisitCompleted", {"visit": told}, visit, times=2)

    async def sheet() -> Any:
        lines = (await workspace.manager.ReadAttendanceSheet(month="2025-03")).lines
        line = next((line for line in lines if line.employee == person), None)
        return line if line and line.visits_without_punch else None

    line = await workspace.eventually(sheet)
    assert (line.days, line.field, line.visits_without_punch) == (1, 1, 1)
    checked = f"visits/{uuid4()}"
    for _ in range(2):
        stamp_there = {"position": {"latitude": OFFICE[0], "longitude": OFFICE[1]}, "accuracy": 12}
        fact = {"visit": {"name": checked, "owner": person, "checkIn": stamp_there}}
        await workspace.tell("crm.sales.v1.VisitCheckedIn", fact, checked)

    async def punched() -> Any:
        return (await client.ListAttendance(filter=f'place = "{checked}"')).attendance

    assert len(await workspace.eventually(punched)) == 1
    for _ in range(2):
        await workspace.admin.CloseAttendanceMonth(month="2025-03")
    assert (await client.ReadAttendanceSheet(month="2025-03")).closed
    assert await office.refusal(client.CreateAttendance(attendance=old)) == "ATTENDANCE_LOCKED"
    late = client.CorrectAttendance(name=made.name, time=stamp(then), reason="现在才想起来")
    assert await office.refusal(late) == "ATTENDANCE_LOCKED"
    assert await office.refusal(client.CloseAttendanceMonth(month="2025-04")) == "PERMISSION_DENIED"
    assert not (await workspace.sales2.ReadAttendanceSheet(month="2025-03")).lines
