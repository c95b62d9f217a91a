"""Decisions that were signed on a device without connection."""

from datetime import datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid_utils
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from sqlalchemy import DateTime, Text, Uuid, insert
from sqlalchemy.orm import Mapped, mapped_column

from workspace import signatures
from workspace.model.base import Base


class DecisionKey(Base):
    """The public key of a device; the private one never leaves it."""

    __tablename__ = "decision_keys"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    employee: Mapped[str] = mapped_column(Text, index=True)
    device: Mapped[str] = mapped_column(Text)
    public_key: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


async def register(public_key: str, device: str, call: Call) -> str:
    """Keeps a device of the caller; returns the key's name."""
    try:
        signatures.public_key(public_key)
    except ValueError:
        raise FailedPrecondition("KEY_INVALID") from None
    key = uuid_utils.uuid7()
    kept = {"id": key, "employee": call.caller.employee, "device": device, "public_key": public_key}
    await call.db.execute(insert(DecisionKey).values(**kept, create_time=call.now))
    return str(key)


async def check_signature(item: Any, call: Call) -> datetime:
    """When the caller decided; SIGNATURE_INVALID where the device did not sign just that, or before its time."""
    wrong = FailedPrecondition("SIGNATURE_INVALID")
    try:
        key, time = await call.db.get(DecisionKey, UUID(item.key)), datetime.fromisoformat(item.time)
    except ValueError:
        raise wrong from None
    if key is None or key.employee != call.caller.employee:
        raise wrong
    if time.tzinfo is None or not key.create_time <= time <= call.now:
        raise wrong
    text = "\n".join((item.name, item.digest, item.vote, item.time, item.reason)).encode()
    if not signatures.signs(key.public_key, text, item.signature):
        raise wrong
    return time
