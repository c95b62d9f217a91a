"""Tables in and out: CSV, XLSX, ODS and XLS as rows of text.

Reading streams and trusts nothing: a file that cannot be right raises SheetError with the line and column,
and workbooks are read in a child process with limits on memory and time, since a small hostile one can unfold
to any size. Texts that a spreadsheet would run as a formula are written with an apostrophe before them, and
reading removes exactly that one.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Literal

Format = Literal["csv", "xlsx", "ods", "xls"]
Cell = str | int | float | Decimal | bool | date | datetime | None

MAX_COLUMNS: Final = 300
MAX_CELL: Final = 32_767
MAX_LINE: Final = 1_000_000
MAX_UNFOLDED: Final = 512 << 20
XLSX_ROWS: Final = 1_048_576
ERROR_COLUMN: Final = "错误"

_ENCODINGS: Final = {
    "utf-8": "utf-8",
    "utf-8-sig": "utf-8",
    "utf-16": "utf-16",
    "utf-16-le": "utf-16-le",
    "utf-16-be": "utf-16-be",
    "gb18030": "gb18030",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "big5": "big5",
    "windows-1252": "cp1252",
}
_SENTENCES: Final = {
    "EMPTY": ("文件没有内容", "the file is empty"),
    "ENCODING": ("文件的字符编码无法识别", "the text encoding cannot be read"),
    "NUL": ("文件包含空字节", "there is a NUL byte"),
    "QUOTES": ("引号没有正确闭合", "a quote is not closed"),
    "CELL_TOO_LONG": (f"单元格超过 {MAX_CELL} 个字符", f"a cell is longer than {MAX_CELL} characters"),
    "LINE_TOO_LONG": ("一行过长", "a line is too long"),
    "TOO_MANY_COLUMNS": (f"超过 {MAX_COLUMNS} 列", f"there are more than {MAX_COLUMNS} columns"),
    "TOO_MANY_ROWS": ("行数超过工作表的上限", "there are more rows than a worksheet holds"),
    "COLUMN_NAME_MISSING": ("有一列没有列名", "a column has no name"),
    "COLUMN_NAME_TWICE": ("列名重复", "a column name comes twice"),
    "RAGGED": ("该行的单元格数与表头不一致", "the row does not have as many cells as the header"),
    "TOO_LARGE": ("文件展开后过大", "the file unfolds to more than is allowed"),
    "UNREADABLE": ("文件已损坏、已加密或格式不符", "the file is broken, encrypted or of another format"),
}


class SheetError(ValueError):
    """The table cannot be read or written; line and column count from 1, 0 means the whole file or line."""

    def __init__(self, reason: str, line: int = 0, column: int = 0) -> None:
        self.detail_zh, self.detail_en = _SENTENCES[reason]
        super().__init__(f"{reason}: {self.detail_en} (line {line}, column {column})")
        self.reason = reason
        self.line = line
        self.column = column


@dataclass(frozen=True)
class Row:
    """A row and the line that it starts on. With `error`, its cells do not fit the columns."""

    number: int
    values: list[str]
    error: SheetError | None = None


@dataclass(frozen=True)
class Sheet:
    """Column names and what follows: read `rows`, which stops at a bad row, or `entries`, which has it."""

    columns: list[str]
    entries: Iterator[Row]

    @property
    def rows(self) -> Iterator[Row]:
        for row in self.entries:
            if row.error:
                raise row.error
            yield row


def rows(file: BinaryIO | Path, format: Format, encoding: str | None = None) -> Sheet:
    """Open a table. The first row that is not blank names the columns; blank rows are skipped.

    A file object must be seekable and is read from where it is. Without an encoding, CSV is recognised as
    UTF-8, UTF-16 or GB18030. Raises SheetError here and while rows are read.
    """
    lines = _csv_lines(file, encoding) if format == "csv" else _workbook_lines(file)
    for number, values in lines:
        columns = [value.strip() for value in values]
        while columns and not columns[-1]:
            columns.pop()
        if not columns:
            continue
        if len(columns) > MAX_COLUMNS:
            raise SheetError("TOO_MANY_COLUMNS", number, MAX_COLUMNS + 1)
        for place, name in enumerate(columns):
            if not name:
                raise SheetError("COLUMN_NAME_MISSING", number, place + 1)
            if name in columns[:place]:
                raise SheetError("COLUMN_NAME_TWICE", number, place + 1)
        return Sheet(columns, _fitted(lines, len(columns)))
    raise SheetError("EMPTY")


def _fitted(lines: Iterator[tuple[int, list[str]]], width: int) -> Iterator[Row]:
    for number, values in lines:
        while len(values) > width and not values[-1]:
            values.pop()
        if not any(values):
            continue
        error = None if len(values) == width else SheetError("RAGGED", number, min(len(values), width) + 1)
        yield Row(number, values, error)


def error_file(original: Sheet, text_of: Callable[[int], str | None]) -> Sheet:
    """The rows of whose numbers `text_of` tells an error, with the column "错误" behind those of the original.

    A column "错误" that the original has, being an error file itself, is replaced.
    """
    kept = [place for place, name in enumerate(original.columns) if name != ERROR_COLUMN]

    def bad() -> Iterator[Row]:
        for row in original.entries:
            text = text_of(row.number) or (row.error and row.error.detail_zh)
            if text:
                values = [row.values[place] if place < len(row.values) else "" for place in kept]
                yield Row(row.number, [*values, text])

    return Sheet([*(original.columns[place] for place in kept), ERROR_COLUMN], bad())


# --- CSV ---


def _csv_lines(file: BinaryIO | Path, encoding: str | None) -> Iterator[tuple[int, list[str]]]:
    if isinstance(file, Path):
        with file.open("rb") as opened:
            yield from _csv_lines(opened, encoding)
        return
    start = file.tell()
    name = _encoding(file, start, encoding)
    file.seek(start)
    sample = codecs.getincrementaldecoder(name)().decode(file.read(65_536)).removeprefix("\ufeff")
    delimiter = _delimiter(sample)
    file.seek(start)
    text = io.TextIOWrapper(file, name, newline="")
    try:
        reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
        number = 1
        try:
            for values in reader:
                for place, value in enumerate(values):
                    if len(value) > MAX_CELL:
                        raise SheetError("CELL_TOO_LONG", number, place + 1)
                    if "\0" in value:
                        raise SheetError("NUL", number, place + 1)
                yield number, [_plain(value) for value in values]
                number = reader.line_num + 1
        except csv.Error as error:
            raise SheetError("CELL_TOO_LONG" if "limit" in str(error) else "QUOTES", number) from None
    finally:
        # A caller that leaves early may have closed its file by now.
        if not file.closed:
            text.detach()


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    number = 1
    while line := text.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise SheetError("LINE_TOO_LONG", number)
        yield line.removeprefix("\ufeff") if number == 1 else line
        number += 1


def _encoding(file: BinaryIO, start: int, wanted: str | None) -> str:
    """The encoding that the whole file from `start` decodes by."""
    head = file.read(4096)
    if wanted is not None:
        name = _ENCODINGS.get(wanted.lower().replace("_", "-"))
        if name is None:
            raise SheetError("ENCODING")
        if name == "utf-16" and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            name = "utf-16-le"
    elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = "utf-16"
    elif head.startswith(codecs.BOM_UTF8):
        name = "utf-8"
    elif b"\0" in head:
        name = _utf_16_without_mark(head)
    else:
        name = None
    if name is not None:
        _, _, line = _decoded(file, start, name)
        if line:
            raise SheetError("ENCODING", line)
        return name
    valid, bad, line = _decoded(file, start, "utf-8")
    if not bad:
        return "utf-8"
    # GB18030 accepts most of a UTF-8 text that has one bad byte, and makes nonsense of it.
    if valid > 10 * bad or _decoded(file, start, "gb18030")[1]:
        raise SheetError("ENCODING", line)
    return "gb18030"


def _utf_16_without_mark(head: bytes) -> str:
    for name in ("utf-16-le", "utf-16-be"):
        text = head[: len(head) // 2 * 2].decode(name, "replace")
        if "\n" in text and "\0" not in text and "\ufffd" not in text[:-1]:
            return name
    raise SheetError("NUL", head.count(b"\n", 0, head.index(b"\0")) + 1)


def _decoded(file: BinaryIO, start: int, name: str) -> tuple[int, int, int]:
    """How many characters beyond ASCII the file has, how many are broken, and the first line with one."""
    file.seek(start)
    decoder = codecs.getincrementaldecoder(name)("replace")
    valid = bad = line = 0
    ended = 1
    while True:
        block = file.read(1 << 20)
        text = decoder.decode(block, final=not block)
        broken = text.count("\ufffd")
        if broken and not line:
            line = ended + text.count("\n", 0, text.index("\ufffd"))
        bad += broken
        valid += len(text) - broken - len(text.encode("ascii", "ignore"))
        ended += text.count("\n")
        if not block:
            return valid, bad, line


def _delimiter(sample: str) -> str:
    """The one that splits the first rows into the same number of cells, and most of them."""
    best, delimiter = (0.0, 1), ","
    for each in ",;\t|":
        counts: list[int] = []
        with suppress(csv.Error):
            for values in csv.reader(io.StringIO(sample, newline=""), delimiter=each, strict=True):
                if values:
                    counts.append(len(values))
                if len(counts) == 20:
                    break
        if counts and counts[0] > 1:
            score = (counts.count(counts[0]) / len(counts), counts[0])
            best, delimiter = max((best, delimiter), (score, each), key=lambda pair: pair[0])
    return delimiter


# --- Workbooks ---


def _workbook_lines(file: BinaryIO | Path) -> Iterator[tuple[int, list[str]]]:
    if isinstance(file, Path):
        with file.open("rb") as opened:
            yield from _workbook_lines(opened)
        return
    _check_unfolded(file)
    child = subprocess.Popen(
        [sys.executable, "-m", "crmkit.workbook"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdin and child.stdout
    try:
        # The child reads everything before it answers, so neither side waits for the other.
        with suppress(BrokenPipeError):
            shutil.copyfileobj(file, child.stdin)
        with suppress(BrokenPipeError):
            child.stdin.close()
        for line in child.stdout:
            number, values = json.loads(line)
            if len(values) > MAX_COLUMNS and any(values[MAX_COLUMNS:]):
                raise SheetError("TOO_MANY_COLUMNS", number, MAX_COLUMNS + 1)
            yield number, [_plain(value) for value in values]
        code = child.wait()
        if code:
            # A signal, or no memory, means that a limit was hit; else the library said no.
            raise SheetError("UNREADABLE" if code == 1 else "TOO_LARGE")
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


def _check_unfolded(file: BinaryIO) -> None:
    """Refuse at once what says itself that it is too large; what lies about it meets the child's limits."""
    start = file.tell()
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
        if sum(info.file_size for info in archive.infolist()) > MAX_UNFOLDED:
            raise SheetError("TOO_LARGE")
    file.seek(start)


# --- Writing ---

# Apostrophes before a formula sign are counted up and down by one, so that every text comes back as it was.
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")


def _safe(value: str) -> str:
    return "'" + value if _FORMULA.match(value) else value


def _plain(value: str) -> str:
    return value[1:] if value.startswith("'") and _FORMULA.match(value) else value


def _as_text(value: Cell) -> str:
    match value:
        case None:
            return ""
        case str():
            return _safe(value)
        case bool():
            return "TRUE" if value else "FALSE"
        case datetime():
            return value.replace(tzinfo=None).isoformat(" ", "seconds")
        case date():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
        case _:
            return str(value)


def write_csv(file: BinaryIO, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> int:
    """Write CSV that Excel opens (UTF-8 with its mark, CRLF) and return the number of rows.

    Instants are written as the wall time of the zone that they carry.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    count = 0
    try:
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow([_as_text(name) for name in columns])
        for count, row in enumerate(rows, 1):  # noqa: B007
            writer.writerow([_as_text(value) for value in row])
    finally:
        text.detach()
    return count


def write_xlsx(
    file: IO[bytes], columns: Sequence[str], rows: Iterable[Sequence[Cell]], mark: str = ""
) -> int:
    """Write a workbook of one sheet in constant memory and return the number of rows.

    `mark` stands above and below every printed page.

    Instants are written as the wall time of the zone that they carry. Raises SheetError for more rows, or
    longer texts, than a worksheet holds.
    """
    import xlsxwriter  # 12 MB, for workbooks alone  # pyright: ignore[reportMissingTypeStubs]

    book: Any = xlsxwriter.Workbook(file, {"constant_memory": True})
    count = 0
    try:
        sheet: Any = book.add_worksheet()
        bold = book.add_format({"bold": True})
        formats = {
            date: book.add_format({"num_format": "yyyy-mm-dd"}),
            datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        sheet.freeze_panes(1, 0)
        if mark:
            # An ampersand begins a code there.
            line = mark.replace("&", "&&")[:200]
            sheet.set_header(f"&R{line}")
            sheet.set_footer(f"&L{line}&R&P / &N")
            book.set_properties({"comments": mark})
        for place, name in enumerate(columns):
            sheet.write_string(0, place, _safe(name), bold)
        for count, row in enumerate(rows, 1):
            if count >= XLSX_ROWS:
                raise SheetError("TOO_MANY_ROWS", count + 1)
            for place, value in enumerate(row):
                match value:
                    case None:
                        continue
                    case bool():
                        sheet.write_boolean(count, place, value)
                    case date():
                        at = value.replace(tzinfo=None) if isinstance(value, datetime) else value
                        sheet.write_datetime(count, place, at, formats[type(value)])
                    case int() | float() | Decimal() if len(Decimal(str(value)).as_tuple().digits) <= 15:
                        sheet.write_number(count, place, value)
                    case _:
                        # Spreadsheets keep 15 digits, so a longer number is written as text.
                        text = _as_text(value)
                        if len(text) > MAX_CELL:
                            raise SheetError("CELL_TOO_LONG", count + 1, place + 1)
                        sheet.write_string(count, place, text)
    finally:
        book.close()
    return count
