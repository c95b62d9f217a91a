"""Telephone numbers as they are dialled and compared."""

import re
from functools import cache
from typing import Any

import phonenumbers
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.orm.base import PASSIVE_NO_INITIALIZE


def e164(number: str, country: str = "CN") -> str:
    """The number in E.164, read as one of the country where it does not say; empty where nobody could dial it."""
    if country == "CN" and (mobile := plain_mobile(number)):
        return mobile
    try:
        parsed = phonenumbers.parse(number, country)
    except phonenumbers.NumberParseException:
        return ""
    if not phonenumbers.is_valid_number(parsed):
        return ""
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


# A mobile number as nearly everybody writes one: the library's own pattern, without its detours (a tenth of the cost).
# What begins with 179 may be a carrier's prefix.
_MOBILE = re.compile(r"(?:\+86)?(1(?!79)[3-9][0-9]{9})")


def plain_mobile(text: str) -> str:
    """The E.164 of a Chinese mobile number that is written without anything else; empty for everything else."""
    mobile = _MOBILE.fullmatch(text)
    return f"+86{mobile[1]}" if mobile and _mobile_series().fullmatch(mobile[1]) else ""


@cache
def _mobile_series() -> re.Pattern[str]:
    """The series of mobile numbers that are in use in China, as the library knows them."""
    china: Any = phonenumbers.PhoneMetadata.metadata_for_region("CN")
    return re.compile(china.mobile.national_number_pattern)


def mark_wrong(record: Any, number: str) -> bool:
    """Marks a number of a record as one that a call has shown to be wrong; False where it has no such number."""
    if not any(phone.number == number and phone.valid for phone in record.phones):
        return False
    record.phones = [_marked(phone) if phone.number == number else phone for phone in record.phones]
    return True


def keep_marks(record: Any, phones: list[Any]) -> list[Any]:
    """The new phones of a record in their normal form; a number that was marked as wrong stays so."""
    history = get_history(record, "phones", PASSIVE_NO_INITIALIZE)
    before = next((one[0] for one in (history.deleted, history.unchanged) if one), None) or ()
    wrong = {phone.number for phone in before if phone.number.startswith("+") and not phone.valid}
    return [_marked(phone) if phone.number in wrong else phone for phone in phones]


def _marked(phone: Any) -> Any:
    marked = type(phone)()
    marked.CopyFrom(phone)
    marked.valid = False
    return marked
