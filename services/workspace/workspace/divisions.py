"""The administrative divisions of China as a tree with their codes of GB/T 2260.

The codes come with `python-stdnum`, which checks identity numbers with them; what has ended there is left out.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from crm.options.v1 import options_pb2 as options
from crm.workspace.v1 import pb

_PROVINCE = re.compile(r'(\d\d) province="(.+)"')
_COUNTY = re.compile(r' +(\d{4}) county="(.+)"')
# "[-2010]" has ended, "[2015-]" and what has no years are there.
_THERE = re.compile(r"(?:\[\d*-\])?([^\[]+)")
# The districts of a city as one, beneath the city itself: no place of its own.
_ALL_DISTRICTS = "市辖区"


def divisions() -> Iterator[Any]:
    """An entry for each province, city, district and county, each behind the one that it lies in."""
    above: dict[str, str] = {}
    for code, name in _read():
        if code.endswith("0000"):
            parent = ""
        elif code.endswith("00"):
            parent = f"{code[:2]}0000"
        elif name == _ALL_DISTRICTS:
            continue
        else:
            parent = f"{code[:4]}00" if f"{code[:4]}00" in above else f"{code[:2]}0000"
        above[code] = parent
        yield pb.Dictionary.Entry(
            key=code, label=options.Text(zh=name, en=name), parent=parent, external_code=code
        )


def _read() -> Iterator[tuple[str, str]]:
    province = ""
    for line in (files("stdnum.cn") / "loc.dat").read_text(encoding="utf-8").splitlines():
        if found := _PROVINCE.match(line):
            province = found[1]
            yield f"{province}0000", found[2]
        elif (found := _COUNTY.match(line)) and found[1] != "0000":
            names = [there[1] for one in found[2].split(",") if (there := _THERE.fullmatch(one))]
            if names:
                yield province + found[1], names[-1]
