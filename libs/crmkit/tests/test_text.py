"""The text pipeline: every example of NAM-1, SRCH-1 and SRCH-3, and what must hold for any text."""

import itertools
import timeit
from typing import Any

import pytest
from crmkit import text
from crmkit.phrases import mmseg, phrases
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("typed", "folded"),
    [
        ("臺灣積體電路", "台湾积体电路"),
        ("華爲技術有限公司", "华为技术有限公司"),
        ("Ｘｉａｏｍｉ　Ｃｏ．，Ｌｔｄ．", "xiaomi co.,ltd."),
        ("小\u200b米\u202e科技", "小米科技"),
        ("葛\U000e0100城", "葛城"),
        ("乾隆", "乾隆"),
        ("乾燥", "干燥"),
        ("  小米 \t  科技 ", "小米 科技"),
        ("STRASSE Straße", "strasse strasse"),
        ("e\u200d\u0301", "é"),
        ("", ""),
    ],
)
def test_text_is_compared_in_one_folded_form(typed: str, folded: str) -> None:
    assert text.fold(typed) == folded


_any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(_any_text)
def test_folding_twice_changes_nothing(typed: str) -> None:
    assert text.fold(text.fold(typed)) == text.fold(typed)


@given(_any_text)
def test_no_folded_text_contains_the_separator(typed: str) -> None:
    assert text.SEPARATOR not in text.fold(typed)


@given(st.lists(_any_text, max_size=4))
def test_every_fragment_of_two_characters_is_a_gram_of_its_text(typed: list[str]) -> None:
    grams = set(text.grams(typed))
    for folded in map(text.fold, typed):
        assert {*folded, *map("".join, itertools.pairwise(folded))} <= grams


def test_a_fragment_that_lost_its_phrase_is_looked_for_in_both_forms() -> None:
    assert text.foldings("乾") == ("干", "乾")
    assert text.foldings("乾隆") == ("乾隆",)
    assert text.foldings("小米") == ("小米",)
    assert text.foldings(" \u200b ") == ()


def test_grams_are_single_characters_and_neighbours_and_never_cross_two_texts() -> None:
    assert text.grams(["小米", "米粉"]) == ["小", "小米", "米", "米粉", "粉"]


def test_search_text_has_each_folded_text_once_on_its_own_line() -> None:
    assert text.search_text(["小米\n科技", "ＸＩＡＯＭＩ", "xiaomi", ""]) == "小米科技\nxiaomi"


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("朝阳医院", {"zyyy", "cyyy", "zhaoyangyiyuan", "chaoyangyiyuan"}),
        ("重庆", {"cq", "chongqing"}),
        ("绿地", {"lvdi", "ludi", "ld"}),
        ("吕梁 女儿红", {"lvliangnverhong", "llneh"}),
        ("TCL科技", {"tclkeji", "tclkj"}),
        ("華爲技術", {"huaweijishu", "hwjs"}),
    ],
)
def test_a_chinese_name_is_found_by_its_spelling_and_initials(name: str, keys: set[str]) -> None:
    assert keys <= set(text.pinyin_keys(name))


def test_the_reading_of_the_phrase_comes_first_and_excludes_readings_it_does_not_have() -> None:
    assert text.pinyin_keys("重庆") == ["chongqing", "cq"]
    assert text.pinyin_keys("朝阳医院")[0] == "zhaoyangyiyuan"


def test_a_polyphonic_name_has_at_most_eight_alternative_readings() -> None:
    assert len(text.pinyin_keys("行长重了和着")) <= 2 * (1 + text.ALTERNATIVES)


def test_the_part_from_the_brand_on_has_keys_of_its_own() -> None:
    keys = text.pinyin_keys("北京小米科技有限公司", "小米科技有限公司")
    assert {"bjxmkjyxgs", "xmkjyxgs", "xiaomikejiyouxiangongsi"[: text.KEY_LENGTH]} <= set(keys)
    assert "hw" in text.pinyin_keys("北京小米", "华为")


def test_text_without_chinese_has_no_spelling() -> None:
    assert text.pinyin_keys("Xiaomi 2000") == []
    assert text.pinyin_keys("🏮!!") == []


def test_spellings_are_cut_where_nobody_types_on() -> None:
    assert max(map(len, text.pinyin_keys("北京小米科技有限责任公司" * 20))) == text.KEY_LENGTH


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "小\udfff米"])
def test_text_that_can_not_be_stored_is_refused(bad: str) -> None:
    for function in (text.reject_bad_text, text.clean_name, text.fold):
        with pytest.raises(ValueError, match="text contains"):
            function(bad)


def test_a_name_loses_bidi_controls_and_nothing_else() -> None:
    assert text.clean_name("invoice\u202egnp.exe 👨‍👩‍👧 \u2066x\u2069") == "invoicegnp.exe 👨‍👩‍👧 x"
    assert text.reject_bad_text("a\u202eb") == "a\u202eb"


def test_the_derived_values_of_an_ordinary_company_name_cost_little() -> None:
    name, brand = "北京小米科技有限责任公司", "小米科技有限责任公司"

    def derive() -> None:
        text.grams([name])
        text.search_text([name])
        text.pinyin_keys(name, brand)

    # 60 µs were measured; the allowance is for a busy machine, the alarm is for a change of order.
    assert min(timeit.repeat(derive, number=200, repeat=5)) / 200 < 600e-6


def test_texts_are_cut_as_pypinyin_cuts_them() -> None:
    packed = phrases()
    beginnings: Any = type("Beginnings", (), {"__contains__": lambda _, word: packed.begins(word)})()
    theirs = mmseg.Seg(beginnings, no_non_phrases=True)
    known = list(packed)[::160]
    texts = ["", "重庆长安汽车有限公司", *(one[:-1] for one in known)]
    texts += [
        one + other[: n % 3 + 1] + "有限公司" for n, (one, other) in enumerate(itertools.pairwise(known))
    ]
    assert [list(packed.cut(each)) for each in texts] == [list(theirs.cut(each)) for each in texts]


@pytest.mark.parametrize("address", ["jia@example.com", "张三@例子.中国", "a.b+c@mail.example.co.uk"])
def test_a_mail_could_go_to_an_address(address: str) -> None:
    assert text.is_mail_address(address)


@pytest.mark.parametrize(
    "typed",
    ["", "nobody", "a@b", "a@b..cn", "a@.cn", "a@b.cn.", "a b@c.cn", "<a@b.cn>", "a@b.cn,c@d.cn", f"a@{'b' * 250}.cn"],
)  # fmt: skip
def test_no_mail_goes_to_what_is_no_address(typed: str) -> None:
    assert not text.is_mail_address(typed)
