"""Telephone numbers as they are dialled and compared."""

import phonenumbers


def e164(number: str, country: str = "CN") -> str:
    """The number in E.164, read as one of the country where it does not say; empty where nobody could dial it."""
    try:
        parsed = phonenumbers.parse(number, country)
    except phonenumbers.NumberParseException:
        return ""
    if not phonenumbers.is_valid_number(parsed):
        return ""
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
