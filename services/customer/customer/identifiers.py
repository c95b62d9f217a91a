"""Telephone numbers (NAM-8), tax ids (NAM-9), mail and web addresses as they are compared."""

import re
from dataclasses import dataclass
from enum import StrEnum

import phonenumbers
from crmkit.phones import e164, plain_mobile
from crmkit.text import fold
from stdnum.cn import uscc

from customer.regions import known_division


@dataclass(frozen=True, slots=True)
class Phone:
    """A telephone number as it was typed and, if it is one, in E.164."""

    text: str
    number: str = ""
    extension: str = ""
    reason: str = ""
    """Why it is not valid: NOT_A_PHONE_NUMBER, SPREADSHEET_NUMBER (a spreadsheet has eaten its digits)."""

    @property
    def valid(self) -> bool:
        return bool(self.number)

    @property
    def mobile(self) -> bool:
        """True for numbers that take a text message."""
        kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
        return self.valid and phonenumbers.number_type(phonenumbers.parse(self.number)) in kinds

    @classmethod
    def parse(cls, text: str, country: str = "CN") -> "Phone":
        """Never fails; what is not a number of the country or an international one is kept as text."""
        if country == "CN" and (mobile := plain_mobile(text)):
            return cls(text, mobile)
        folded = fold(text)
        if _SPREADSHEET.fullmatch(folded):
            return cls(text, reason="SPREADSHEET_NUMBER")
        for pattern in (_EXTENSION, _DASH_EXTENSION):
            if (match := pattern.fullmatch(folded)) and (number := e164(match[1], country)):
                return cls(text, number, match[2])
        if number := e164(folded, country):
            return cls(text, number)
        return cls(text, reason="NOT_A_PHONE_NUMBER")


class TaxIdStatus(StrEnum):
    """What is known about a tax id from the number alone."""

    VALID = "VALID"
    UNVERIFIED = "UNVERIFIED"
    """The check character is right, but no register has that code."""
    LEGACY = "LEGACY"
    """An old Chinese number of 15 characters, without a check."""
    TEXT = "TEXT"
    """A number of another country, not checked."""
    INVALID = "INVALID"


@dataclass(frozen=True, slots=True)
class TaxId:
    """A tax id without spaces and dashes, in capitals."""

    value: str
    country: str
    status: TaxIdStatus

    @property
    def checked(self) -> bool:
        """True if its check character proves that it was not mistyped."""
        return self.status in (TaxIdStatus.VALID, TaxIdStatus.UNVERIFIED)

    @classmethod
    def parse(cls, text: str, country: str = "CN") -> "TaxId":
        value = re.sub(r"[\s\-]", "", fold(text)).upper()
        return cls(value, country, _chinese_status(value) if country == "CN" else TaxIdStatus.TEXT)


def mail_address(text: str) -> str:
    """The address as it is compared, or nothing if it is none."""
    match = re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", fold(text))
    return match.group() if match else ""


def web_domain(text: str) -> str:
    """The host of a web address without `www.`, or nothing if there is none."""
    match = re.match(r"(?:[a-z][a-z0-9+.\-]*:)?(?://)?(?:[^/?#@]*@)?([^/?#:@\s]+)", fold(text))
    host = match[1].strip(".").removeprefix("www.") if match else ""
    return host if "." in host else ""


_SPREADSHEET = re.compile(r"\+?\d+(\.\d+)?e\+?\d+")
_EXTENSION = re.compile(r"(.*?)\s*(?:转|轉|ext\.?|#)\s*:?\s*(\d{1,6})")
_DASH_EXTENSION = re.compile(r"(.*\S)\s*[-‐‑–—]\s*(\d{1,6})")
_REGISTERING_AUTHORITIES = "123456789ANY"
_ALPHABET = re.compile("[0-9A-HJ-NPQRTUWXY]{18}")  # no I O S V Z


def _chinese_status(value: str) -> TaxIdStatus:
    if re.fullmatch(r"\d{6}[0-9A-Z]{9}", value):
        return TaxIdStatus.LEGACY
    # Not uscc.is_valid: it refuses the letters that the standard allows in the first eight places.
    if not _ALPHABET.fullmatch(value) or uscc.calc_check_digit(value) != value[-1]:
        return TaxIdStatus.INVALID
    registered = value[0] in _REGISTERING_AUTHORITIES and known_division(value[2:8])
    return TaxIdStatus.VALID if registered else TaxIdStatus.UNVERIFIED
