"""Leads out of mails and business cards."""

import codecs
import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr
from html import unescape
from typing import Any, cast

import vobject
from crm.common.v1 import common_pb2
from crmkit.errors import FailedPrecondition
from vobject.base import VObjectError

from sales.model.lead import Lead

LONGEST = 4000
_BEGIN = re.compile(r"^BEGIN:VCARD", re.IGNORECASE | re.MULTILINE)
_TAG = re.compile(r"<(script|style).*?</\1>|<[^>]+>", re.IGNORECASE | re.DOTALL)
_BLANK = re.compile(r"[ \t]+|\n{3,}")
# A telephone number in running text: of a mobile phone, with an area code, or international.
_PHONE = re.compile(r"(?<![\d-])(\+\d[\d -]{7,17}\d|1[3-9]\d{9}|0\d{2,3}-?\d{7,8})(?![\d-])")


def lead_of_mail(content: bytes) -> Lead:
    """The sender of a mail with what is asked; the message id is the key, so that a mail is one lead."""
    mail = cast(EmailMessage, message_from_bytes(content, policy=policy.default))
    person, address = parseaddr(str(mail.get("Reply-To") or mail.get("From") or ""))
    if "@" not in address:
        raise FailedPrecondition("MAIL_UNREADABLE")
    text = _text(mail)
    subject = " ".join(str(mail.get("Subject") or "").split())
    lead = Lead(
        channel="MAIL", external_id=str(mail.get("Message-ID") or "").strip("<> \t")[:200],
        display_name=(subject or person or address)[:200], person_name=person[:200], need=text[:LONGEST],
    )  # fmt: skip
    lead.emails = [common_pb2.Email(address=address, primary=True)]
    found = _PHONE.search(text)
    lead.phones = [common_pb2.Phone(number=found[1], primary=True)] if found else []
    return lead


def lead_of_card(content: bytes) -> Lead:
    """The person of a vCard with the company."""
    text = _decoded(content)
    if not _BEGIN.search(text):
        raise FailedPrecondition("CARD_UNREADABLE")
    try:
        card: Any = vobject.readOne(text, ignoreUnreadable=True, allowQP=True)
        fields: dict[str, list[Any]] = card.contents
        named = next((str(one.value) for one in fields.get("fn", [])), "").strip()
        parts: Any = next((one.value for one in fields.get("n", [])), None)
        organisation: Any = next((one.value for one in fields.get("org", [])), "")
    except (VObjectError, ValueError, LookupError, AttributeError, TypeError, StopIteration) as error:
        raise FailedPrecondition("CARD_UNREADABLE") from error
    person = named or (f"{parts.family}{parts.given}" if parts is not None else "")
    company = (
        organisation[0] if isinstance(organisation, list) and organisation else str(organisation or "")
    ).strip()
    if not person and not company:
        raise FailedPrecondition("CARD_UNREADABLE")
    lead = Lead(
        channel="CARD", person_name=person[:200], company_name=company[:200],
        display_name=" ".join(filter(None, [company, person]))[:200],
        title=next((str(one.value) for one in fields.get("title", [])), "")[:100],
    )  # fmt: skip
    numbers = [str(one.value).removeprefix("tel:") for one in fields.get("tel", [])]
    lead.phones = [common_pb2.Phone(number=number) for number in numbers if number]
    lead.emails = [common_pb2.Email(address=str(one.value)) for one in fields.get("email", []) if one.value]
    return lead


def _text(mail: EmailMessage) -> str:
    """What the mail says, without marks and without what it quotes."""
    part = mail.get_body(("plain", "html"))
    if part is None:
        return ""
    try:
        said = str(part.get_content())
    except (LookupError, UnicodeError):
        # A character set that nobody knows, or that it is not in.
        said = _decoded(cast(bytes, part.get_payload(decode=True) or b""))
    if part.get_content_subtype() == "html":
        said = unescape(_TAG.sub(" ", said))
    own = [line for line in said.replace("\r\n", "\n").split("\n") if not line.startswith(">")]
    return (
        _BLANK.sub(lambda found: " " if found[0][0] != "\n" else "\n\n", "\n".join(own))
        .strip()
        .replace("\0", "")
    )


def _decoded(content: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return codecs.decode(content, encoding).replace("\r\n", "\n").replace("\0", "")
        except UnicodeDecodeError:
            continue
    return content.decode("utf-8", "replace").replace("\0", "")
