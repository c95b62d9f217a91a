"""Changes that customers ask for: what counts at once, what waits for a code, what waits for review."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, NotFound, Validation, Violation, required
from crmkit.mapping import mapper, to_timestamp
from crmkit.resource import Resource, parse_name
from customer.identifiers import Phone
from customer.model.account import Account
from customer.model.base import Base
from customer.model.contact import Contact
from google.protobuf import json_format
from sqlalchemy import DateTime, ForeignKey, Text, Uuid, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

LIVES = timedelta(days=30)
CODE_LIVES = timedelta(minutes=15)
TRIES = 5
CODES = 5
_LOW: dict[type[Resource], frozenset[str]] = {
    Account: frozenset(
        ["phones", "emails", "addresses", "website", "preferred_channel", "language", "time_zone"]
    ),
    Contact: frozenset(["phones", "emails", "title", "wechat", "qq", "preferred_channel", "hobbies"]),
}
_HIGH: dict[type[Resource], frozenset[str]] = {
    Account: frozenset(["display_name", "legal_name", "tax_id", "birth", "family_name", "given_name"]),
    Contact: frozenset(["display_name", "family_name", "given_name", "birth"]),
}


class ProfileCode(Base):
    """The code that was sent to a new address; kept as a keyed hash, with the tries that were made."""

    __tablename__ = "profile_codes"

    change: Mapped[UUID] = mapped_column(
        Uuid, ForeignKey("profile_changes.id", ondelete="CASCADE"), primary_key=True
    )
    address: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[str] = mapped_column(Text)
    expire_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    sent: Mapped[int] = mapped_column(server_default=text("0"))

    @staticmethod
    def digest_of(code: str, address: str, secret: bytes) -> str:
        """What is kept of a code."""
        return hmac.digest(secret, f"profile code {address} {code}".encode(), hashlib.sha256).hex()


class ProfileChange(Resource, Base):
    """A change of master data that a customer asks for."""

    __message__ = pb.ProfileChange

    account: Mapped[str]
    contact: Mapped[str]
    patch: Mapped[dict[str, Any]]
    before: Mapped[dict[str, Any]]
    applied_fields: Mapped[list[str]]
    waiting_fields: Mapped[list[str]]
    confirmations: Mapped[Any]
    summary: Mapped[str]
    risk: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str]
    expire_time: Mapped[datetime | None]

    async def creating(self, call: Call) -> None:
        """Applies what does no harm, asks for codes, and leaves the rest to review."""
        self.account = call.caller.account or self.account
        if not self.account:
            raise Validation(required("profile_change.account"))
        target = await self._target(call)
        account = await call.named(Account, self.account)
        assert account is not None
        self.owner, self.department = account.owner, account.department
        model, names = type(target), self._names(type(target))
        self.before = {
            self._json(model, name): mapper(model).value_json(name, getattr(target, name)) for name in names
        }
        self.risk = "HIGH" if set(names) & _HIGH[model] else "LOW"
        labels = [model.described.fields[name].rule.label for name in names]
        self.summary = "、".join(label.zh for label in labels)
        self.confirmations = self._new_addresses(target, call.now)
        coded = {"emails" if each.channel == "EMAIL" else "phones" for each in self.confirmations}
        self.waiting_fields = [name for name in names if name in _HIGH[model] or name in coded]
        self.state, self.expire_time = "SUBMITTED", call.now + LIVES
        await self._take([name for name in names if name not in self.waiting_fields], target, call)
        for each in self.confirmations:
            call.emit(
                events.ProfileCodeRequested, change=self.name, channel=each.channel, address=each.address
            )
        if self.waiting_fields and self.risk == "HIGH":
            call.emit(events.ProfileChangeSubmitted, change=self)

    async def apply(self, call: Call) -> None:
        """Lets what waited for review count, unless somebody changed the same field since."""
        self.check_state("SUBMITTED")
        target = await self._target(call)
        names = [name for name in self.waiting_fields if name in _HIGH[type(target)]]
        if not names:
            raise FailedPrecondition("CODE_NOT_CONFIRMED")
        for name in names:
            key = self._json(type(target), name)
            now = mapper(type(target)).value_json(name, getattr(target, name))
            if now != self.before.get(key):
                shown = {
                    "before": self.before.get(key) or "",
                    "now": now or "",
                    "wanted": self.patch.get(key),
                }
                raise FailedPrecondition("PROFILE_CHANGED_MEANWHILE", field=key, **shown)
        await self._take(names, target, call)

    def reject(self, reason: str, call: Call) -> None:
        """Refuses what waits; what counted at once goes on counting."""
        self.check_state("SUBMITTED")
        self.state, self.reason, self.waiting_fields = "REJECTED", reason, []
        call.emit(events.ProfileChangeDecided, change=self)

    def expire(self) -> None:
        """Ends what nobody decided in time."""
        self.state, self.waiting_fields = "EXPIRED", []

    async def confirm(self, address: str, code: str, call: Call) -> None:
        """Lets a new address count once its code is given back: within 15 minutes, in five tries."""
        self.check_state("SUBMITTED")
        asked = next(
            (each for each in self.confirmations if each.address == address and not each.confirmed), None
        )
        if asked is None:
            raise NotFound()
        await try_code(self.id, address, code, call)
        self.confirmations = [_confirmed(each) if each is asked else each for each in self.confirmations]
        field = "emails" if asked.channel == "EMAIL" else "phones"
        left = {
            "emails" if each.channel == "EMAIL" else "phones"
            for each in self.confirmations
            if not each.confirmed
        }
        if field not in left:
            await self._take([field], await self._target(call), call)

    def resend(self, call: Call) -> None:
        """Asks for another code for every address that is not confirmed."""
        self.check_state("SUBMITTED")
        for each in self.confirmations:
            if not each.confirmed:
                call.emit(
                    events.ProfileCodeRequested, change=self.name, channel=each.channel, address=each.address
                )

    def unconfirmed(self, address: str) -> Any:
        """The channel that an address still waits for a code on; None where it does not."""
        return next((e.channel for e in self.confirmations if e.address == address and not e.confirmed), None)

    async def _target(self, call: Call) -> Resource:
        model: type[Resource] = Contact if self.contact else Account
        name = self.contact or self.account
        found = await call.find(model, model.id == parse_name(name, model.described.collection), lock=True)
        if found is None or (isinstance(found, Contact) and found.account != self.account):
            raise NotFound()
        return found

    def _names(self, model: type[Resource]) -> list[str]:
        by_json = {field.json_name: name for name, field in model.described.fields.items()}
        allowed = _LOW[model] | _HIGH[model]
        wrong = [key for key in self.patch if by_json.get(key) not in allowed]
        if wrong:
            zh, en = "不能自助修改此字段", "This field cannot be changed here."
            raise Validation(*(_violation(key, "NOT_ALLOWED", zh, en) for key in wrong))
        if not self.patch:
            raise Validation(_violation("", "REQUIRED", "必填", "This field is required."))
        names = [by_json[key] for key in self.patch]
        scratch = model()
        mapper(model).assign(scratch, self._message(model), names, new=True, prefix="profile_change.patch")
        if isinstance(scratch, Account):
            scratch.normalise()
        return names

    def _message(self, model: type[Resource]) -> Any:
        try:
            return json_format.ParseDict(self.patch, model.__message__())
        except json_format.ParseError as error:
            raise Validation(
                _violation(
                    "", "WRONG_FORMAT", "字段值格式不正确", f"A value has the wrong form: {error}"[:300]
                )
            ) from None

    def _new_addresses(self, target: Any, now: datetime) -> list[Any]:
        wanted = self._message(type(target))
        known = {email.address.lower() for email in target.emails} | {phone.number for phone in target.phones}
        found = [("EMAIL", email.address) for email in wanted.emails if email.address.lower() not in known]
        for phone in wanted.phones:
            parsed = Phone.parse(phone.number)
            if parsed.mobile and parsed.number not in known:
                found.append(("SMS", parsed.number))
        until = to_timestamp(now + CODE_LIVES)
        return [
            pb.ProfileChange.Confirmation(channel=channel, address=address, expire_time=until)
            for channel, address in dict.fromkeys(found)
        ]

    async def _take(self, names: Iterable[str], target: Resource, call: Call) -> None:
        """Writes the values of the fields into the record."""
        if chosen := list(names):
            message = self._message(type(target))
            changed = mapper(type(target)).assign(
                target, message, chosen, new=False, prefix="profile_change.patch"
            )
            await target.updating(call, changed)
            self.applied_fields = [*self.applied_fields, *chosen]
            self.waiting_fields = [name for name in self.waiting_fields if name not in chosen]
        if not self.waiting_fields and self.state == "SUBMITTED":
            self.state = "APPLIED"
            call.emit(events.ProfileChangeDecided, change=self)

    @staticmethod
    def _json(model: type[Resource], name: str) -> str:
        return model.described.fields[name].json_name


async def try_code(change: UUID, address: str, code: str, call: Call) -> None:
    """Counts the try for good, also where it fails; FailedPrecondition unless the code is right."""
    key = (change, address)
    async with call.running.call(call.method, call.caller) as other:
        kept = await other.db.get(ProfileCode, key, with_for_update=True)
        if kept is None or kept.expire_time < other.now:
            raise FailedPrecondition("CODE_EXPIRED")
        if kept.tries >= TRIES:
            raise FailedPrecondition("CODE_LOCKED")
        kept.tries += 1
        right = hmac.compare_digest(
            kept.digest, ProfileCode.digest_of(code, address, call.running.settings.secret)
        )
    if not right:
        raise FailedPrecondition("CODE_WRONG", left=TRIES - kept.tries)


async def new_code(change: UUID, address: str, call: Call) -> str:
    """A fresh code for the address; the one before no longer counts. Empty where too many were sent already."""
    code = f"{secrets.randbelow(10**6):06}"
    fresh = {
        "change": change,
        "address": address,
        "digest": "",
        "expire_time": call.now,
        "tries": 0,
        "sent": 0,
    }
    await call.db.execute(insert(ProfileCode).values(fresh).on_conflict_do_nothing())
    kept = await call.db.get_one(ProfileCode, (change, address), with_for_update=True)
    if kept.sent >= CODES:
        return ""
    kept.tries, kept.sent = 0, kept.sent + 1
    kept.digest = ProfileCode.digest_of(code, address, call.running.settings.secret)
    kept.expire_time = call.now + CODE_LIVES
    return code


def _confirmed(confirmation: Any) -> Any:
    copy = pb.ProfileChange.Confirmation()
    copy.CopyFrom(confirmation)
    copy.confirmed = True
    return copy


def _violation(key: str, reason: str, zh: str, en: str) -> Violation:
    return Violation(f"profile_change.patch{'.' if key else ''}{key[:60]}", reason, zh, en)
