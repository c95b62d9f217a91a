"""Filters: what they mean, what they refuse, and that PostgreSQL and `matches` agree about both."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from crmkit.filters import FilterError, FilterField, bind, condition, matches, parse, parse_order
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

ZONE = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 11, 20, 17, 30, tzinfo=UTC)  # 01:30 on Saturday the 21st in Shanghai
ME = "employees/me"

records = Table(
    "records",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("display_name", Text),
    Column("score", Integer),
    Column("ratio", Float),
    Column("active", Boolean),
    Column("close_date", Date),
    Column("create_time", DateTime(timezone=True)),
    Column("amount", Numeric),
    Column("amount_currency", Text),
    Column("state", Text),
    Column("owner", Text),
    Column("tags", ARRAY(Text)),
    Column("marks", JSONB(none_as_null=True)),
    Column("custom", JSONB(none_as_null=True)),
    Column("lines", JSONB(none_as_null=True)),
)
c = records.c
FIELDS = {
    field.name: field
    for field in [
        FilterField("display_name", "text", c.display_name),
        FilterField("score", "number", c.score),
        FilterField("ratio", "number", c.ratio),
        FilterField("active", "bool", c.active),
        FilterField("close_date", "date", c.close_date),
        FilterField("create_time", "time", c.create_time),
        FilterField("amount", "money", c.amount, currency=c.amount_currency),
        FilterField("state", "enum", c.state, choices=frozenset({"OPEN", "WON", "LOST"})),
        FilterField("owner", "reference", c.owner),
        FilterField("tags", "texts", c.tags),
        FilterField("marks", "texts", c.marks),
        FilterField("custom", "struct", c.custom),
        FilterField("lines", "messages", c.lines),
    ]
}


def passes(text: str, record: dict[str, Any], **overrides: Any) -> bool:
    """Whether the record passes, with its fields bound and without; both must agree."""
    given = {"me": ME, "now": NOW, "zone": ZONE} | overrides
    bound = matches(bind(parse(text), FIELDS), record, **given)
    assert matches(parse(text), record, **given) == bound
    return bound


@pytest.mark.parametrize(
    ("text", "record"),
    [
        ("", {}),
        ('displayName = "华为"', {"displayName": "华为"}),
        ("display_name = 华为", {"display_name": "华为"}),
        ('display_name = "华*"', {"displayName": "华为"}),
        ('display_name = "*为"', {"displayName": "华为"}),
        ('display_name = "*a_b%*"', {"displayName": "xa_b%y"}),
        (r'display_name = "5\*"', {"displayName": "5*"}),
        ("display_name:ACME", {"displayName": "the acme group"}),
        ("display_name = 'it\\'s'", {"displayName": "it's"}),
        ("display_name:*", {"displayName": "x"}),
        ("score > -3 score < 5", {"score": 2}),
        ("-score > 3", {"score": 2}),
        ("NOT (score = 1 OR score = 3)", {"score": 2}),
        ("score = (1 OR 2)", {"score": 2}),
        ("score != (1 OR 3)", {"score": 2}),
        ("score = 1 OR score = 2 AND active = true", {"score": 1, "active": True}),
        ("active = false", {}),
        ('amount >= "CNY 100"', {"amount": {"currencyCode": "CNY", "amount": "100.00"}}),
        ("amount < 100.5", {"amount": {"currency_code": "USD", "amount": "100.00"}}),
        ("amount.currency_code = CNY", {"amount": {"currencyCode": "CNY", "amount": "1"}}),
        ("state = (OPEN OR WON)", {"state": "WON"}),
        ("owner = me", {"owner": ME}),
        ('owner = "employees/*"', {"owner": ME}),
        ("tags:vip AND tags:(a OR b)", {"tags": ["vip", "b"]}),
        ('tags:"v*"', {"tags": ["vip"]}),
        ("tags:me", {"tags": [ME]}),
        ("custom.colour = red", {"custom": {"colour": "red"}}),
        ('custom."my key" = red', {"custom": {"my key": "red"}}),
        ("custom.颜色:红", {"custom": {"颜色": "大红"}}),
        ("custom.sizes:4", {"custom": {"sizes": [3, 4]}}),
        ("custom:colour", {"custom": {"colour": "red"}}),
        ("custom.due < today", {"custom": {"due": "2026-11-20"}}),
        ("lines.product = products/1", {"lines": [{"product": "products/2"}, {"product": "products/1"}]}),
        ("lines.unit_price.amount > 9", {"lines": [{"unitPrice": {"amount": "10.00"}}]}),
        ("lines = null", {"lines": []}),
        ("close_date = today", {"closeDate": {"year": 2026, "month": 11, "day": 21}}),
        ("close_date = today()-1d", {"closeDate": "2026-11-20"}),
        ("close_date = startOfWeek", {"closeDate": "2026-11-16"}),
        ("close_date = startOfMonth-1m", {"closeDate": "2026-10-01"}),
        ("close_date = startOfQuarter", {"closeDate": "2026-10-01"}),
        ("close_date = startOfYear+1q", {"closeDate": "2026-04-01"}),
        ("close_date = today+3m+9d", {"closeDate": "2027-03-02"}),
        ("create_time = today", {"createTime": "2026-11-20T16:00:00Z"}),
        ("create_time < today", {"createTime": "2026-11-20T15:59:59.999999Z"}),
        ("create_time > now-4h", {"createTime": "2026-11-20T13:31:00Z"}),
        ("create_time <= now-30min", {"createTime": "2026-11-20T17:00:00Z"}),
        ("create_time >= 2026-11-21T01:00", {"createTime": "2026-11-20T17:00:00Z"}),
        ("create_time = 2026-11-21T01:00:00+08:00", {"createTime": "2026-11-20T17:00:00Z"}),
    ],
)
def test_a_record_passes_the_filter_and_fails_its_opposite(text: str, record: dict[str, Any]) -> None:
    assert passes(text, record)
    if text:
        assert not passes(f"NOT ({text})", record)


@pytest.mark.parametrize("text", ["score != 1", "NOT score = 1", "-score = 1", "score = null", "NOT score:*"])
def test_null_is_not_equal_to_anything_but_null(text: str) -> None:
    assert passes(text, {})
    assert not passes("score < 1", {}) and not passes("score >= 1", {})


def test_an_empty_text_is_null() -> None:
    assert passes(
        "display_name = null AND custom.colour = null", {"displayName": "", "custom": {"colour": ""}}
    )
    assert not passes("display_name < b OR custom.colour < b", {"displayName": "", "custom": {"colour": ""}})


def test_or_binds_tighter_than_and() -> None:
    assert not passes("active = true AND score = 1 OR score = 2", {"score": 2})


def test_a_caller_without_employee_owns_nothing() -> None:
    assert not passes("owner = me", {}, me="")
    assert not passes("owner = me", {"owner": ""}, me="")


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("score", 5),
        ("score = ", 8),
        ("score = 1 AND", 13),
        ("score 1", 6),
        ("(score = 1", 10),
        ("score = 1)", 9),
        ('display_name = "open', 15),
        ("score = 1 AND nothing = 2", 14),
        ("score = 1 AND score = x", 22),
        ("state = GONE", 8),
        ("state < WON", 0),
        ("active = yes", 9),
        ("close_date = 2026-02-30", 13),
        ("close_date = tomorrow", 13),
        ("create_time > today-99999y", 14),
        ("close_date > 9999-99-99", 13),
        ("create_time > 9999-12-31", 14),
        ("amount = CNY", 9),
        ("tags = vip", 0),
        ("score.x = 1", 0),
        ("amount.cents = 1", 0),
        ("score < null", 0),
        ("lines = x", 0),
        ("score = 1e5", 8),
        ("score = 1\x00", 9),
        ("score = \ud800", 8),
        ("score = 1 AND " * 20 + "score = 1", 288),
        ("(" * 11 + "score = 1" + ")" * 11, 0),
        ("display_name = " + "x" * 4090, 4105),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_position(text: str, position: int) -> None:
    with pytest.raises(FilterError) as refused:
        condition(parse(text), FIELDS, me=ME, now=NOW, zone=ZONE)
    assert refused.value.position == position
    assert refused.value.detail_zh and refused.value.detail_en


def test_the_limits_themselves_are_allowed() -> None:
    parse(" AND ".join(["score = 1"] * 20))
    parse("(" * 10 + "score = 1" + ")" * 10)
    parse("display_name = " + "x" * (4096 - 15))


def test_order_by_names_fields_and_directions() -> None:
    order = parse_order("createTime desc, display_name", FIELDS)
    assert [(field.name, descending) for field, descending in order] == [
        ("create_time", True),
        ("display_name", False),
    ]
    assert parse_order(" ", FIELDS) == []


@pytest.mark.parametrize(
    ("text", "position"),
    [("score,", 6), ("score, nothing", 7), ("score down", 0), ("tags", 0), ("score, score desc", 7)],
)
def test_an_order_that_cannot_be_used_is_refused_with_its_position(text: str, position: int) -> None:
    with pytest.raises(FilterError) as refused:
        parse_order(text, FIELDS)
    assert refused.value.position == position


# --- PostgreSQL and `matches` ---


class Database:
    """The table on PostgreSQL, spoken to as the services do."""

    def __init__(self, uri: str) -> None:
        self.runner = asyncio.Runner()
        self.engine = create_async_engine(
            make_url(uri).set(drivername="postgresql+asyncpg", database="postgres")
        )
        self.runner.run(self._create())

    async def _create(self) -> None:
        async with self.engine.begin() as opened:
            await opened.run_sync(records.metadata.create_all)

    def answers(self, table: list[dict[str, Any]], conditions: list[Any]) -> list[list[bool | None]]:
        """What each condition says of each row."""
        return self.runner.run(self._answers(table, conditions))

    async def _answers(self, table: list[dict[str, Any]], conditions: list[Any]) -> list[list[bool | None]]:
        opened: AsyncConnection
        async with self.engine.connect() as opened:
            await opened.execute(records.insert(), [{"id": id, **row} for id, row in enumerate(table)])
            columns = [func.array_agg(aggregate_order_by(each, c.id)) for each in conditions]
            return list((await opened.execute(select(*columns))).one())

    def close(self) -> None:
        self.runner.run(self.engine.dispose())
        self.runner.close()


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    opened = Database(postgres_url)
    try:
        yield opened
    finally:
        opened.close()


WORDS = [
    "",
    "a",
    "A",
    "ab",
    "Ab%",
    "a_b",
    "b\\",
    "é",
    "É",
    "华",
    "华为",
    "null",
    "true",
    "5",
    "05",
    "5.0",
    "today",
]
WORDS += ["2026-11-21", "OPEN", ME, "*", "x'\"y"]
words = st.sampled_from(WORDS)
numbers = st.sampled_from([-2, 0, 1, 5, 6, 10**12])
decimals = st.sampled_from([Decimal(text) for text in ("-1", "0", "5", "5.00", "99.99", "100")])
days = st.sampled_from([date(2026, 11, day) for day in (1, 16, 20, 21, 22)] + [date(2026, 10, 1)])
instants = st.sampled_from(
    [
        datetime(2026, 11, 20, hour, minute, tzinfo=UTC)
        for hour, minute in ((13, 30), (15, 59), (16, 0), (17, 30))
    ]
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.sampled_from([0.5, 5.0, 1e22]), words)
keys = st.sampled_from(["colour", "size", "unitPrice", "unit_price", "null", "5", "a"])
leaves = st.one_of(scalars, st.lists(scalars, max_size=2), st.dictionaries(keys, scalars, max_size=2))
structs = st.fixed_dictionaries(
    {"colour": leaves},
    optional={"size": leaves, "unitPrice": scalars, "unit_price": scalars, "5": scalars, "null": words},
)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values, values)


rows = st.fixed_dictionaries(
    {
        "display_name": maybe(words),
        "score": maybe(st.sampled_from([-2, 0, 1, 5, 6])),
        "ratio": maybe(st.sampled_from([0.1, 0.5, 5.0, -2.0])),
        "active": maybe(st.booleans()),
        "close_date": maybe(days),
        "create_time": maybe(instants),
        "amount": maybe(decimals),
        "amount_currency": st.sampled_from(["CNY", "USD"]),
        "state": maybe(st.sampled_from(["", "OPEN", "WON"])),
        "owner": maybe(st.sampled_from(["", ME, "employees/2"])),
        "tags": maybe(st.lists(words, max_size=3)),
        "marks": maybe(st.lists(words, max_size=3)),
        "custom": maybe(structs),
        "lines": maybe(st.lists(structs, max_size=3)),
    }
)


def quote(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


texts = st.one_of(
    words.map(quote),
    st.sampled_from(
        ["a", "华", "me", "null", "true", "false", "5", "5.0", "-2", "today", "today-1d", "*", "a*"]
    ),
    st.sampled_from(['"*b"', '"*a*"', '"a_*"', '"**"', r'"\*"', r'"b\\*"', '"*华"']),
)
anything = ["=", "!=", "<", "<=", ">", ">=", ":"]
equality = ["=", "!=", ":"]
dates = st.sampled_from(
    ["today", "now", "2026-11-21", "startOfWeek", "startOfMonth", "startOfQuarter()", "today-1d", "now-4h"]
)


def compare(
    names: list[str], operators: list[str], values: st.SearchStrategy[str], nulls: bool = True
) -> st.SearchStrategy[str]:
    some = st.builds("{} {} {}".format, st.sampled_from(names), st.sampled_from(operators), values)
    none = st.builds(
        "{} {} {}".format,
        st.sampled_from(names),
        st.sampled_from(equality),
        st.sampled_from(["null", "*"]),
    )
    return st.one_of(some, some, some, none) if nulls else some


without_null = texts.filter(lambda text: text != "null")
paths = [f"custom.{key}" for key in ("colour", "size", "unit_price", "colour.size", "colour.a")]
inner = [f"lines.{key}" for key in ("colour", "size", "unitPrice", "colour.size")]
comparisons = st.one_of(
    compare(["display_name", "displayName"], anything, without_null),
    compare(
        ["score", "ratio"], anything, st.sampled_from(["-2", "0", "0.1", "0.5", "5", "5.5", "99999999999"])
    ),
    compare(["active"], equality, st.sampled_from(["true", "false"])),
    compare(["close_date", "createTime", "create_time"], anything, dates),
    compare(["create_time"], anything, st.sampled_from(["2026-11-21T00:00", '"2026-11-20T17:30:00Z"'])),
    compare(["amount"], anything, st.sampled_from(["5", '"CNY 5"', '"USD 99.99"', "100"])),
    compare(["amount.amount"], anything, st.sampled_from(["5", "100"])),
    compare(["amount.currency_code"], equality, st.sampled_from(["CNY", '"USD"', "C*"])),
    compare(["state"], equality, st.sampled_from(["OPEN", '"WON"', "LOST"])),
    compare(["owner"], equality, st.sampled_from(["me", '"me"', "employees/2", '"employees/*"', '""'])),
    compare(["tags", "marks"], [":"], texts),
    compare(paths, anything, without_null),
    compare(["custom"], [":"], st.sampled_from(["colour", "unit_price", "unitPrice", "5", '"null"'])),
    compare(inner, anything, without_null),
    compare(["lines"], ["=", "!="], st.sampled_from(["null", "*"]), nulls=False),
)
filters = st.recursive(
    comparisons,
    lambda inside: st.one_of(
        inside.map("NOT ({})".format),
        inside.map("-({})".format),
        st.builds("({} AND {})".format, inside, inside),
        st.builds("({} {})".format, inside, inside),
        st.builds("({} OR {})".format, inside, inside),
    ),
    max_leaves=4,
)


def as_record(row: dict[str, Any]) -> dict[str, Any]:
    """The row as the JSON of its message: camelCase, times and decimals as text, nothing where it is null."""
    record: dict[str, Any] = {
        "displayName": row["display_name"],
        "score": row["score"],
        "ratio": row["ratio"],
        "active": row["active"],
        "state": row["state"],
        "owner": row["owner"],
        "tags": row["tags"],
        "marks": row["marks"],
        "custom": row["custom"],
        "lines": row["lines"],
    }
    if row["close_date"]:
        day: date = row["close_date"]
        record["closeDate"] = {"year": day.year, "month": day.month, "day": day.day}
    if row["create_time"]:
        record["createTime"] = row["create_time"].isoformat().replace("+00:00", "Z")
    if row["amount"] is not None:
        record["amount"] = {"currencyCode": row["amount_currency"], "amount": str(row["amount"])}
    return {key: value for key, value in record.items() if value is not None}


def agreed(database: Database, table: list[dict[str, Any]], several: list[str]) -> int:
    """Compare every filter over every row; how many comparisons that was."""
    for row in table:
        if row["amount"] is None:
            row["amount_currency"] = None
    given = {"me": ME, "now": NOW, "zone": ZONE}
    nodes = [bind(parse(text), FIELDS) for text in several]
    sent = [json.loads(json.dumps(as_record(row))) for row in table]
    answers = database.answers(table, [condition(node, FIELDS, **given) for node in nodes])
    for text, node, answer in zip(several, nodes, answers, strict=True):
        for row, record, said in zip(table, sent, answer, strict=True):
            expected = matches(node, record, **given)
            assert said is expected, f"{text}: SQL says {said}, matches says {expected}, of {row}"
    return len(table) * len(several)


def test_postgresql_and_matches_agree_on_random_filters_and_records(database: Database) -> None:
    compared: list[int] = []

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(rows, min_size=8, max_size=12), st.lists(filters, min_size=30, max_size=40))
    def compare_all(table: list[dict[str, Any]], several: list[str]) -> None:
        compared.append(agreed(database, table, several))

    compare_all()
    assert sum(compared) >= 9_600  # 40 examples of 30 filters over 8 records
