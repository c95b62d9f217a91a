"""Cells become values, or a reason why not."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from crmkit.convert import Amount, Converted, Kind, Refused, Target, convert, propose_mapping
from hypothesis import given
from hypothesis import strategies as st

ZONE = ZoneInfo("Asia/Shanghai")
STATES = {
    "OPEN": ("进行中", "Open"),
    "WON": ("赢单", "Won"),
    "LOST": ("输单", "Lost"),
    "DEAD": ("输单", "Dead"),
}


def value(text: str, kind: Kind, **more: Any) -> Any:
    result = convert(text, Target("field", kind, **more), zone=ZONE)
    return result.value if isinstance(result, Converted) else result.reason


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (" 华为 ", "text", "华为"),
        ("e\u0301", "text", "e\u0301"),
        ("1,234", "int", 1234),
        ("-12.0", "int", -12),
        ("１２", "int", 12),
        ("(1,234.50)", "decimal", Decimal("-1234.50")),
        ("+0.5", "decimal", Decimal("0.5")),
        ("是", "bool", True),
        ("否", "bool", False),
        ("TRUE", "bool", True),
        ("n", "bool", False),
        ("2024-03-05", "date", date(2024, 3, 5)),
        ("2024/3/5", "date", date(2024, 3, 5)),
        ("2024.3.5", "date", date(2024, 3, 5)),
        ("2024年3月5日", "date", date(2024, 3, 5)),
        ("20240305", "date", date(2024, 3, 5)),
        ("45356", "date", date(2024, 3, 5)),
        ("2024-03-05 00:00:00", "date", date(2024, 3, 5)),
        ("2024-03-05 14:30", "time", datetime(2024, 3, 5, 6, 30, tzinfo=UTC)),
        ("2024-03-05T14:30:01Z", "time", datetime(2024, 3, 5, 14, 30, 1, tzinfo=UTC)),
        ("2024-03-05T14:30:01+0100", "time", datetime(2024, 3, 5, 13, 30, 1, tzinfo=UTC)),
        ("2024年3月5日 下午2时30分", "time", datetime(2024, 3, 5, 6, 30, tzinfo=UTC)),
        ("2024/3/5 2:30 pm", "time", datetime(2024, 3, 5, 6, 30, tzinfo=UTC)),
        ("45356.5", "time", datetime(2024, 3, 5, 4, tzinfo=UTC)),
        ("2024-03-05", "time", datetime(2024, 3, 4, 16, tzinfo=UTC)),
        ("¥1,234.50", "money", Amount("CNY", Decimal("1234.50"))),
        ("￥ 99", "money", Amount("CNY", Decimal("99.00"))),
        ("1234.5元", "money", Amount("CNY", Decimal("1234.50"))),
        ("12.5万元", "money", Amount("CNY", Decimal("125000.00"))),
        ("1.2亿", "money", Amount("CNY", Decimal("120000000.00"))),
        ("USD 1,000", "money", Amount("USD", Decimal("1000.00"))),
        ("HK$5", "money", Amount("HKD", Decimal("5.00"))),
        ("100 JPY", "money", Amount("JPY", Decimal(100))),
        ("-¥5", "money", Amount("CNY", Decimal("-5.00"))),
        ("(¥5)", "money", Amount("CNY", Decimal("-5.00"))),
        ("", "money", None),
        ("  ", "text", None),
    ],
)
def test_a_cell_is_read_as_people_write_it(text: str, kind: Kind, expected: object) -> None:
    assert value(text, kind) == expected


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("a\x00b", "text", "TEXT_CONTROL_CHARACTER"),
        ("a\ud800b", "text", "TEXT_CONTROL_CHARACTER"),
        ("x" * 2001, "text", "TOO_LONG"),
        ("1.5", "int", "NOT_AN_INTEGER"),
        ("12a", "int", "NOT_AN_INTEGER"),
        ("2147483648", "int", "OUT_OF_RANGE"),
        ("1,23", "decimal", "NOT_A_NUMBER"),
        ("1e5", "decimal", "NOT_A_NUMBER"),
        ("nan", "decimal", "NOT_A_NUMBER"),
        ("maybe", "bool", "NOT_A_BOOL"),
        ("2024-02-30", "date", "NOT_A_DATE"),
        ("3/5/2024", "date", "AMBIGUOUS_DATE"),
        ("2024-03-05 14:30", "date", "NOT_A_DATE"),
        ("soon", "date", "NOT_A_DATE"),
        ("2024-03-05 25:00", "time", "NOT_A_TIME"),
        ("2024-03-05 13:00 PM", "time", "NOT_A_TIME"),
        ("0001-01-01", "time", "NOT_A_TIME"),
        ("¥1.234", "money", "TOO_PRECISE"),
        ("JPY 1.5", "money", "TOO_PRECISE"),
        ("12 pears", "money", "UNKNOWN_CURRENCY"),
        ("$5元", "money", "UNKNOWN_CURRENCY"),
        ("much", "money", "NOT_AN_AMOUNT"),
        ("1" * 16, "money", "OUT_OF_RANGE"),
    ],
)
def test_a_cell_that_could_mean_nothing_or_two_things_is_refused(text: str, kind: Kind, reason: str) -> None:
    result = convert(text, Target("field", kind), zone=ZONE)
    assert isinstance(result, Refused)
    assert result.reason == reason and result.detail_zh and result.detail_en


def test_a_choice_is_known_by_its_value_or_either_label() -> None:
    assert [value(text, "enum", choices=STATES) for text in ("WON", "won", "赢单", "Won")] == ["WON"] * 4
    assert value("输单", "enum", choices=STATES) == "AMBIGUOUS"
    assert value("别的", "enum", choices=STATES) == "UNKNOWN_CHOICE"


def test_a_list_is_separated_by_semicolons_or_commas_of_either_script() -> None:
    assert value("a;b；c、d,e，f;", "text", repeated=True) == ["a", "b", "c", "d", "e", "f"]
    assert value("赢单、Open", "enum", repeated=True, choices=STATES) == ["WON", "OPEN"]
    assert value("赢单、x", "enum", repeated=True, choices=STATES) == "UNKNOWN_CHOICE"
    assert value("", "text", repeated=True) == []


def test_the_yuan_sign_is_the_yen_where_amounts_are_in_yen() -> None:
    assert convert("¥500", Target("price", "money"), zone=ZONE, currency="JPY") == Converted(
        Amount("JPY", Decimal(500))
    )


def test_columns_find_their_fields_by_name_and_by_either_label() -> None:
    fields = [
        Target("display_name", "text", "客户名称", "Name"),
        Target("phone", "text", "电话", "Phone"),
        Target("create_time", "time", "创建时间", "Created"),
        Target("address.city", "text", "城市", "City"),
    ]
    columns = ["客户名称（必填）", "PHONE *", "CreateTime", "address_city", "电话", "错误"]
    assert propose_mapping(columns, fields) == {
        "客户名称（必填）": "display_name",
        "PHONE *": "phone",
        "CreateTime": "create_time",
        "address_city": "address.city",
    }


@given(
    st.text(max_size=30), st.sampled_from(["text", "int", "decimal", "bool", "date", "time", "money", "enum"])
)
def test_whatever_the_text_there_is_an_answer(text: str, kind: Kind) -> None:
    assert isinstance(convert(text, Target("field", kind, choices=STATES), zone=ZONE), Converted | Refused)


@given(
    st.from_regex(r"[-+(]?[¥$A-Z]{0,3}[0-9]{1,20}[.,]?[0-9]{0,6}[万亿]?[元)]?( ?[0-9:时分年月日/.-]{1,12})?")
)
def test_whatever_looks_like_a_number_there_is_an_answer(text: str) -> None:
    for kind in ("int", "decimal", "date", "time", "money"):
        assert isinstance(convert(text, Target("field", kind), zone=ZONE), Converted | Refused)
