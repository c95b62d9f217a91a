"""Phones and mail addresses as they are compared, to find the open lead of the same person."""

import re
from collections.abc import Iterable
from typing import Any

import phonenumbers

_MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def normal_phone(phone: Any) -> Any:
    """The phone in E.164 where it can be read as one of China or an international one, else as typed and marked."""
    normal = type(phone)()
    normal.CopyFrom(phone)
    normal.valid = False
    try:
        parsed = phonenumbers.parse(phone.number, "CN")
    except phonenumbers.NumberParseException:
        return normal
    if phonenumbers.is_valid_number(parsed):
        normal.number = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
        normal.extension = normal.extension or parsed.extension or ""
        normal.valid = True
    return normal


def keys_of(phones: Iterable[Any], emails: Iterable[Any]) -> list[str]:
    """What tells that two leads are of one person: `phone:+8613800138000`, `mail:a@b.cn`."""
    numbers = [f"phone:{phone.number}" for phone in phones if phone.valid]
    folded = (email.address.strip().lower() for email in emails)
    return list(
        dict.fromkeys([*numbers, *(f"mail:{address}" for address in folded if _MAIL.fullmatch(address))])
    )
