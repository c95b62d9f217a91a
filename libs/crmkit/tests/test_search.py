"""Search against a real PostgreSQL: what finds what, in which order, and by which index."""

from collections.abc import AsyncIterator

import pytest
from crmkit.search import (
    CANDIDATES,
    SearchKind,
    SearchTerm,
    candidates,
    phone_keys,
    search_columns,
    search_indexes,
    search_table_columns,
)
from sqlalchemy import Column, MetaData, Table, Text, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

ACCOUNTS = Table(
    "accounts",
    MetaData(),
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    *search_table_columns(),
    *search_indexes("accounts"),
)

NAMES = {
    "北京小米科技有限责任公司": ["+8613800138000"],
    "小米": [],
    "武汉小米科技有限公司": [],
    "朝阳医院": ["+861062782336"],
    "重庆长安汽车股份有限公司": [],
    "绿地控股集团": [],
    "臺灣積體電路製造": ["+85223456789"],
    "乾隆古玩": [],
    "乾燥设备厂": [],
    "XIAOMI Limited": [],
    "100%_纯棉\\织造": [],
    "奇虎360科技3600": [],
}


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(postgres_url.replace("postgresql://", "postgresql+asyncpg://") + "/postgres")
    async with engine.connect() as connection:
        await connection.run_sync(ACCOUNTS.metadata.create_all)
        rows = [
            {"name": name, "owner": "a", **search_columns([name], [name], phones=phones)}
            for name, phones in NAMES.items()
        ]
        await connection.execute(insert(ACCOUNTS), rows)
        yield connection
        await connection.rollback()
    await engine.dispose()


async def found(db: AsyncConnection, q: str) -> list[str]:
    term = SearchTerm.parse(q)
    assert term is not None
    hits = candidates(term, ACCOUNTS, ACCOUNTS.c.name)
    statement = select(hits.c.name).order_by(hits.c.rank, hits.c.position, hits.c.name)
    return [*await db.scalars(statement)]


@pytest.mark.parametrize(
    ("q", "kind"),
    [
        ("小米", SearchKind.FRAGMENT),
        ("米", SearchKind.SINGLE),
        ("x", SearchKind.SINGLE),
        ("zyyy", SearchKind.PINYIN),
        ("Xi’an", SearchKind.PINYIN),
        ("360aq", SearchKind.PINYIN),
        ("tcl科技", SearchKind.FRAGMENT),
        ("1380", SearchKind.PHONE),
        ("138-0013 8000", SearchKind.PHONE),
        ("１３８００１３８０００", SearchKind.PHONE),
        ("360", SearchKind.FRAGMENT),
    ],
)
def test_a_query_says_what_kind_it_is(q: str, kind: SearchKind) -> None:
    term = SearchTerm.parse(q)
    assert term is not None
    assert term.kind is kind


def test_a_query_of_nothing_visible_is_no_term() -> None:
    assert SearchTerm.parse(" \u200b　") is None


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("小米", ["小米", "北京小米科技有限责任公司", "武汉小米科技有限公司"]),
        ("小\u200b米 ", ["小米", "北京小米科技有限责任公司", "武汉小米科技有限公司"]),
        ("隆", ["乾隆古玩"]),
        ("积体", ["臺灣積體電路製造"]),
        ("積體", ["臺灣積體電路製造"]),
        ("乾", ["乾燥设备厂", "乾隆古玩"]),
        ("zyyy", ["朝阳医院"]),
        ("cyyy", ["朝阳医院"]),
        ("chaoyangyi", ["朝阳医院"]),
        ("Chao Yang", ["朝阳医院"]),
        ("cq", ["重庆长安汽车股份有限公司"]),
        ("lvdi", ["绿地控股集团"]),
        ("ludi", ["绿地控股集团"]),
        ("lüdi", ["绿地控股集团"]),
        ("ＸＩＡＯＭＩ", ["小米", "XIAOMI Limited"]),
        ("yyy", []),
        ("1380", ["北京小米科技有限责任公司"]),
        ("8000", ["北京小米科技有限责任公司"]),
        ("+86 138-0013", ["北京小米科技有限责任公司"]),
        ("0013", []),
        ("010-6278", ["朝阳医院"]),
        ("6278 2336", ["朝阳医院"]),
        ("00852-2345", ["臺灣積體電路製造"]),
        ("3600", ["奇虎360科技3600"]),
        ("0%_", ["100%_纯棉\\织造"]),
        ("棉\\织", ["100%_纯棉\\织造"]),
        ("%%", []),
        ("'):*", []),
        ("公司北京", []),
    ],
)
async def test_fragments_spellings_and_telephone_numbers_find_their_rows(
    db: AsyncConnection, q: str, expected: list[str]
) -> None:
    assert await found(db, q) == expected


async def test_a_fragment_never_matches_across_two_names(db: AsyncConnection) -> None:
    row = {"name": "two", "owner": "a", **search_columns(["甲乙", "丙丁"], [])}
    await db.execute(insert(ACCOUNTS), row)
    assert await found(db, "乙丙") == []
    assert await found(db, "丙丁") == ["two"]


async def test_only_rows_inside_the_scope_are_candidates(db: AsyncConnection) -> None:
    term = SearchTerm.parse("小米")
    assert term is not None
    hits = candidates(term, ACCOUNTS, ACCOUNTS.c.name, where=[ACCOUNTS.c.owner == "b"])
    assert (await db.execute(select(hits))).all() == []


async def test_candidates_are_cut_and_served_by_the_indexes(db: AsyncConnection) -> None:
    await db.execute(
        text(
            "INSERT INTO accounts (name, owner, search_grams, search_text, search_pinyin)"
            " SELECT 'x' || n, 'a', ARRAY['公', '司', '公司', 'g' || n, n::text], '公司' || n,"
            " ARRAY['gs' || n, 'gongsi' || n] FROM generate_series(1, 20000) AS n"
        )
    )
    await db.execute(text("ANALYZE accounts"))
    assert len(await found(db, "公司")) == CANDIDATES + 1
    for q, index in [("小米", "search_grams"), ("bjxm", "search_pinyin"), ("00138", "search_pinyin")]:
        term = SearchTerm.parse(q)
        assert term is not None
        compiled = select(candidates(term, ACCOUNTS, ACCOUNTS.c.name)).compile(
            dialect=db.dialect, compile_kwargs={"literal_binds": True}
        )
        plan = "\n".join(await db.scalars(text("EXPLAIN " + str(compiled).replace(":*", r"\:*"))))
        assert f"ix_accounts_{index}" in plan
        assert "Seq Scan" not in plan


def test_a_chinese_number_is_found_as_it_is_dialled_at_home_and_by_its_end() -> None:
    assert phone_keys("+861062782336") == ["861062782336", "1062782336", "01062782336", "-633287260168"]
    assert phone_keys("+8613800138000") == ["8613800138000", "13800138000", "-0008310083168"]
    assert phone_keys("+85223456789") == ["85223456789", "-98765432258"]
    assert phone_keys("no number") == []
