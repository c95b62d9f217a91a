"""What happens to text: what is refused, how it is compared, which fragments and spellings find it.

One pipeline serves names, search and duplicate keys: Unicode NFKC → control and format characters dropped →
traditional to simplified Chinese (phrase aware) → case fold → white space collapsed. What was typed is stored
as it was typed; only these derived forms are compared. Change the pipeline: raise `NORMALISER_VERSION`.
"""

import itertools
import operator
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple, cast

from opencc import OpenCC

NORMALISER_VERSION = 1

SEPARATOR = "\n"
"""Stands between two texts in `search_text`. Folding drops control characters, so no query contains it."""

KEY_LENGTH = 20
"""Letters of a spelling that are kept; nobody types a longer prefix, and longer queries are cut alike."""

ALTERNATIVES = 8
"""Readings beside the first one that a name with polyphonic characters gets."""

_MAIL_ADDRESS = re.compile(r"[^@\s\"<>,;:]{1,64}@[^@\s\"<>,;:.]+(?:\.[^@\s\"<>,;:.]+)+")
_BIDI = dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
_VARIATION_SELECTOR = re.compile("[\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HAN_CHARACTER = re.compile(f"[{_HAN}]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HAN_OR_WORD = re.compile(f"([{_HAN}]+)|[a-z0-9]+")


def reject_bad_text(text: str) -> str:
    """The text itself, or ValueError if it can not be stored: NUL or half of a surrogate pair."""
    if "\0" in text:
        raise ValueError("text contains the character NUL")
    if not text.isascii() and _SURROGATE.search(text):
        raise ValueError("text contains half of a surrogate pair")
    return text


def clean_name(text: str) -> str:
    """A name or file name fit to be shown in a line: refused like any text, bidi controls stripped."""
    reject_bad_text(text)
    return text if text.isascii() else text.translate(_BIDI)


@lru_cache(maxsize=2048)
def is_mail_address(text: str) -> bool:
    """Whether a mail could go there, as far as the form says; quoted names and hosts without a dot are none for us."""
    return len(text) <= 254 and _MAIL_ADDRESS.fullmatch(text) is not None


def fold(text: str) -> str:
    """The form in which texts are compared; folding twice changes nothing."""
    return _finish(_to_simplified(_flatten(text)))


def foldings(text: str) -> tuple[str, ...]:
    """What a fragment may be in folded texts, `fold(text)` first.

    A fragment has lost the phrase that decides whether 乾 becomes 干 or stays (乾隆), so both are looked for.
    """
    flat = _flatten(text)
    return tuple(dict.fromkeys(form for form in (_finish(_to_simplified(flat)), _finish(flat)) if form))


def grams(texts: Iterable[str]) -> list[str]:
    """Every character and every pair of neighbours of each folded text, sorted; no pair crosses two texts."""
    return folded_grams(map(fold, texts))


def folded_grams(folded: Iterable[str]) -> list[str]:
    """As `grams`, of texts that are folded already."""
    found: set[str] = set()
    for text in folded:
        found.update(text)
        found.update(map(operator.add, text, text[1:]))
    return sorted(found)


def pairs(folded: str) -> list[str]:
    """The pairs of neighbouring characters of a text that is folded already."""
    return [first + second for first, second in itertools.pairwise(folded)]


def search_text(texts: Iterable[str]) -> str:
    """The folded texts, one a line, in their order, each once."""
    return SEPARATOR.join(dict.fromkeys(folded for folded in map(fold, texts) if folded))


def pinyin_keys(text: str, from_brand: str = "") -> list[str]:
    """Toneless spellings and initials of a text with Chinese in it: `zhaoyangyiyuan`, `zyyy`, `cyyy`…

    The reading of the phrase comes first, then up to eight alternatives of polyphonic characters, those that
    change one character before those that change more. `from_brand` is the part of the text that begins with
    the brand (小米科技有限公司 of 北京小米科技有限公司); it gets keys of its own. ü is spelt v. A text
    without Chinese has no keys: its fragments find it.
    """
    folded = fold(text)
    if not _HAN_CHARACTER.search(folded):
        return []
    syllables = list(_syllables(folded))
    keys = _spellings(syllables)
    brand = fold(from_brand)
    if brand and brand != folded:
        start = folded.find(brand)
        apart = start < 0  # folding a part may read its beginning otherwise than folding the whole
        keys += _spellings([*_syllables(brand)] if apart else [s for s in syllables if s.position >= start])
    return list(dict.fromkeys(keys))


def spelling(text: str) -> str:
    """The whole text in its first reading, toneless, without spaces; empty for a text without Chinese."""
    folded = fold(text)
    if not _HAN_CHARACTER.search(folded):
        return ""
    return "".join(syllable.readings[0] for syllable in _syllables(folded))


class _Syllable(NamedTuple):
    """A Chinese character with its readings, or a run of Latin letters and digits as it is."""

    position: int
    readings: tuple[str, ...]
    initials: tuple[str, ...]


def _flatten(text: str) -> str:
    reject_bad_text(text)
    if not text.isascii():
        text = _VARIATION_SELECTOR.sub("", unicodedata.normalize("NFKC", text))
    if not text.isprintable():
        text = "".join(character for character in text if unicodedata.category(character) not in ("Cc", "Cf"))
    return text


def _to_simplified(text: str) -> str:
    return text if text.isascii() else _converter()(text)


def _finish(text: str) -> str:
    folded = " ".join(text.casefold().split())
    # What stood around a dropped character, and what case folding decomposed, may compose now.
    return folded if folded.isascii() else unicodedata.normalize("NFKC", folded)


@lru_cache(maxsize=1)
def _converter() -> Callable[[str], str]:
    return cast(Callable[[str], str], OpenCC("t2s").convert)  # pyright: ignore[reportUnknownMemberType]


def _syllables(folded: str) -> Iterator[_Syllable]:
    from crmkit.phrases import phrases  # who searches nothing should not pay for the dictionary

    cut = phrases().cut
    for match in _HAN_OR_WORD.finditer(folded):
        position = match.start()
        if match.group(1) is None:
            yield _Syllable(position, (match.group(),), (match.group(),))
            continue
        for word in cut(match.group()):
            for offset, (readings, initials) in enumerate(_readings(word)):
                if readings:
                    yield _Syllable(position + offset, readings, initials)
            position += len(word)


@lru_cache(maxsize=20_000)
def _readings(word: str) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """The toneless readings of each character of a word, the word's own reading first, and their initials."""
    from crmkit.phrases import Style, pinyin

    found = pinyin(word, style=Style.NORMAL, heteronym=True, v_to_u=False)
    if len(found) != len(word):  # neighbours that the dictionary does not know come back as one
        found = [pinyin(character, style=Style.NORMAL, heteronym=True)[0] for character in word]
    living = _polyphones()
    chosen = [
        tuple(
            reading
            for place, reading in enumerate(dict.fromkeys(readings))
            if reading.isascii()
            and reading.isalnum()
            and (place == 0 or reading in living.get(character, ()))
        )
        for character, readings in zip(word, found, strict=True)
    ]
    return tuple((each, tuple(dict.fromkeys(reading[0] for reading in each))) for each in chosen)


@lru_cache(maxsize=1)
def _polyphones() -> dict[str, list[str]]:
    """The readings in use of the characters that have several."""
    lines = (files("crmkit") / "polyphones.txt").read_text("utf-8").splitlines()
    return {line[0]: line[2:].split() for line in lines if not line.startswith("#")}


def _spellings(syllables: Sequence[_Syllable]) -> list[str]:
    keys = [*_choices([s.readings for s in syllables]), *_choices([s.initials for s in syllables])]
    return [key for key in keys if key]


def _choices(options: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The first choice everywhere, then others at one place, at two places…, nine results in all."""
    first = [option[0] for option in options]
    open_places = [place for place, option in enumerate(options) if len(option) > 1]

    def results() -> Iterator[str]:
        for count in range(len(open_places) + 1):
            for places in itertools.combinations(open_places, count):
                for others in itertools.product(*(options[place][1:] for place in places)):
                    chosen = first.copy()
                    for place, other in zip(places, others, strict=True):
                        chosen[place] = other
                    yield "".join(chosen)[:KEY_LENGTH]

    return itertools.islice(results(), 1 + ALTERNATIVES)
