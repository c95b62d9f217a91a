"""The parts of a company name (NAM-2 … NAM-5): region, brand, industry, legal form, branch."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from crmkit.text import fold, spelling

from customer.regions import Region, take_regions

WORDS = {
    name: frozenset(word.strip() for word in listed.split(","))
    for name, listed in tomllib.loads((files("customer") / "words.toml").read_text("utf-8")).items()
}
"""The lists of `words.toml`."""


@dataclass(frozen=True)
class CompanyName:
    """A name taken apart; every part is folded, without spaces and punctuation."""

    full: str
    brand: str
    industry: str = ""
    legal_form: str = ""
    branch: str = ""
    divisions: tuple[str, ...] = ()
    """Where it says it is, as in `regions`; empty: it does not say."""
    from_brand: str = ""
    """What of the folded name begins with the brand, for the spelling keys of search; empty if all of it."""

    @property
    def core(self) -> str:
        """Brand and industry: what stays when region, legal form and branch are left out."""
        return self.brand + self.industry

    @cached_property
    def core_spelling(self) -> str:
        """The toneless spelling of the core; empty for a core without Chinese."""
        return spelling(self.core)

    @classmethod
    def parse(cls, name: str) -> "CompanyName":
        folded = fold(name)
        full = _letters(folded)
        text, divisions, forms = _resolve_brackets(folded.translate(_BRACKETS))
        text, latin_forms = _strip_latin_forms(text)
        text, branch = _split_branch(text)
        text, form = _strip_chinese_form(text)
        regions, rest = take_regions(text)
        if regions and (_is_generic(rest) or not _enough(rest)):
            rest = regions.pop().short + rest
        brand, industry = _split_industry(rest)
        if regions:
            divisions = [*regions[-1].divisions, *_not_containing(divisions, regions[-1])]
        start = folded.find(brand)
        return cls(
            full=full or folded,
            brand=brand or full or folded,
            industry=industry,
            legal_form="".join([*forms, *latin_forms, form]),
            branch=branch,
            divisions=tuple(dict.fromkeys(divisions)),
            from_brand=folded[start:] if start > 0 else "",
        )


NORMALISERS: dict[int, Callable[[str], CompanyName]] = {1: CompanyName.parse}
"""How names are taken apart, by `normaliserVersion`; the last is in force (NAM-1).

Another way is another version, and the one before stays here for one release: until every customer has keys of the
new one, customers are found by both.
"""


def _not_containing(divisions: list[str], region: Region) -> list[str]:
    """What the brackets add: nothing where they only name what the region is in (深圳…（中国）)."""
    return [d for d in divisions if not any(inner.startswith(d) for inner in region.divisions)]


_BRACKETS = str.maketrans("[]【】〔〕「」『』《》〈〉", "()()()()()()()")

_CHINESE_FORMS = sorted(WORDS["chinese_forms"], key=len, reverse=True)
_LATIN_FORMS = sorted((form.split() for form in WORDS["latin_forms"]), key=len, reverse=True)
_INDUSTRIES = WORDS["industries"]
_LONGEST_INDUSTRY = max(map(len, _INDUSTRIES))

_BRANCH = re.compile(r"(.+(?:公司|集团|银行))(.*(?:分公司|支行|分行|办事处|代表处|营业部))")


def _letters(text: str) -> str:
    return "".join(character for character in text.replace("&", "and") if character.isalnum())


def _enough(text: str) -> bool:
    return len(_letters(text)) >= 2


def _resolve_brackets(folded: str) -> tuple[str, list[str], list[str]]:
    """The text without its brackets, the divisions and the legal forms that stood in them."""
    divisions: list[str] = []
    forms: list[str] = []

    def resolve(match: re.Match[str]) -> str:
        content = _letters(match[1])
        regions, rest = take_regions(content)
        if regions and not rest:
            divisions.extend(regions[-1].divisions)
        elif content in _CHINESE_FORMS or [content] in _LATIN_FORMS:
            forms.append(content)
        else:
            return f" {match[1]} "
        return " "

    text = re.sub(r"\(([^()]*)\)", resolve, folded)
    return (text, divisions, forms) if _enough(text) else (folded, [], [])


def _strip_latin_forms(text: str) -> tuple[str, list[str]]:
    """All letters of the text together, the legal forms at its end and a leading "the" left out."""
    words = re.findall(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+", text.replace(".", "").replace("&", " and "))
    if words[:1] == ["the"] and _enough("".join(words[1:])):
        words = words[1:]
    forms: list[str] = []
    while form := next((f for f in _LATIN_FORMS if words[-len(f) :] == f), None):
        if not _enough("".join(words[: -len(form)])):
            break
        words = words[: -len(form)]
        forms.insert(0, "".join(form))
    return "".join(words), forms


def _split_branch(text: str) -> tuple[str, str]:
    branch = ""
    while match := _BRANCH.fullmatch(text):
        text, branch = match[1], match[2] + branch
    return text, branch


def _strip_chinese_form(text: str) -> tuple[str, str]:
    if text.startswith("株式会社") and _enough(text[4:]):
        return text[4:], "株式会社"
    for form in _CHINESE_FORMS:
        stripped = text.removesuffix(form)
        # 分公司 without the company before it is no legal form of what is left.
        if stripped != text and _enough(stripped) and not text.endswith(("分公司", "子公司")):
            return stripped, form
    return text, ""


def _industry_at_end(text: str) -> int:
    return next((n for n in range(min(_LONGEST_INDUSTRY, len(text)), 0, -1) if text[-n:] in _INDUSTRIES), 0)


def _is_generic(text: str) -> bool:
    while length := _industry_at_end(text):
        text = text[:-length]
    return not text


def _split_industry(text: str) -> tuple[str, str]:
    brand = text
    while (length := _industry_at_end(brand)) and len(brand) - length >= 2:
        brand = brand[:-length]
    return brand, text[len(brand) :]
