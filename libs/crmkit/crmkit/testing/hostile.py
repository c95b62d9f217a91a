"""Texts that break what is not careful: the public list of naughty strings, cut to what a field takes.

The list lies beside the repository (`SHARED_DATA` says where else); without it the few of `HOSTILE` are all there is.
"""

import json
import os
from functools import lru_cache
from pathlib import Path

HOSTILE = (
    "'; DROP TABLE accounts; -- \" OR 1=1 %_\\ $1 :name {0} {{7*7}} ${jndi:ldap://x.invalid/a} `id` ../../etc/passwd",
    "<script>alert(1)</script><img src=x onerror=alert(1)> &lt;b&gt; javascript:alert(1) =1+1|cmd'!A0 NULL undefined",
    "𠮷野家 👩\u200d👩\u200d👧 Ω≈ç√∫ ﷽ Ṱ̺̺̕o͞ 田中さん \ufeffﾊﾝｶｸ \u2028 1e400 -0 ٠١٢",
    "مرحبا \u202eabc\u202c \u2066שלום\u2069 \u200e\u200f ÅÅ Å",
)
DATA = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[5] / "shared" / "data"))
# How many records carry the list. A field of 2,500 characters and more carries all of it.
RECORDS = 8


@lru_cache(maxsize=1)
def strings() -> tuple[str, ...]:
    """Every text there is, one by one."""
    found = DATA / "blns" / "blns.json"
    listed: list[str] = json.loads(found.read_text("utf-8")) if found.exists() else []
    return (*HOSTILE, *filter(None, listed))


@lru_cache(maxsize=256)
def parts(length: int) -> tuple[str, ...]:
    """The texts one behind the other, in parts of at most this length; a text that is longer is cut.

    There are two at least, or what is written in one turn would be no change in the next.
    """
    length = min(length, sum(map(len, strings())) // 2)
    made: list[str] = []
    for text in (one[:length].strip() for one in strings()):
        if made and len(made[-1]) + 1 + len(text) <= length:
            made[-1] = f"{made[-1]} {text}".strip()
        else:
            made.append(text)
    return tuple(filter(None, made))


def window(length: int, turn: int, place: int) -> str:
    """What the field at this place of its resource carries in this turn."""
    found = parts(length)
    return found[(turn + place * RECORDS) % len(found)]
