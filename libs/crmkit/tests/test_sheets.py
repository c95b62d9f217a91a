"""Tables in and out, friendly and hostile."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import pytest
import xlsxwriter
from crmkit.sheets import Cell, Format, SheetError, error_file, rows, write_csv, write_xlsx
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsxwriter.utility import xl_col_to_name

Table = list[list[str]]
AFTERNOON = datetime(2024, 3, 5, 14, 30)  # noqa: DTZ001 - worksheets know no zones


def read(content: bytes, format: Format = "csv", encoding: str | None = None) -> Table:
    sheet = rows(io.BytesIO(content), format, encoding)
    return [sheet.columns, *(row.values for row in sheet.rows)]


def refused(content: bytes, format: Format = "csv", encoding: str | None = None) -> tuple[str, int, int]:
    with pytest.raises(SheetError) as error:
        read(content, format, encoding)
    assert error.value.detail_zh and error.value.detail_en
    return error.value.reason, error.value.line, error.value.column


# The cases of csv-spectrum.
@pytest.mark.parametrize(
    ("content", "table"),
    [
        (
            'first,last,address,city,zip\nJohn,Doe,120 any st.,"Anytown, WW",08123',
            [
                ["first", "last", "address", "city", "zip"],
                ["John", "Doe", "120 any st.", "Anytown, WW", "08123"],
            ],
        ),
        ('a,b,c\n1,"",""\n2,3,4', [["a", "b", "c"], ["1", "", ""], ["2", "3", "4"]]),
        ('a,b,c\r\n1,"",""\r\n2,3,4', [["a", "b", "c"], ["1", "", ""], ["2", "3", "4"]]),
        ('a,b\n1,"ha ""ha"" ha"\n3,4', [["a", "b"], ["1", 'ha "ha" ha'], ["3", "4"]]),
        (
            'key,val\n1,"{""type"": ""Point"", ""coordinates"": [102.0, 0.5]}"\n',
            [["key", "val"], ["1", '{"type": "Point", "coordinates": [102.0, 0.5]}']],
        ),
        ('lat,lng,"text"\n"1,5","2;5",x\n', [["lat", "lng", "text"], ["1,5", "2;5", "x"]]),
        (
            'a,b,c\n1,2,3\n"Once upon \na time",5,6\n7,8,9',
            [["a", "b", "c"], ["1", "2", "3"], ["Once upon \na time", "5", "6"], ["7", "8", "9"]],
        ),
        (
            'a,b,c\r\n1,2,3\r\n"Once upon \r\na time",5,6\r\n7,8,9',
            [["a", "b", "c"], ["1", "2", "3"], ["Once upon \r\na time", "5", "6"], ["7", "8", "9"]],
        ),
        ('a,b\n1,"ha \n""ha"" \nha"\n3,4', [["a", "b"], ["1", 'ha \n"ha" \nha'], ["3", "4"]]),
        ("a,b,c\n1,2,3", [["a", "b", "c"], ["1", "2", "3"]]),
        ("a,b,c\r\n1,2,3", [["a", "b", "c"], ["1", "2", "3"]]),
        ("a,b,c\n1,2,3\n4,5,ʤ", [["a", "b", "c"], ["1", "2", "3"], ["4", "5", "ʤ"]]),
    ],
)
def test_csv_reads_the_public_corpus(content: str, table: Table) -> None:
    assert read(content.encode()) == table


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-16-be"])
def test_csv_recognises_its_encoding(encoding: str) -> None:
    text = "名称,城市\n华为技术有限公司,深圳\n㐀𠮷,北京\n"
    assert read(text.encode(encoding)) == [["名称", "城市"], ["华为技术有限公司", "深圳"], ["㐀𠮷", "北京"]]


@pytest.mark.parametrize("encoding", ["gbk", "GB2312", "utf_16_le", "UTF-8", "big5"])
def test_csv_takes_the_encoding_it_is_told(encoding: str) -> None:
    assert read("名,市\n王,京\n".encode(encoding), encoding=encoding) == [["名", "市"], ["王", "京"]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_recognises_its_delimiter(delimiter: str) -> None:
    table = [["name", "note", "n"], ["a;b,c", "1,5", "2"], ["d", "x;y", "3"]]
    content = "\n".join(delimiter.join(f'"{cell}"' for cell in line) for line in table)
    assert read(content.encode()) == table


def test_csv_keeps_the_line_on_which_a_row_starts() -> None:
    sheet = rows(io.BytesIO(b'\na,b\n"x\ny",1\n\n,\nz,2\n'), "csv")
    assert [(row.number, row.values) for row in sheet.rows] == [(3, ["x\ny", "1"]), (7, ["z", "2"])]


def test_a_ragged_row_stops_the_rows_but_not_the_entries() -> None:
    content = b"a,b\n1,2\n3\n4,5,6\n7,8,,\n"
    assert refused(content) == ("RAGGED", 3, 2)
    entries = list(rows(io.BytesIO(content), "csv").entries)
    assert [(row.number, row.values, row.error and row.error.column) for row in entries] == [
        (2, ["1", "2"], None),
        (3, ["3"], 2),
        (4, ["4", "5", "6"], 3),
        (5, ["7", "8"], None),
    ]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", ("EMPTY", 0, 0)),
        (b"\xef\xbb\xbf\n\n", ("EMPTY", 0, 0)),
        (b"a,b\n1,2\0\n", ("NUL", 2, 0)),
        ("名,市\n王,京\n李,海\n".encode() * 9 + b"\xff,x\n", ("ENCODING", 28, 0)),
        (b"\xef\xbb\xbfa\n\xff\n", ("ENCODING", 2, 0)),
        (b"\xff\xfea\0\n\0\0\xd8\n\0", ("ENCODING", 2, 0)),
        (b'a,b\n1,"open\n2,3\n', ("QUOTES", 2, 0)),
        (b'a,b\n"1"x,2\n', ("QUOTES", 2, 0)),
        (b"a,,c\n", ("COLUMN_NAME_MISSING", 1, 2)),
        (b"a,b,a\n", ("COLUMN_NAME_TWICE", 1, 3)),
        (",".join(f"c{n}" for n in range(301)).encode(), ("TOO_MANY_COLUMNS", 1, 301)),
        (b"a,b\n1," + b"x" * 32_768, ("CELL_TOO_LONG", 2, 2)),
        (b'a\n"' + b"x\n" * 200_000, ("CELL_TOO_LONG", 2, 0)),
        (b"a\n" + b"x" * 1_000_001, ("LINE_TOO_LONG", 2, 0)),
    ],
)
def test_csv_that_cannot_be_right_is_refused_with_its_place(
    content: bytes, error: tuple[str, int, int]
) -> None:
    reason, line, column = error
    got = refused(content)
    assert got[:2] == (reason, line)
    assert column in (0, got[2])


def test_an_encoding_that_does_not_fit_or_exist_is_refused() -> None:
    assert refused("a\nb\n名\n".encode("gbk"), encoding="utf-8") == ("ENCODING", 3, 0)
    assert refused(b"a\n", encoding="rot13") == ("ENCODING", 0, 0)


def test_csv_streams(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_bytes(b"name,city\n" + "华为技术有限公司,深圳\n".encode() * 60_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in rows(path, "csv").rows) == 60_000
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


# --- Workbooks ---


def workbook(cells: dict[str, object]) -> bytes:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"default_date_format": "yyyy-mm-dd hh:mm:ss"}) as book:
        sheet = book.add_worksheet()
        for place, value in cells.items():
            sheet.write(place, value)
    return file.getvalue()


def test_a_workbook_shows_numbers_dates_and_truth_as_excel_does() -> None:
    lines: list[list[object]] = [
        ["编号", "a", "b", "c", "d", "e"],
        [],
        [8613800000000, 12.0, 0.1 + 0.2, date(2024, 3, 5), True, time(9, 5)],
        ["007", -1e20, 1e-7, AFTERNOON, False, "'=1"],
    ]
    content = workbook(
        {f"{'ABCDEF'[x]}{y}": v for y, line in enumerate(lines, 3) for x, v in enumerate(line)}
    )
    sheet = rows(io.BytesIO(content), "xlsx")
    assert sheet.columns == ["编号", "a", "b", "c", "d", "e"]
    assert [(row.number, row.values) for row in sheet.rows] == [
        (5, ["8613800000000", "12", "0.3", "2024-03-05", "TRUE", "09:05:00"]),
        (6, ["007", "-100000000000000000000", "0.0000001", "2024-03-05 14:30:00", "FALSE", "=1"]),
    ]


def ods(content: str) -> bytes:
    file = io.BytesIO()
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", kind, zipfile.ZIP_STORED)
        archive.writestr(
            "META-INF/manifest.xml",
            '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
            f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/></manifest:manifest>',
        )
        archive.writestr(
            "content.xml",
            '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
            ' xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"'
            ' xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:spreadsheet>'
            f'<table:table table:name="a">{content}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return file.getvalue()


def test_ods_is_read_too() -> None:
    def text(value: str) -> str:
        cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
        return cell.format(value)

    number = (
        '<table:table-cell office:value-type="float" office:value="12"><text:p>12</text:p></table:table-cell>'
    )
    content = ods(
        f"<table:table-row>{text('名')}{text('数')}</table:table-row>"
        f"<table:table-row>{text('华为')}{number}</table:table-row>"
    )
    assert read(content, "ods") == [["名", "数"], ["华为", "12"]]


def zipped(parts: dict[str, bytes]) -> bytes:
    """The workbook with some parts replaced."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(workbook({"A1": "a", "A2": "b"}))) as source,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in source.namelist():
            archive.writestr(name, parts.get(name) or source.read(name))
    return file.getvalue()


def worksheet(rows: bytes) -> bytes:
    space = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return b'<worksheet xmlns="%s"><sheetData>%s</sheetData></worksheet>' % (space, rows)


def far_corners() -> bytes:
    first, last = (
        b'<row r="%s"><c r="%s%s"><v>1</v></c></row>' % (row, column, row)
        for column, row in ((b"A", b"1"), (b"XFD", b"1048576"))
    )
    return zipped({"xl/worksheets/sheet1.xml": worksheet(first + last)})


def repeated_cells() -> bytes:
    cell = (
        '<table:table-cell table:number-columns-repeated="16384" office:value-type="string">'
        "<text:p>x</text:p></table:table-cell>"
    )
    return ods(f'<table:table-row table:number-rows-repeated="1048576">{cell}</table:table-row>')


def zip_bomb() -> bytes:
    file = io.BytesIO(zipped({}))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("xl/media/image1.png", b"")
        archive.getinfo("xl/media/image1.png").file_size = 1 << 30
    return file.getvalue()


def multiplied_string() -> bytes:
    """Unfolds to two megabytes of parts, and to cells of more memory than the child may have."""
    strings = (
        b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>%s</t></si></sst>'
    )
    cells = b"<row>" + b'<c t="s"><v>0</v></c>' * 16_000 + b"</row>"
    return zipped(
        {
            "xl/sharedStrings.xml": strings % (b"x" * 1_000_000),
            "xl/worksheets/sheet1.xml": worksheet(cells),
        }
    )


def many_columns() -> bytes:
    return workbook({f"{xl_col_to_name(n)}1": f"c{n}" for n in range(301)})


@pytest.mark.parametrize(
    ("make", "format", "reasons"),
    [
        (zip_bomb, "xlsx", ["TOO_LARGE"]),
        (far_corners, "xlsx", ["TOO_LARGE"]),
        (multiplied_string, "xlsx", ["TOO_LARGE"]),
        (repeated_cells, "ods", ["TOO_LARGE", "UNREADABLE"]),
        (many_columns, "xlsx", ["TOO_MANY_COLUMNS"]),
        (lambda: workbook({}), "xlsx", ["EMPTY"]),
        (lambda: b"", "xlsx", ["UNREADABLE"]),
        (lambda: b"name,city\n", "xls", ["UNREADABLE"]),
        (lambda: workbook({"A1": "a"})[:-200], "xlsx", ["UNREADABLE"]),
        (lambda: zipped({"xl/worksheets/sheet1.xml": b"<worksheet><sheetData><row"}), "xlsx", ["UNREADABLE"]),
        (lambda: bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 4096, "xls", ["UNREADABLE"]),
    ],
)
def test_a_hostile_workbook_is_refused(make: Callable[[], bytes], format: Format, reasons: list[str]) -> None:
    assert refused(make(), format)[0] in reasons


def test_leaving_a_workbook_early_leaves_no_process() -> None:
    sheet = rows(io.BytesIO(workbook({f"A{n}": n for n in range(1, 20_000)})), "xlsx")
    assert next(sheet.rows).number == 2
    assert readers() == 1
    del sheet
    assert readers() == 0


def readers() -> int:
    """How many child processes are reading workbooks."""
    pids = [pid for each in Path("/proc/self/task").glob("*/children") for pid in each.read_text().split()]
    return sum("crmkit.workbook" in Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)


# --- Writing ---


CELLS: list[list[Cell]] = [
    ["=1+1", "+86", "-5", "@x", "\tx"],
    ["'=1", "''-1", "'x", "a=b", "\rx"],
    ["华为", 12, -1.5, Decimal("1234.50"), Decimal("12345678901234567.89")],
    [None, True, date(2024, 3, 5), datetime(2024, 3, 5, 14, 30, tzinfo=UTC), "2,5\n3"],
]
NAMES = ["名", "b", "c", "d", "e"]


def test_csv_is_written_for_excel_and_harmless() -> None:
    file = io.BytesIO()
    assert write_csv(file, NAMES, CELLS) == 4
    content = file.getvalue().decode("utf-8")
    assert content.startswith("\ufeff名,b,c,d,e\r\n'=1+1,'+86,'-5,'@x,'\tx\r\n''=1,'''-1,'x,a=b,\"'\rx\"\r\n")
    assert read(file.getvalue())[1:] == [
        ["=1+1", "+86", "-5", "@x", "\tx"],
        ["'=1", "''-1", "'x", "a=b", "\rx"],
        ["华为", "12", "-1.5", "1234.50", "12345678901234567.89"],
        ["", "TRUE", "2024-03-05", "2024-03-05 14:30:00", "2,5\n3"],
    ]


def test_xlsx_is_written_with_types_and_harmless() -> None:
    file = io.BytesIO()
    assert write_xlsx(file, NAMES, CELLS) == 4
    with zipfile.ZipFile(file) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    assert "<f>" not in sheet and "<v>12</v>" in sheet and "<v>1234.50</v>" in sheet and 't="b"' in sheet
    assert "<t>'=1+1</t>" in sheet and "<t>12345678901234567.89</t>" in sheet
    assert read(file.getvalue(), "xlsx")[1:] == [
        ["=1+1", "+86", "-5", "@x", "\tx"],
        ["'=1", "''-1", "'x", "a=b", "\rx"],
        ["华为", "12", "-1.5", "1234.5", "12345678901234567.89"],
        ["", "TRUE", "2024-03-05", "2024-03-05 14:30:00", "2,5\n3"],
    ]


def test_xlsx_refuses_what_a_worksheet_cannot_hold() -> None:
    with pytest.raises(SheetError, match=r"CELL_TOO_LONG.*line 2, column 1"):
        write_xlsx(io.BytesIO(), ["a"], [["x" * 32_768]])


def test_the_error_file_has_the_bad_rows_with_their_reasons() -> None:
    content = b"a,b\n1,2\n3\n=4,5\n6,7\n"
    bad = error_file(rows(io.BytesIO(content), "csv"), {4: "a 列不是数字"}.get)
    assert bad.columns == ["a", "b", "错误"]
    assert [row.values for row in bad.rows] == [
        ["3", "", "该行的单元格数与表头不一致"],
        ["=4", "5", "a 列不是数字"],
    ]
    again = io.BytesIO()
    write_csv(again, ["a", "错误", "b"], [["1", "old", "2"]])
    replaced = error_file(rows(io.BytesIO(again.getvalue()), "csv"), {2: "new"}.get)
    assert replaced.columns == ["a", "b", "错误"]
    assert [row.values for row in replaced.rows] == [["1", "2", "new"]]


texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n"), min_size=1, max_size=8
)
signs = st.builds("{}{}".format, st.sampled_from(["=", "+", "-", "@", "'", "''=", '"', ",", ";"]), texts)


@settings(max_examples=200)
@given(st.lists(st.lists(texts | signs, min_size=3, max_size=3), min_size=1, max_size=5))
def test_every_text_that_is_written_to_csv_reads_back(table: list[Sequence[str]]) -> None:
    file = io.BytesIO()
    write_csv(file, ["a", "b", "c"], table)
    assert read(file.getvalue(), encoding="utf-8")[1:] == table
