"""NAM-2 … NAM-10: every example and the whole table of pairs, then what the rules say beyond them."""

import random
import timeit

import phonenumbers
import pytest
from crmkit.text import fold, pinyin_keys
from customer.company_names import CompanyName
from customer.identifiers import Phone, TaxId, TaxIdStatus, mail_address, web_domain
from customer.matching import TAX_IDS_DIFFER, Identity, KeyKind, Level, Match, MatchKey, level
from customer.regions import compatible, take_regions
from hypothesis import given
from hypothesis import strategies as st

XIAOMI = "91350100M000100Y43"
OTHER_TAX_ID = "913100000889957900"


def names(a: str, b: str) -> Match:
    return level(Identity.of([a]), Identity.of([b]))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("北京小米科技有限责任公司", "小米科技（北京）有限公司", Level.STRONG),
        ("小米科技有限公司", "武汉小米科技有限公司", Level.STRONG),
        ("北京小米科技有限公司", "武汉小米科技有限公司", Level.POSSIBLE),
        ("華爲技術有限公司", "华为技术有限公司", Level.STRONG),
        ("华为技术有限公司", "华为技术有限公司深圳分公司", Level.BRANCH_OF),
        ("中国银行", "中国银行股份有限公司上海市分行", Level.BRANCH_OF),
        ("深圳市长城电子有限公司", "广东省深圳市长城电子有限责任公司", Level.STRONG),
        ("内蒙古伊利实业集团股份有限公司", "伊利实业集团", Level.STRONG),
        ("朝阳食品有限公司", "朝阳贸易有限公司", Level.POSSIBLE),
        ("上海宏达贸易有限公司", "上海弘达贸易有限公司", Level.POSSIBLE),
        ("Ｘｉａｏｍｉ　Ｃｏ．，Ｌｔｄ．", "XIAOMI Limited", Level.STRONG),
        ("A&B Trading Limited", "A and B Trading Ltd.", Level.STRONG),
    ],
)
def test_the_table_of_pairs(a: str, b: str, expected: Level) -> None:
    assert names(a, b).level is expected
    assert names(b, a).level is expected


@pytest.mark.parametrize(
    ("name", "core"),
    [
        ("北京小米科技有限责任公司", "小米科技"),
        ("小米科技（北京）有限公司", "小米科技"),
        ("中国银行", "中国银行"),
        ("中国银行股份有限公司上海市分行", "中国银行"),
        ("内蒙古伊利实业集团股份有限公司", "伊利实业"),
        ("伊利实业集团", "伊利实业"),
        ("Ｘｉａｏｍｉ　Ｃｏ．，Ｌｔｄ．", "xiaomi"),
        ("A&B Trading Limited", "aandbtrading"),
        ("The Coca-Cola Company Limited", "cocacola"),
        ("Foo Holdings Pty. Ltd.", "foo"),
        ("Siemens A.G.", "siemens"),
        ("Société Générale S.A.", "sociétégénérale"),
        ("株式会社日立製作所", "日立制作所"),
        ("日立製作所株式会社", "日立制作所"),
        ("立信会计师事务所（特殊普通合伙）", "立信会计师"),
        ("小米通讯技术（集团）有限公司", "小米通讯技术"),
        ("小米（天使）科技有限公司", "小米天使科技"),
        ("阿里巴巴（中国）有限公司", "阿里巴巴"),
        ("东方财富信息股份有限公司", "东方财富信息"),
        ("TCL科技集团股份有限公司", "tcl科技"),
    ],
)
def test_the_core_is_what_stays_without_region_legal_form_and_branch(name: str, core: str) -> None:
    assert CompanyName.parse(name).core == core


@pytest.mark.parametrize(
    "form",
    [
        "集团股份有限公司",
        "控股集团有限公司",
        "有限责任公司",
        "总公司",
        "集团",
        "专业合作社",
        "企业社",
        "事务所",
    ],
)
def test_the_longest_legal_form_is_stripped(form: str) -> None:
    parsed = CompanyName.parse("小米" + form)
    assert (parsed.core, parsed.legal_form) == ("小米", form)


@pytest.mark.parametrize(
    "name", ["总公司", "米集团", "AG", "A Ltd", "有限公司", "The Ltd", "北京", "米", "🏮", "()", "（北京）"]
)
def test_nothing_is_stripped_below_two_letters(name: str) -> None:
    parsed = CompanyName.parse(name)
    assert parsed.core
    assert len(parsed.core) >= min(2, len(parsed.full))


@pytest.mark.parametrize(
    ("name", "brand", "industry", "divisions"),
    [
        ("朝阳食品有限公司", "朝阳", "食品", ()),
        ("北京市食品公司", "北京", "食品", ()),
        ("辽宁朝阳食品有限公司", "朝阳", "食品", ("21",)),
        ("北京市朝阳区宏达贸易有限公司", "宏达", "贸易", ("110105",)),
        ("昆山宏达贸易有限公司", "宏达", "贸易", ("320583",)),
        ("中山市中山大学附属医院", "中山大学附属", "医院", ("4420",)),
        ("陕西省咸阳市乾县宏达贸易有限公司", "宏达", "贸易", ("610424",)),
        ("上海南京路食品有限公司", "南京路", "食品", ("31",)),
        ("香港宏达贸易有限公司", "宏达", "贸易", ("81",)),
        ("深圳市腾讯计算机系统有限公司", "腾讯", "计算机系统", ("4403",)),
        ("延边宏达贸易有限公司", "宏达", "贸易", ("2224",)),
        ("华为技术有限公司深圳分公司", "华为", "技术", ()),
    ],
)
def test_region_brand_and_industry(name: str, brand: str, industry: str, divisions: tuple[str, ...]) -> None:
    parsed = CompanyName.parse(name)
    assert (parsed.brand, parsed.industry, parsed.divisions) == (brand, industry, divisions)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20))
def test_any_text_has_parts_and_can_be_searched(name: str) -> None:
    parsed = CompanyName.parse(name)
    assert bool(parsed.core) == bool(fold(name))
    pinyin_keys(name, parsed.from_brand)


@pytest.mark.parametrize(
    ("name", "branch"),
    [
        ("华为技术有限公司深圳分公司", "深圳分公司"),
        ("中国银行股份有限公司上海市分行", "上海市分行"),
        ("招商银行上海分行徐家汇支行", "上海分行徐家汇支行"),
        ("华为技术有限公司深圳分公司南山营业部", "深圳分公司南山营业部"),
        ("三井物产集团北京代表处", "北京代表处"),
        ("华为技术有限公司", ""),
    ],
)
def test_the_branch_is_the_tail_after_the_company(name: str, branch: str) -> None:
    assert CompanyName.parse(name).branch == branch


def test_the_part_from_the_brand_on_is_known_for_search() -> None:
    assert CompanyName.parse("北京小米科技有限公司").from_brand == "小米科技有限公司"
    assert CompanyName.parse("小米科技有限公司").from_brand == ""


def test_districts_count_with_their_suffix_only_and_cities_without_too() -> None:
    assert take_regions("海淀宏达")[0] == []
    assert take_regions("海淀区宏达")[1] == "宏达"
    assert take_regions("义乌宏达")[1] == take_regions("义乌市宏达")[1] == "宏达"
    assert take_regions("广西壮族自治区南宁市宏达")[0][-1].divisions == ("4501",)
    assert take_regions("新疆喀什宏达")[0][-1].divisions == ("6531", "653101")  # prefecture or city


def test_regions_are_compatible_when_equal_one_inside_the_other_or_unknown() -> None:
    assert compatible(["44"], ["4403"])
    assert compatible(["4403"], ["4403"])
    assert compatible([], ["4403"])
    assert compatible([""], ["4403"])
    assert compatible(["110105", "220104"], ["2201"])
    assert not compatible(["11"], ["4403"])


@pytest.mark.parametrize(
    ("typed", "number", "extension"),
    [
        ("138 0013 8000", "+8613800138000", ""),
        ("０１０－６２７８ ２３３６", "+861062782336", ""),
        ("010-62782336转8021", "+861062782336", "8021"),
        ("010-62782336-8021", "+861062782336", "8021"),
        ("010-62782336 ext. 8021", "+861062782336", "8021"),
        ("010-62782336#8021", "+861062782336", "8021"),
        ("00852 2345 6789", "+85223456789", ""),
        ("+1 650-253-0000", "+16502530000", ""),
        ("138-0013-8000", "+8613800138000", ""),
        ("400-820-8820", "+864008208820", ""),
    ],
)
def test_telephone_numbers(typed: str, number: str, extension: str) -> None:
    phone = Phone.parse(typed)
    assert (phone.number, phone.extension, phone.valid, phone.reason) == (number, extension, True, "")


def test_mobile_numbers_are_read_as_the_library_reads_them() -> None:
    # Every series, and what comes near one.
    chance = random.Random(86)
    for series in range(1000, 2000):
        number = f"{series}{chance.randrange(10**7):07}"
        for typed in (number, f"+86{number}", f"86{number}", f"{number}0", number[:-1]):
            try:
                known = phonenumbers.parse(typed, "CN")
            except phonenumbers.NumberParseException:
                known = None
            good = known is not None and phonenumbers.is_valid_number(known)
            wanted = phonenumbers.format_number(known, phonenumbers.PhoneNumberFormat.E164) if good else ""
            assert Phone.parse(typed).number == wanted, typed


def test_what_is_no_telephone_number_is_kept_as_text_with_the_reason() -> None:
    assert Phone.parse("1.38E+10") == Phone("1.38E+10", reason="SPREADSHEET_NUMBER")
    for text in ("call me", "12345", "转8021", ""):
        assert Phone.parse(text) == Phone(text, reason="NOT_A_PHONE_NUMBER")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("91350100M000100Y43", TaxIdStatus.VALID),
        ("91350100M000100Y4Z", TaxIdStatus.INVALID),
        ("913100000889957900", TaxIdStatus.VALID),
        ("9135 0100 m000 100y 43", TaxIdStatus.VALID),
        ("110108755555555", TaxIdStatus.LEGACY),
        ("91350100M000100Y4", TaxIdStatus.INVALID),
        ("I1350100M000100Y43", TaxIdStatus.INVALID),
    ],
)
def test_tax_ids_of_china(text: str, status: TaxIdStatus) -> None:
    assert TaxId.parse(text).status is status


def test_a_right_check_character_under_an_unknown_register_is_unverified() -> None:
    assert TaxId.parse("Q1350100M000100Y4" + _check("Q1350100M000100Y4")).status is TaxIdStatus.UNVERIFIED
    assert TaxId.parse("91990100M000100Y4" + _check("91990100M000100Y4")).status is TaxIdStatus.UNVERIFIED


def _check(number: str) -> str:
    """GB 32100-2015, written down again."""
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    total = sum(alphabet.index(c) * pow(3, place, 31) for place, c in enumerate(number))
    return alphabet[(31 - total % 31) % 31]


def test_tax_ids_of_other_countries_are_text() -> None:
    assert TaxId.parse("de 136 695 976", "DE") == TaxId("DE136695976", "DE", TaxIdStatus.TEXT)


def test_addresses_are_compared_without_what_does_not_matter() -> None:
    assert web_domain("https://www.Mi.com:443/cn/") == web_domain("mi.com") == "mi.com"
    assert web_domain("no address") == ""
    assert mail_address(" Lei@MI.com ") == "lei@mi.com"
    assert mail_address("lei at mi") == ""


def test_an_equal_checked_tax_id_or_id_hash_is_certain() -> None:
    a = Identity.of(["小米"], tax_id=TaxId.parse(XIAOMI))
    assert level(a, Identity.of(["华为"], tax_id=TaxId.parse(XIAOMI))).level is Level.CERTAIN
    person = Identity.of(["张伟"], person=True, id_hash="x")
    assert level(person, Identity.of(["张玮"], person=True, id_hash="x")).level is Level.CERTAIN


def test_an_equal_tax_id_without_a_check_is_possible() -> None:
    a, b = (Identity.of([name], tax_id=TaxId.parse("N/A", "DE")) for name in ("小米", "华为"))
    assert level(a, b).level is Level.POSSIBLE


def test_different_checked_tax_ids_cap_the_level_but_not_a_branch() -> None:
    a = Identity.of(["华为技术有限公司"], tax_id=TaxId.parse(XIAOMI))
    same = Identity.of(["华为技术有限公司"], tax_id=TaxId.parse(OTHER_TAX_ID))
    branch = Identity.of(["华为技术有限公司深圳分公司"], tax_id=TaxId.parse(OTHER_TAX_ID))
    assert level(a, same).level is Level.POSSIBLE
    assert level(a, same).notes == (TAX_IDS_DIFFER,)
    assert level(a, branch).level is Level.BRANCH_OF


def test_two_branches_of_one_company_are_not_the_same() -> None:
    assert names("华为技术有限公司深圳分公司", "华为技术有限公司上海分公司").level is Level.POSSIBLE


def test_a_web_domain_is_strong_and_any_other_single_key_is_possible() -> None:
    a = Identity.of(["小米"], website="www.mi.com", phones=[Phone.parse("13800138000")], emails=["a@mi.com"])
    assert level(a, Identity.of(["米家"], website="http://mi.com/x")).level is Level.STRONG
    assert level(a, Identity.of(["米家"], phones=[Phone.parse("+86 13800138000")])).level is Level.POSSIBLE
    assert level(a, Identity.of(["米家"], emails=["A@MI.com"])).level is Level.POSSIBLE
    assert level(a, Identity.of(["米家"], emails=["b@mi.com"])).kinds == {KeyKind.EMAIL_DOMAIN}
    assert level(a, Identity.of(["米家"])).level is Level.NONE


def test_two_possible_keys_from_different_data_are_strong() -> None:
    phone = [Phone.parse("13800138000")]
    a = Identity.of(["上海宏达贸易有限公司"], phones=phone)
    assert level(a, Identity.of(["上海弘达贸易有限公司"], phones=phone)).level is Level.STRONG


def test_public_mail_domains_are_no_key() -> None:
    identity = Identity.of(["小米"], emails=["x@qq.com"])
    assert {key.kind for key in identity.keys if key.kind.startswith("EMAIL")} == {KeyKind.EMAIL}


def test_a_common_value_counts_only_beside_a_key_of_another_kind() -> None:
    phone = Phone.parse("13800138000")
    common = {MatchKey(KeyKind.PHONE, phone.number)}
    a = Identity.of(["宏达"], phones=[phone])
    assert level(a, Identity.of(["米家"], phones=[phone]), common).level is Level.NONE
    assert level(a, Identity.of(["弘达"], phones=[phone]), common).level is Level.STRONG


def test_aliases_and_former_names_have_keys_too() -> None:
    assert (
        level(Identity.of(["小米", "北京小米科技有限公司"]), Identity.of(["小米科技有限公司"])).level
        is Level.STRONG
    )


def test_a_branch_with_an_alias_of_the_company_stays_a_branch() -> None:
    company = Identity.of(["华为技术有限公司", "华为"])
    assert level(company, Identity.of(["华为技术有限公司深圳分公司", "华为"])).level is Level.BRANCH_OF


def test_two_people_of_one_name_are_possible_until_something_else_agrees() -> None:
    phone = [Phone.parse("13800138000")]
    a = Identity.of(["张伟"], person=True, phones=phone)
    assert level(a, Identity.of(["張偉"], person=True)).level is Level.POSSIBLE
    assert level(a, Identity.of(["張偉"], person=True, phones=phone)).level is Level.STRONG


def test_an_identity_costs_little() -> None:
    def build() -> None:
        Identity.of(["北京小米科技有限责任公司"], phones=[])

    # 40 µs were measured; the allowance is for a busy machine.
    assert min(timeit.repeat(build, number=200, repeat=5)) / 200 < 600e-6
