"""Decisions that were signed on a device without connection."""

import base64
import binascii
from datetime import datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid_utils
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from sqlalchemy import DateTime, LargeBinary, Text, Uuid, insert
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base

HALF = 32


class DecisionKey(Base):
    """The public key of a device; the private one never leaves it."""

    __tablename__ = "decision_keys"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    employee: Mapped[str] = mapped_column(Text, index=True)
    device: Mapped[str] = mapped_column(Text)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    create_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


async def register(public_key: str, device: str, call: Call) -> str:
    """Keeps a device of the caller; returns the key's name."""
    try:
        data = base64.b64decode(public_key, validate=True)
        found = serialization.load_der_public_key(data)
    except (binascii.Error, ValueError, TypeError):
        raise FailedPrecondition("KEY_INVALID") from None
    if not isinstance(found, ec.EllipticCurvePublicKey) or not isinstance(found.curve, ec.SECP256R1):
        raise FailedPrecondition("KEY_INVALID")
    key = uuid_utils.uuid7()
    kept = {"id": key, "employee": call.caller.employee, "device": device, "public_key": data}
    await call.db.execute(insert(DecisionKey).values(**kept, create_time=call.now))
    return str(key)


async def check_signature(item: Any, call: Call) -> datetime:
    """When the caller decided; SIGNATURE_INVALID where the device did not sign just that, or before its time."""
    wrong = FailedPrecondition("SIGNATURE_INVALID")
    try:
        key = await call.db.get(DecisionKey, UUID(item.key))
        signature, time = base64.b64decode(item.signature, validate=True), datetime.fromisoformat(item.time)
    except (binascii.Error, ValueError):
        raise wrong from None
    if key is None or key.employee != call.caller.employee or len(signature) != 2 * HALF:
        raise wrong
    if time.tzinfo is None or not key.create_time <= time <= call.now:
        raise wrong
    text = "\n".join((item.name, item.digest, item.vote, item.time, item.reason)).encode()
    halves = (int.from_bytes(part) for part in (signature[:HALF], signature[HALF:]))
    public = serialization.load_der_public_key(key.public_key)
    try:
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise wrong
        public.verify(utils.encode_dss_signature(*halves), text, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise wrong from None
    return time
