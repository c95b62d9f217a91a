"""Devices whose keys sign the punches that are made without a network."""

from datetime import UTC, datetime

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.resource import Resource
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped

from workspace import signatures
from workspace.model.base import Base

MOST_DEVICES = 20


class AttendanceDevice(Resource, Base):
    """A device of its owner, known by its public key."""

    __message__ = pb.AttendanceDevice

    display_name: Mapped[str]
    public_key: Mapped[str]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Belongs to who registers it. DEVICE_KEY_INVALID, DEVICE_LIMIT."""
        self.owner, self.state = call.caller.employee, "ACTIVE"
        try:
            signatures.public_key(self.public_key)
        except ValueError:
            raise FailedPrecondition("DEVICE_KEY_INVALID") from None
        mine = select(func.count()).where(
            AttendanceDevice.owner == self.owner, AttendanceDevice.state == "ACTIVE"
        )
        if (await call.db.scalar(mine) or 0) >= MOST_DEVICES:
            raise FailedPrecondition("DEVICE_LIMIT", limit=MOST_DEVICES)

    def revoke(self) -> None:
        """What it signs counts no more."""
        self.check_state("ACTIVE")
        self.state = "REVOKED"


async def signed(
    device: str, owner: str, moment: datetime, content: bytes, signature: str, call: Call
) -> str:
    """Why a signature does not count; empty where it does."""
    row = await call.named(AttendanceDevice, device)
    if row is None or row.owner != owner or row.state != "ACTIVE":
        return "DEVICE_UNKNOWN"
    # A key that was not known then may have been made for the purpose.
    if row.create_time > moment:
        return "DEVICE_TOO_NEW"
    return "" if signatures.signs(row.public_key, content, signature) else "SIGNATURE_INVALID"


def content_of(kind: str, datum: str, moment: datetime, lat: float, lon: float, uptime_ms: float) -> bytes:
    """What a device signs: one line for each value."""
    told = moment.astimezone(UTC)
    stamp = f"{told:%Y-%m-%dT%H:%M:%S}.{told.microsecond // 1000:03}Z"
    return "\n".join([kind, datum, stamp, f"{lat:.6f}", f"{lon:.6f}", f"{uptime_ms:.0f}"]).encode()
