"""The divisions of China (GB/T 2260) as they occur in company names.

The table is that of python-stdnum, which keeps it for identity numbers: every code with its name and the
years in which it was in use. A division is written as the digits of its code that count: `44` Guangdong,
`4403` Shenzhen, `440304` Futian, and nothing for China itself, so that an ancestor is a prefix.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from crmkit.text import foldings


class Region(NamedTuple):
    """A region as a name says it; 朝阳区 is in two cities, so it may be any of several divisions."""

    short: str
    divisions: tuple[str, ...]


def take_regions(name: str) -> tuple[list[Region], str]:
    """The regions that a folded name begins with, each inside the one before, and the rest of the name."""
    tokens = _tokens()
    regions: list[Region] = []
    while region_length := next((n for n in range(_LONGEST, 1, -1) if name[:n] in tokens), 0):
        region = tokens[name[:region_length]]
        if regions:
            around = regions[-1].divisions  # 中山市中山大学: a region is not inside itself
            inside = tuple(d for d in region.divisions if d.startswith(around) and d not in around)
            if not inside:
                break
            region = region._replace(divisions=inside)
        regions.append(region)
        name = name[region_length:]
    return regions, name


def compatible(one: Iterable[str], other: Iterable[str]) -> bool:
    """True unless both say where they are and no division of one is, contains or is in one of the other."""
    one, other = [*one], [*other]
    if not one or not other:
        return True
    return any(a.startswith(b) or b.startswith(a) for a in one for b in other)


def known_division(code: str) -> bool:
    """True if the first two digits of the code are those of a province."""
    return code[:2] in _provinces()


_LONGEST = 15  # 双江拉祜族佤族布朗族傣族自治县

_BRAND_BEFORE_PLACE = {"阿里", "东方"}
"""More often a brand than the place, so these are regions with their suffix only."""

_NOT_IN_THE_TABLE = {"中国": "", "香港": "81", "澳门": "82", "台湾": "71"}

_NEWER = {"330113": "临平区", "330114": "钱塘区", "500105": "江北区", "500112": "渝北区"}

_NOT_A_NAME = {"市辖区", "县", "林区", "城区", "郊区", "矿区"}

_PROVINCE_SUFFIX = re.compile(r"(省|市|特别行政区|(壮族|回族|维吾尔)?自治区)$")
_PREFECTURE_SUFFIX = re.compile(
    r"(市|地区|盟|(朝鲜族|土家族|苗族|藏族|羌族|彝族|布依族|侗族|哈尼族|壮族|傣族|白族|景颇族|傈僳族|回族|蒙古族"
    r"|蒙古|柯尔克孜|哈萨克)+自治州)$"
)


@lru_cache(maxsize=1)
def _provinces() -> frozenset[str]:
    return frozenset(code[:2] for code, _ in _divisions())


@lru_cache(maxsize=1)
def _tokens() -> dict[str, Region]:
    shorts: dict[str, str] = {}
    divisions: dict[str, list[str]] = {}

    def add(token: str, short: str, division: str) -> None:
        shorts.setdefault(token, short)
        divisions.setdefault(token, []).append(division)

    for code, name in _divisions():
        if name in _NOT_A_NAME or "直辖" in name:
            continue
        short = _short(code, name)
        add(name, short, code.removesuffix("00").removesuffix("00"))
        if short != name and short not in _BRAND_BEFORE_PLACE:
            add(short, short, code.removesuffix("00").removesuffix("00"))
    for name, division in _NOT_IN_THE_TABLE.items():
        shorts[name], divisions[name] = name, [division]
    return {token: Region(shorts[token], tuple(found)) for token, found in divisions.items()}


def _short(code: str, name: str) -> str:
    if code.endswith("0000"):
        return _PROVINCE_SUFFIX.sub("", name)
    if code.endswith("00"):
        return _PREFECTURE_SUFFIX.sub("", name)
    return name.removesuffix("市")


def _divisions() -> Iterator[tuple[str, str]]:
    """Code and folded name of every division of today, with two names where folding is not sure (乾县)."""
    province = ""
    for line in (files("stdnum") / "cn" / "loc.dat").read_text("utf-8").splitlines():
        if match := re.fullmatch(r'(\d\d) province="(.+)"', line):
            province = match[1]
            yield from ((province + "0000", name) for name in foldings(match[2]))
        elif (match := re.fullmatch(r' +(\d{4}) county="(.+)"', line)) and match[1] != "0000":
            for name in match[2].split(","):
                if found := re.fullmatch(r"(?:\[\d*-\])?([^\[\]]+)", name):
                    yield from ((province + match[1], form) for form in foldings(found[1]))
    yield from _NEWER.items()
