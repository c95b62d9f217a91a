"""The child process in which the text of a document is read: its bytes on stdin, JSON for `file_texts` on stdout.

A few kilobytes of document can ask for any amount of memory and time, and running out of it ends the process. So it
is this process that ends.
"""

from __future__ import annotations

import io
import json
import re
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, cast

MEMORY: Final = 1 << 30
SECONDS: Final = 15
# What is searched of a document; the rest of a longer one is not.
LONGEST: Final = 200_000

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff，。；：、！？（）“”"
# Lines of a page end within words of languages that have no spaces.
_BROKEN = re.compile(rf"(?<=[{_HAN}])[ \t]*\r?\n\s*(?=[{_HAN}])")
_SPACE = re.compile(r"[^\S\n]+|\n\s*")
_UNFIT = re.compile("[\x00\ud800-\udfff]")


def main() -> int:
    """Print the text of stdin; 1 where it is no such document, or one that asks for too much."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        told = read(sys.stdin.buffer.read(), sys.argv[1])
    # Libraries raise whatever a broken document makes them stumble over.
    except Exception:
        return 1
    if told:
        from crmkit import text

        json.dump(
            {"content": told, "search_text": text.search_text([told]), "search_grams": text.grams([told])},
            sys.stdout,
        )
    return 0


def read(content: bytes, kind: str) -> str:
    """The text of a document, as far as it is searched."""
    found, length = [], 0
    for piece in _READERS[kind](content):
        found.append(piece)
        length += len(piece)
        if length > LONGEST:
            break
    whole = _UNFIT.sub("", "\n".join(found))[:LONGEST]
    return _SPACE.sub(lambda gap: "\n" if "\n" in gap[0] else " ", _BROKEN.sub("", whole)).strip()


def _plain(content: bytes) -> Iterator[str]:
    from charset_normalizer import from_bytes

    try:
        yield content.decode("utf-8-sig")
    except UnicodeDecodeError:
        best = from_bytes(content, cp_isolation=["gb18030", "big5", "utf_16", "utf_32", "cp1252"]).best()
        if best is not None:
            yield str(best)


def _pdf(content: bytes) -> Iterator[str]:
    from pypdf import PdfReader

    for page in PdfReader(io.BytesIO(content)).pages:
        yield page.extract_text()


def _docx(content: bytes) -> Iterator[str]:
    from docx import Document

    yield from _blocks(Document(io.BytesIO(content)))


def _blocks(container: Any) -> Iterator[str]:
    for block in container.iter_inner_content():
        if hasattr(block, "rows"):
            for row in block.rows:
                for cell in row.cells:
                    yield from _blocks(cell)
        else:
            yield cast("str", block.text)


def _pptx(content: bytes) -> Iterator[str]:
    from pptx import Presentation

    for slide in Presentation(io.BytesIO(content)).slides:
        yield from _shapes(slide.shapes)
        if slide.has_notes_slide:
            yield from _shapes(slide.notes_slide.shapes)


def _shapes(shapes: Any) -> Iterator[str]:
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        elif shape.has_table:
            yield from (cell.text for cell in shape.table.iter_cells())
        elif shape.has_text_frame:
            yield shape.text_frame.text


def _workbook(content: bytes) -> Iterator[str]:
    from crmkit.workbook import as_text
    from python_calamine import CalamineWorkbook

    book = CalamineWorkbook.from_filelike(io.BytesIO(content))
    for name in book.sheet_names:
        yield name
        for row in islice(book.get_sheet_by_name(name).iter_rows(), LONGEST):
            if line := " ".join(as_text(cell) for cell in row if cell != ""):
                yield line


_READERS: Mapping[str, Callable[[bytes], Iterator[str]]] = {
    "plain": _plain,
    "pdf": _pdf,
    "docx": _docx,
    "pptx": _pptx,
    "workbook": _workbook,
}

if __name__ == "__main__":
    sys.exit(main())
