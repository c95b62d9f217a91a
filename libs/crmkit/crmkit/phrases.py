"""pypinyin's dictionary of phrases, packed: 3 MB where its own dict and set of prefixes take 42.

The dictionary's file is read once as text; a phrase is looked up by bisection and unpacked when it is asked for.
pypinyin is told to load no phrases of its own, so this module must be the first to import it.
"""

import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any

os.environ["PYPINYIN_NO_PHRASES"] = "1"
os.environ["PYPINYIN_NO_DICT_COPY"] = "1"

from pypinyin import Style, constants, converter, pinyin
from pypinyin.seg import mmseg

# Names share their words: what begins with 有限 is asked for with every second company.
REMEMBERED = 4_000

__all__ = ["Phrases", "Style", "phrases", "pinyin"]

_ENTRY = re.compile(r'"([^"]+)":\s*\[((?:\s*\[[^]]*\],?)+)\s*\]')
_READINGS = re.compile(r"\[([^]]*)\]")
_TEXT = re.compile(r'"([^"]*)"')


class Phrases:
    """Phrases with their readings; also knows what is the beginning of one."""

    def __init__(self, json: str) -> None:
        lines = sorted(
            f"{found[1]}\t{' '.join(','.join(_TEXT.findall(each)) for each in _READINGS.findall(found[2]))}"
            for found in _ENTRY.finditer(json)
        )
        self._starts = array("I", [0])
        for line in lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._text = "\n".join(lines)
        # Between which lines the phrases with a first character stand, and which characters come second.
        self._places: dict[str, tuple[int, int]] = {}
        seconds: dict[str, dict[str, None]] = {}
        for number, line in enumerate(lines):
            self._places[line[0]] = (self._places.get(line[0], (number, 0))[0], number + 1)
            seconds.setdefault(line[0], {})[line[1]] = None
        self._seconds = {first: "".join(follow) for first, follow in seconds.items()}
        self._at = lru_cache(REMEMBERED)(self._found)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> str:
        """The line of a phrase, for bisection."""
        return self._text[self._starts[number] : self._starts[number + 1] - 1]

    def __iter__(self) -> Iterator[str]:
        return (self[number].partition("\t")[0] for number in range(len(self)))

    def _found(self, begins: str) -> str:
        """The first line that is not before the text."""
        first, end = self._places.get(begins[:1], (0, 0))
        place = bisect_left(self, begins, first, end)
        return self[place] if place < end else ""

    def begins(self, word: str) -> bool:
        """Whether a phrase begins with the word."""
        if len(word) == 1:
            return word in self._places
        return self._at(word).startswith(word)

    def cut(self, text: str) -> Iterator[str]:
        """The text as phrases, the longest first, and single characters: what pypinyin's segmenter makes of it."""
        place, end = 0, len(text)
        while place < end:
            length = 1
            if text[place + 1 : place + 2] in self._seconds.get(text[place], ""):
                for upto in range(place + 2, end + 1):
                    line = self._at(text[place:upto])
                    if not line.startswith(text[place:upto]):
                        break
                    if line[upto - place] == "\t":
                        length = upto - place
                else:
                    if length == 1:
                        # All that is left begins a phrase and holds none.
                        yield from text[place:]
                        return
            yield text[place : place + length]
            place += length

    def readings(self, phrase: str) -> list[list[str]] | None:
        """The readings of each character of a phrase; None where there is no such phrase."""
        line = self._at(phrase + "\t")
        if not line.startswith(phrase + "\t"):
            return None
        return [each.split(",") for each in line[len(phrase) + 1 :].split(" ")]


class _Dictionary:
    """The phrases as pypinyin asks for them."""

    def __init__(self, phrases: Phrases) -> None:
        self._phrases = phrases

    def __contains__(self, phrase: str) -> bool:
        return self._phrases.readings(phrase) is not None

    def __getitem__(self, phrase: str) -> list[list[str]]:
        found = self._phrases.readings(phrase)
        if found is None:
            raise KeyError(phrase)
        return found


@lru_cache(maxsize=1)
def phrases() -> Phrases:
    """The packed phrases; pypinyin's `pinyin` knows them from now on too."""
    found = Phrases((files("pypinyin") / "phrases_dict.json").read_text("utf-8"))
    dictionary: Any = _Dictionary(found)
    for module in (constants, converter, mmseg):
        vars(module)["PHRASES_DICT"] = dictionary
    return found
