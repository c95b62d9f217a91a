"""Cells of text into values of declared fields, and columns of a table onto fields.

People type 5 March 2024 in a dozen ways. What can only mean one thing is taken, what could mean two refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from crmkit.text import reject_bad_text

Kind = Literal["text", "int", "decimal", "bool", "date", "time", "money", "enum"]


class Amount(NamedTuple):
    currency_code: str
    amount: Decimal


Scalar = str | int | Decimal | bool | date | datetime | Amount


@dataclass(frozen=True)
class Target:
    """A field that a column may fill. `choices` has the Chinese and the English label of every enum value."""

    name: str
    kind: Kind
    label_zh: str = ""
    label_en: str = ""
    repeated: bool = False
    choices: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    max_length: int = 2000


@dataclass(frozen=True)
class Converted:
    """The value of a cell; None where the cell was blank, a list where the field is repeated."""

    value: Scalar | list[Scalar] | None


@dataclass(frozen=True)
class Refused:
    """Why a cell cannot be the field's value."""

    reason: str
    detail_zh: str
    detail_en: str


def convert(text: str, target: Target, *, zone: ZoneInfo, currency: str = "CNY") -> Converted | Refused:
    """Read a cell. Times without an offset are in the zone, amounts without a currency in `currency`."""
    text = text.strip()
    if not text:
        return Converted([] if target.repeated else None)
    if not target.repeated:
        value = _scalar(text, target, zone, currency)
        return value if isinstance(value, Refused) else Converted(value)
    values: list[Scalar] = []
    for part in re.split(r"[;；、,，\n]", text):
        if part.strip():
            value = _scalar(part.strip(), target, zone, currency)
            if isinstance(value, Refused):
                return value
            values.append(value)
    return Converted(values)


def propose_mapping(columns: Sequence[str], fields: Iterable[Target]) -> dict[str, str]:
    """Which field each column most likely holds; columns that resemble none are left out.

    A column is a field's if its header is the field's name, Chinese label or English label, in that order,
    but for case, spaces, punctuation and a remark in parentheses. No field is proposed twice.
    """
    targets = list(fields)
    mapping: dict[str, str] = {}
    for spellings in (
        [target.name for target in targets],
        [target.label_zh for target in targets],
        [target.label_en for target in targets],
    ):
        known: dict[str, str] = {}
        for spelling, target in zip(spellings, targets, strict=True):
            known.setdefault(_bare(spelling), target.name)
        for header in columns:
            name = known.get(_bare(header))
            if _bare(header) and name and header not in mapping and name not in mapping.values():
                mapping[header] = name
    return mapping


def _bare(header: str) -> str:
    folded = unicodedata.normalize("NFKC", header).casefold()
    without_remark = re.sub(r"\([^)]*\)", "", folded)
    return re.sub(r"[\W_]", "", without_remark) or re.sub(r"[\W_]", "", folded)


def _scalar(text: str, target: Target, zone: ZoneInfo, currency: str) -> Scalar | Refused:
    narrow = unicodedata.normalize("NFKC", text).strip()
    match target.kind:
        case "text":
            return _text(text, target.max_length)
        case "int":
            return _int(narrow)
        case "decimal":
            number = _decimal(narrow)
            return _no("NOT_A_NUMBER", "不是数字", "is not a number", text) if number is None else number
        case "bool":
            return _bool(narrow)
        case "date":
            return _date(narrow)
        case "time":
            return _time(narrow, zone)
        case "money":
            return _money(narrow, currency)
        case "enum":
            return _enum(narrow, target.choices)


def _no(reason: str, zh: str, en: str, text: str) -> Refused:
    shown = text if len(text) <= 40 else text[:40] + "…"
    return Refused(reason, f"“{shown}”{zh}", f'"{shown}" {en}')


def _text(text: str, max_length: int) -> str | Refused:
    if len(text) > max_length:
        return _no("TOO_LONG", f"超过 {max_length} 个字符", f"is longer than {max_length} characters", text)
    try:
        return reject_bad_text(text)
    except ValueError:
        return Refused(
            "TEXT_CONTROL_CHARACTER", "包含不允许的字符", "there is a character that is not allowed"
        )


# --- Numbers and money ---

_PLAIN = re.compile(r"[0-9]{1,30}(\.[0-9]{1,12})?|[0-9]{1,3}(,[0-9]{3}){1,9}(\.[0-9]{1,12})?")


def _decimal(text: str) -> Decimal | None:
    """A number, maybe with thousands commas; a minus sign or accountants' parentheses make it negative."""
    negative = text.startswith("-")
    body = text[1:] if text.startswith(("-", "+")) else text
    if text.startswith("(") and text.endswith(")"):
        negative, body = True, text[1:-1]
    if not _PLAIN.fullmatch(body.strip()):
        return None
    number = Decimal(body.strip().replace(",", ""))
    return number.copy_negate() if negative else number


def _int(text: str) -> int | Refused:
    number = _decimal(text)
    if number is None or number != int(number):
        return _no("NOT_AN_INTEGER", "不是整数", "is not a whole number", text)
    if not -(2**31) <= number < 2**31:
        return _no("OUT_OF_RANGE", "超出范围", "is out of range", text)
    return int(number)


_SIGNS: Final = {
    "元": "CNY",
    "圆": "CNY",
    "块": "CNY",
    "人民币": "CNY",
    "rmb": "CNY",
    "us$": "USD",
    "hk$": "HKD",
    "nt$": "TWD",
    "$": "USD",
    "€": "EUR",
    "£": "GBP",
    "美元": "USD",
    "欧元": "EUR",
    "港元": "HKD",
    "港币": "HKD",
    "日元": "JPY",
    "英镑": "GBP",
}
_UNITS: Final = {"": Decimal(1), "万": Decimal(10_000), "亿": Decimal(100_000_000)}
_MONEY = re.compile(
    r"(?P<before>[^0-9(+-]*?)\s*(?P<number>[-+]?\(?[0-9][0-9.,]*\)?)\s*(?P<unit>[万亿]?)(?P<after>.*)"
)
_PLACES: Final = {
    **dict.fromkeys(("JPY", "KRW", "VND", "CLP", "ISK", "PYG", "UGX", "XAF", "XOF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}


def _money(text: str, currency: str) -> Amount | Refused:
    inner = re.fullmatch(r"-\s*(.*)|\((.*)\)", text)
    found = _MONEY.fullmatch((inner[1] or inner[2] or "").strip() if inner else text)
    number = _decimal(found["number"]) if found else None
    if not found or number is None:
        return _no("NOT_AN_AMOUNT", "不是金额", "is not an amount", text)
    codes: set[str] = set()
    for sign in (found["before"].strip(), found["after"].strip()):
        if not sign:
            continue
        code = _currency(sign, currency)
        if code is None:
            return _no("UNKNOWN_CURRENCY", "的币种无法识别", "has a currency that is not known", text)
        codes.add(code)
    if len(codes) > 1:
        return _no("UNKNOWN_CURRENCY", "有两个不同的币种", "has two different currencies", text)
    code = codes.pop() if codes else currency
    if abs(number) >= 10**15:
        return _no("OUT_OF_RANGE", "超出范围", "is out of range", text)
    amount = number * _UNITS[found["unit"]] * (-1 if inner else 1)
    places = _PLACES.get(code, 2)
    if amount != round(amount, places):
        return _no("TOO_PRECISE", f"的小数位超过 {places} 位", f"has more than {places} decimal places", text)
    return Amount(code, round(amount, places))


def _currency(sign: str, currency: str) -> str | None:
    if sign == "¥":
        # The sign of both the yuan and the yen.
        return "JPY" if currency == "JPY" else "CNY"
    if re.fullmatch("[A-Z]{3}", sign) and sign != "RMB":
        return sign
    return _SIGNS.get(sign.casefold())


# --- Choices ---

_TRUE: Final = frozenset(("是", "对", "真", "√", "✓", "true", "yes", "y", "1"))
_FALSE: Final = frozenset(("否", "不", "假", "×", "✗", "false", "no", "n", "0"))


def _bool(text: str) -> bool | Refused:
    folded = text.casefold()
    if folded in _TRUE or folded in _FALSE:
        return folded in _TRUE
    return _no("NOT_A_BOOL", "不是“是”或“否”", "is neither yes nor no", text)


def _enum(text: str, choices: Mapping[str, tuple[str, str]]) -> str | Refused:
    wanted = text.casefold()
    if text in choices:
        return text
    found = [
        value
        for value, labels in choices.items()
        if wanted in {unicodedata.normalize("NFKC", each).strip().casefold() for each in (value, *labels)}
    ]
    if len(found) == 1:
        return found[0]
    if found:
        return _no("AMBIGUOUS", "对应多个选项", "stands for more than one choice", text)
    labels = list(choices.values())[:20]
    zh, en = "、".join(label[0] for label in labels), ", ".join(label[1] for label in labels)
    return _no("UNKNOWN_CHOICE", f"不在选项中：{zh}", f"is not one of: {en}", text)


# --- Dates ---

_DAY = re.compile(
    r"(?P<y>[0-9]{4})(?:-(?P<m1>[0-9]{1,2})-(?P<d1>[0-9]{1,2})|/(?P<m2>[0-9]{1,2})/(?P<d2>[0-9]{1,2})"
    r"|\.(?P<m3>[0-9]{1,2})\.(?P<d3>[0-9]{1,2})|年(?P<m4>[0-9]{1,2})月(?P<d4>[0-9]{1,2})日?"
    r"|(?P<m5>[0-9]{2})(?P<d5>[0-9]{2}))"
)
_CLOCK = re.compile(
    r"(?P<half>上午|下午|AM|PM)?\s*(?P<h>[0-9]{1,2})(?::(?P<min>[0-9]{2})(?::(?P<s>[0-9]{2})(?:\.[0-9]{1,9})?)?"
    r"|[时点](?:(?P<min2>[0-9]{1,2})分)?(?:(?P<s2>[0-9]{1,2})秒)?)\s*(?P<half2>AM|PM)?"
    r"\s*(?P<offset>Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_SERIAL = re.compile(r"[0-9]{5}(\.[0-9]{1,15})?")
_TURNED = re.compile(r"[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4}")


def _date(text: str) -> date | Refused:
    moment = _moment(text, "NOT_A_DATE", "不是日期", "is not a date")
    if isinstance(moment, Refused) or not isinstance(moment, datetime):
        return moment
    if moment.time() != time() or moment.tzinfo:
        return _no("NOT_A_DATE", "带有时间，应只有日期", "has a time of day, only a date is wanted", text)
    return moment.date()


def _time(text: str, zone: ZoneInfo) -> datetime | Refused:
    moment = _moment(text, "NOT_A_TIME", "不是日期时间", "is not a date and time")
    if isinstance(moment, Refused):
        return moment
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        return _no("NOT_A_TIME", "不是日期时间", "is not a date and time", text)


def _moment(text: str, reason: str, zh: str, en: str) -> date | datetime | Refused:
    """A day, or a wall time of a day, which has a zone only if the text gives an offset."""
    if _SERIAL.fullmatch(text):
        # Excel counts days from 1899-12-30, as it takes 1900 for a leap year.
        days, seconds = divmod(round(Decimal(text) * 86_400), 86_400)
        moment = datetime(1899, 12, 30) + timedelta(days=days, seconds=seconds)  # noqa: DTZ001
        return moment if seconds else moment.date()
    if _TURNED.fullmatch(text):
        return _no(
            "AMBIGUOUS_DATE", "的年月日次序不明，请写作 2024-03-05", "does not begin with the year", text
        )
    found = _DAY.match(text)
    rest = text[found.end() :].strip().removeprefix("T").strip() if found else ""
    clock = _CLOCK.fullmatch(rest.upper()) if rest else None
    if not found or (rest and not clock):
        return _no(reason, zh, en, text)
    try:
        month, day = (int(value) for name, value in found.groupdict().items() if name != "y" and value)
        at = date(int(found["y"]), month, day)
        return datetime.fromisoformat(at.isoformat() + _wall_time(clock)) if clock else at
    except ValueError:
        return _no(reason, zh, en, text)


def _wall_time(clock: re.Match[str]) -> str:
    hour = int(clock["h"])
    half = clock["half"] or clock["half2"]
    if half and not 1 <= hour <= 12:
        raise ValueError(half)
    if half:
        hour = hour % 12 + (12 if half in ("下午", "PM") else 0)
    minute, second = (int(clock[name] or clock[name + "2"] or 0) for name in ("min", "s"))
    return f"T{hour:02}:{minute:02}:{second:02}{clock['offset'] or ''}"
