"""vCards: versions 2.1, 3.0 and 4.0 in, 3.0 and 4.0 out. What is no part of a contact is left out."""

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import vobject
from crm.common.v1 import common_pb2
from crm.customer.v1 import pb
from vobject.base import Component, ContentLine, VObjectError

_BEGIN = re.compile(r"^BEGIN:VCARD\s*$", re.IGNORECASE | re.MULTILINE)
_END = re.compile(r"^END:VCARD\s*$", re.IGNORECASE | re.MULTILINE)
_DAY = re.compile(r"(?:(\d{4})|--)-?(\d{2})-?(\d{2})(?:T.*)?")
_ESCAPED = re.compile(r"\\(.)")
_PHONE_TYPES = {"CELL": "MOBILE", "FAX": "FAX", "HOME": "HOME"}


@dataclass
class Card:
    """What a card says of a person; `readable` is false where it cannot be understood."""

    display_name: str = ""
    family_name: str = ""
    given_name: str = ""
    title: str = ""
    organisation: str = ""
    department: str = ""
    wechat: str = ""
    qq: str = ""
    birth: Any = None
    phones: list[Any] = field(default_factory=list[Any])
    emails: list[Any] = field(default_factory=list[Any])
    readable: bool = True


def read_cards(content: bytes) -> Iterator[Card]:
    """The cards of a file, in any of the character sets that phones and mail programs write."""
    text = _decoded(content).replace("\r\n", "\n").replace("\r", "\n")
    for one in _single(text):
        try:
            component = next(
                iter(vobject.readComponents(one, transform=False, ignoreUnreadable=True, allowQP=True))
            )
            yield _card(component)
        except (VObjectError, ValueError, LookupError, AttributeError, TypeError, StopIteration):
            yield Card(readable=False)


def write_card(contact: Any, organisation: str, version: str) -> str:
    """The contact's card."""
    four = version == "4.0"
    lines = ["BEGIN:VCARD", f"VERSION:{'4.0' if four else '3.0'}", f"FN:{_escape(contact.display_name)}"]
    family, given = contact.family_name, contact.given_name
    lines.append(f"N:{_escape(family)};{_escape(given or ('' if family else contact.display_name))};;;")
    at = next((a for a in contact.affiliations if a.account == contact.account), None)
    if organisation:
        unit = f";{_escape(at.department)}" if at is not None and at.department else ""
        lines.append(f"ORG:{_escape(organisation)}{unit}")
    if contact.title:
        lines.append(f"TITLE:{_escape(contact.title)}")
    for phone in contact.phones:
        kind = {"MOBILE": "CELL", "FAX": "FAX", "HOME": "HOME"}.get(phone.type, "WORK")
        extension = f";ext={phone.extension}" if phone.extension else ""
        if four:
            preferred = ";PREF=1" if phone.primary else ""
            lines.append(f"TEL;VALUE=uri;TYPE={kind.lower()}{preferred}:tel:{phone.number}{extension}")
        else:
            preferred = ",PREF" if phone.primary else ""
            lines.append(f"TEL;TYPE={kind}{preferred}:{_escape(phone.number + extension)}")
    for email in contact.emails:
        preferred = (";PREF=1" if four else ";TYPE=PREF") if email.primary else ""
        lines.append(f"EMAIL{preferred}:{_escape(email.address)}")
    birth = contact.birth
    if birth is not None and birth.calendar != "LUNAR" and birth.month and (birth.year or four):
        year = f"{birth.year:04}" if birth.year else "--"
        dash = "-" if birth.year and not four else ""
        lines.append(f"BDAY:{year}{dash}{birth.month:02}{dash}{birth.day:02}")
    if contact.wechat:
        lines.append(f"X-WECHAT:{_escape(contact.wechat)}")
    if contact.qq:
        lines.append(f"X-QQ:{_escape(contact.qq)}")
    return "".join(_folded(line) for line in [*lines, "END:VCARD"])


def _decoded(content: bytes) -> str:
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("gb18030", "replace")


def _single(text: str) -> Iterator[str]:
    """Each card alone, so that a broken one spoils no other; a card within a card stays in it."""
    depth, start = 0, 0
    begins = [(m.start(), 1, m.end()) for m in _BEGIN.finditer(text)]
    marks = sorted([*begins, *((m.start(), -1, m.end()) for m in _END.finditer(text))])
    for position, step, end in marks:
        if depth == 0 and step < 0:
            continue
        start = position if depth == 0 else start
        depth += step
        if depth == 0:
            yield text[start:end] + "\n"
    if depth:
        yield text[start:]


def _card(component: Component) -> Card:
    family, given, middle, prefix, *_ = [*_parts(_value(component, "n")), "", "", "", "", ""]
    organisation, department, *_ = [*_parts(_value(component, "org")), "", ""]
    parts = (family, given) if _is_han(family + given) else (prefix, given, middle, family)
    spoken = ("" if _is_han(family + given) else " ").join(part for part in parts if part)
    emails = [_email(line) for line in _lines(component, "email")]
    names = [
        _unescape(_value(component, "fn")),
        spoken,
        _unescape(_value(component, "nickname")),
        organisation,
    ]
    names += [email.address for email in emails]
    return Card(
        display_name=next((name.strip() for name in names if name.strip()), "")[:200],
        family_name=family[:100],
        given_name=" ".join(part for part in (given, middle) if part)[:100],
        title=_unescape(_value(component, "title"))[:100],
        organisation=organisation,
        department=department[:100],
        wechat=_unescape(_value(component, "x-wechat"))[:100],
        qq=_unescape(_value(component, "x-qq"))[:20],
        birth=_birth(next(iter(_lines(component, "bday")), None)),
        phones=[phone for line in _lines(component, "tel") if (phone := _phone(line)).number],
        emails=[email for email in emails if "@" in email.address],
    )


def _lines(component: Component, name: str) -> Sequence[ContentLine]:
    found: dict[str, Any] = component.contents
    return [line for line in found.get(name, []) if isinstance(line, ContentLine)]


def _value(component: Component, name: str) -> str:
    return next((str(line.value) for line in _lines(component, name)), "")


def _parts(value: str) -> list[str]:
    return [_unescape(part).strip() for part in re.split(r"(?<!\\);", value)]


def _unescape(value: str) -> str:
    return _ESCAPED.sub(lambda m: "\n" if m[1] in "nN" else m[1], value)


def _types(line: ContentLine) -> set[str]:
    params: dict[str, list[str]] = line.params
    named = [part for value in params.get("TYPE", []) for part in value.split(",")]
    return {kind.strip('" ').upper() for kind in [*named, *line.singletonparams]} | (
        {"PREF"} if "PREF" in params else set()
    )


def _phone(line: ContentLine) -> Any:
    types = _types(line)
    number, _, rest = _unescape(str(line.value)).partition(";")
    extension = next((part[4:] for part in rest.split(";") if part.lower().startswith("ext=")), "")
    kind = next((kind for mark, kind in _PHONE_TYPES.items() if mark in types), "WORK")
    plain = number.strip().removeprefix("tel:")
    return common_pb2.Phone(number=plain[:60], extension=extension[:20], type=kind, primary="PREF" in types)


def _email(line: ContentLine) -> Any:
    address = _unescape(str(line.value)).strip().removeprefix("mailto:")
    return common_pb2.Email(address=address[:320], primary="PREF" in _types(line))


def _birth(line: ContentLine | None) -> Any:
    match = _DAY.fullmatch(str(line.value).strip()) if line is not None else None
    if line is None or match is None or not (1 <= int(match[2]) <= 12 and 1 <= int(match[3]) <= 31):
        return None
    params: dict[str, list[str]] = line.params
    # Telephones that cannot say a day without a year name the year that means none.
    year = "" if match[1] in params.get("X-APPLE-OMIT-YEAR", ()) else match[1]
    return pb.Account.Birth(calendar="SOLAR", year=int(year or 0), month=int(match[2]), day=int(match[3]))


def _is_han(text: str) -> bool:
    return any("\u3400" <= character <= "\u9fff" for character in text)


def _escape(value: str) -> str:
    return re.sub(r"([\\,;])", r"\\\1", value).replace("\r\n", "\\n").replace("\n", "\\n")


def _folded(line: str) -> str:
    """At most 75 bytes a line, never within a character."""
    out, length = "", 0
    for character in line:
        size = len(character.encode())
        if length + size > 75:
            out, length = out + "\r\n ", 1
        out, length = out + character, length + size
    return out + "\r\n"
