"""The child process in which `sheets` reads a workbook: file on stdin, one JSON line per row on stdout.

A few kilobytes of workbook can ask for any amount of memory (two cells in opposite corners suffice), and
running out of it ends the process. So it is this process that ends.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

_MEMORY: Final = 1 << 30
_SECONDS: Final = 120

_Value = int | float | str | bool | time | date | datetime | timedelta


def main() -> int:
    """Print the first visible worksheet as `[line, [cell, …]]`; 1 if it is none, 2 if it is too large."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(sys.stdin.buffer.read()))
        for meta in book.sheets_metadata:
            if meta.typ == SheetTypeEnum.WorkSheet and meta.visible == SheetVisibleEnum.Visible:
                sheet = book.get_sheet_by_name(meta.name)
                break
        else:
            return 1
        for number, values in enumerate(sheet.iter_rows(), 1):
            if any(value != "" for value in values):
                print(json.dumps([number, [as_text(value) for value in values]], ensure_ascii=True))
    except CalamineError:
        return 1
    except MemoryError:
        return 2
    return 0


def as_text(value: _Value) -> str:
    """The cell as Excel shows it in general format; dates and times in ISO 8601."""
    match value:
        case str():
            return value
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return str(value)
        case float():
            # Fifteen digits are what Excel keeps and shows; the rest is noise of binary fractions.
            return format(Decimal(format(value, ".15g")).normalize(), "f")
        case datetime():
            rounded = (value + timedelta(microseconds=500_000)).replace(microsecond=0)
            midnight = rounded.time() == time()
            return rounded.date().isoformat() if midnight else rounded.isoformat(" ")
        case date() | time():
            return value.isoformat()
        case timedelta():
            seconds = round(value.total_seconds())
            sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
            return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


if __name__ == "__main__":
    sys.exit(main())
