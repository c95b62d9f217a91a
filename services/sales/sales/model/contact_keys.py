"""Phones and mail addresses as they are compared, to find the open lead of the same person."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import phonenumbers
from crmkit.text import fold, is_mail_address

# Forms of companies, which say nothing about which company it is.
_FORMS = re.compile(
    r"(股份有限公司|有限责任公司|有限公司|股份公司|集团公司|集团|公司|\b(co|ltd|limited|inc|corp|llc|gmbh)\b)",
    re.IGNORECASE,
)
_NO_WORD = re.compile(r"[\W_]+")


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


def mail_key(address: str) -> str:
    """The address as it is compared: without spaces and in small letters, full-width characters made narrow."""
    return unicodedata.normalize("NFKC", address).strip().lower()


def company_key(name: str) -> str:
    """The company's name without its form, signs and ways of writing; empty where nothing is left."""
    bare = _NO_WORD.sub("", _FORMS.sub("", unicodedata.normalize("NFKC", name)))
    return fold(bare).replace(" ", "") if len(bare) > 1 else ""


def keys_of(phones: Iterable[Any], emails: Iterable[Any]) -> list[str]:
    """What tells that two leads are of one person: `phone:+8613800138000`, `mail:a@b.cn`."""
    numbers = [f"phone:{phone.number}" for phone in phones if phone.valid]
    folded = (mail_key(email.address) for email in emails)
    return list(
        dict.fromkeys([*numbers, *(f"mail:{address}" for address in folded if is_mail_address(address))])
    )
