"""Forms on the web, and what visitors fill in."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from crm.marketing.v1 import events_pb2 as events
from crm.marketing.v1 import pb
from crmkit.call import Call
from crmkit.errors import (
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Validation,
    Violation,
    required,
)
from crmkit.resource import Resource
from crmkit.text import is_mail_address
from marketing.model.base import Base
from sqlalchemy import Index, Integer, func, select
from sqlalchemy.orm import Mapped, mapped_column

MAPPINGS = (
    "companyName",
    "personName",
    "title",
    "phone",
    "email",
    "wechat",
    "need",
    "industry",
    "productLine",
)
PERSONAL = ("personName", "phone", "email", "wechat")
LONGEST = {"TEXT": 200, "LONG_TEXT": 5000, "PHONE": 40, "EMAIL": 254, "CHOICE": 200}
MOST_CHARACTERS = 20_000
A_MINUTE, A_DAY = 5, 30
THANKS = ("感谢您的提交，我们会尽快与您联系。", "Thank you. We will be in touch soon.")
PHONE = re.compile(r"[+()\d\s.-]{5,}")


class Form(Resource, Base):
    """A form on the web. While it is there, its fields and its consent text stay as they are."""

    __message__ = pb.Form

    display_name: Mapped[str]
    fields: Mapped[Any]
    consent_text: Mapped[str]
    consent_version: Mapped[str]
    campaign: Mapped[str]
    thanks: Mapped[str]
    submission_count: Mapped[int]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Begins as a draft."""
        self.state = "DRAFT"
        self._check_fields()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """What visitors agreed to and filled in does not change under them."""
        if changed & {"fields", "consent_text", "consent_version"} and self.state != "DRAFT":
            raise FailedPrecondition("FORM_FROZEN")
        self._check_fields()

    async def deleting(self, call: Call) -> None:
        """Only a draft may go."""
        self.check_state("DRAFT")

    def publish(self) -> None:
        """Puts it on the web; a person's data is asked for with consent only."""
        self.check_state("DRAFT")
        personal = any(
            field.mapping in PERSONAL or _type(field) in ("PHONE", "EMAIL") for field in self.fields
        )
        if personal and not (self.consent_text.strip() and self.consent_version.strip()):
            raise FailedPrecondition("CONSENT_TEXT_REQUIRED")
        self.state = "LIVE"

    def close(self) -> None:
        """Takes it from the web."""
        self.check_state("LIVE")
        self.state = "CLOSED"

    def check_live(self) -> None:
        """Refuses visitors of a form that is not on the web."""
        if self.state != "LIVE":
            raise FailedPrecondition("FORM_CLOSED")

    def check_values(self, values: Mapping[str, str]) -> None:
        """Refuses what the fields do not take, each at its field."""
        fields = {field.key: field for field in self.fields}
        if sum(len(value) for value in values.values()) > MOST_CHARACTERS:
            raise ResourceExhausted("TOO_LARGE", limit=f"{MOST_CHARACTERS}")
        problems = [
            Violation(f"values.{key}", "UNKNOWN_FIELD", "没有这个字段", "There is no such field.")
            for key in values
            if key not in fields
        ]
        for key, field in fields.items():
            value = values.get(key, "").strip()
            if not value:
                problems += [required(f"values.{key}")] if field.required else []
            elif problem := _problem(field, value):
                problems.append(problem)
        if problems:
            raise Validation(*problems)

    def mapped(self, values: Mapping[str, str]) -> dict[str, str]:
        """What was filled in, by the field of the lead."""
        return {
            f.mapping: values[f.key].strip()
            for f in self.fields
            if f.mapping and values.get(f.key, "").strip()
        }

    def _check_fields(self) -> None:
        keys = [field.key for field in self.fields]
        for field in self.fields:
            choice = _type(field) == "CHOICE"
            known = not field.mapping or field.mapping in MAPPINGS
            if keys.count(field.key) > 1 or (choice and not field.choices) or not known:
                raise InvalidArgument("FORM_FIELD_INVALID", key=field.key)


class Submission(Resource, Base):
    """What one visitor filled in."""

    __message__ = pb.Submission
    __table_args__ = (Index("submissions_address_create_time_index", "address", "create_time"),)

    form: Mapped[str]
    display_name: Mapped[str]
    values: Mapped[Any]
    source: Mapped[Any]
    address: Mapped[str]
    consent_version: Mapped[str]
    campaign: Mapped[str]
    lead: Mapped[str]
    lead_state: Mapped[str]
    doubt: Mapped[str]
    end_reason: Mapped[str]
    state: Mapped[str]
    lead_version: Mapped[int] = mapped_column(Integer, server_default="0", default=0)

    @classmethod
    async def taken(cls, form: Form, request: pb.SubmitFormRequest, call: Call) -> "Submission":
        """Takes what a visitor filled in: let through, or doubted."""
        values = {value.key: value.value for value in request.values}
        form.check_values(values)
        if form.consent_text and not request.consent:
            raise FailedPrecondition("CONSENT_REQUIRED")
        mapped = form.mapped(values)
        row = cls(
            form=form.name,
            display_name=mapped.get("companyName") or mapped.get("personName") or form.display_name,
            values=[pb.Submission.Value(key=key, value=value) for key, value in values.items() if value],
            source=request.source if request.HasField("source") else None,
            address=call.caller.address,
            consent_version=form.consent_version if request.consent else "",
            campaign=form.campaign,
            owner=form.owner,
            department=form.department,
            state="CONFIRMED",
        )
        row.doubt = "HONEYPOT" if request.website else await cls._rate(call)
        if row.doubt:
            row.state = "QUARANTINED"
        await call.add(row)
        if not row.doubt:
            row.confirm(form, call)
        return row

    def confirm(self, form: Form, call: Call) -> None:
        """Lets it through: sales makes a lead of it."""
        form.submission_count += 1
        values = {value.key: value.value for value in self.values}
        call.emit(
            events.FormSubmitted, submission=self, values=form.mapped(values), source=self.source,
            campaign=self.campaign, consent=self.consent_version, form=form.display_name,
        )  # fmt: skip

    def release(self, form: Form, call: Call) -> None:
        """It was no machine."""
        self.check_state("QUARANTINED")
        self.state = "CONFIRMED"
        self.confirm(form, call)

    def qualify(self, call: Call) -> None:
        """It is a good lead."""
        self.check_state("CONFIRMED")
        self.state = "QUALIFIED"
        call.emit(events.SubmissionQualified, submission=self, lead=self.lead)

    def discard(self, reason: str, call: Call) -> None:
        """It is no lead."""
        self.check_state("CONFIRMED")
        if not reason.strip():
            raise FailedPrecondition("REASON_REQUIRED")
        self.state, self.end_reason = "DISCARDED", reason
        call.emit(events.SubmissionDiscarded, submission=self, lead=self.lead, reason=reason)

    def mark_spam(self) -> None:
        """It was a machine."""
        self.check_state("QUARANTINED")
        self.state = "SPAM"

    def take_lead(self, name: str, state: str, version: int) -> None:
        """Shows where its lead stands, as the latest version of it says."""
        if version > self.lead_version:
            self.lead, self.lead_state, self.lead_version = name, state, version

    @classmethod
    async def _rate(cls, call: Call) -> str:
        """RATE where one address sends more than people do."""
        if not call.caller.address:
            return ""
        recent = func.count().filter(cls.create_time > call.now - timedelta(minutes=1))
        statement = select(recent, func.count()).where(
            cls.address == call.caller.address, cls.create_time > call.now - timedelta(days=1)
        )
        minute, day = (await call.db.execute(statement)).one()
        return "RATE" if minute >= A_MINUTE or day >= A_DAY else ""


def _type(field: pb.Form.Field) -> str:
    return pb.Form.FieldType.Name(field.type) if field.type else "TEXT"


def _problem(field: pb.Form.Field, value: str) -> Violation | None:
    kind, path = _type(field), f"values.{field.key}"
    limit = LONGEST[kind]
    if len(value) > limit:
        return Violation(path, "TOO_LONG", f"不能超过 {limit} 个字符", f"At most {limit} characters.")
    if kind == "EMAIL" and not is_mail_address(value):
        return Violation(path, "NOT_AN_ADDRESS", "不是有效的邮箱地址", "This is no mail address.")
    if kind == "PHONE" and not PHONE.fullmatch(value):
        return Violation(path, "NOT_A_NUMBER", "不是有效的电话号码", "This is no telephone number.")
    if kind == "CHOICE" and value not in field.choices:
        return Violation(path, "UNKNOWN_VALUE", "没有这个选项", "There is no such choice.")
    return None
