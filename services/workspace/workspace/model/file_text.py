"""The texts of documents, by the hash of their content, and which file waits for its own to be read."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING

from crmkit import runs
from crmkit.call import Call
from crmkit.search import search_indexes, search_table_columns
from sqlalchemy import Column, Table, Text

from workspace.model.base import Base

if TYPE_CHECKING:
    from workspace.model.file import File

# The run that reads a text: `workspace.texts`.
READ = "ReadText"
LARGEST = 20 * 1024 * 1024
# What a content is read as, by the end of its name.
KINDS: Mapping[str, str] = {
    **dict.fromkeys(["txt", "md", "csv", "log", "json", "xml", "yaml", "yml"], "plain"),
    **dict.fromkeys(["xlsx", "xlsm", "xlsb", "xls", "ods"], "workbook"),
    "pdf": "pdf",
    "docx": "docx",
    "pptx": "pptx",
}

# Beside the files, whose row-level security would keep the planner from the index. Who may read what, they say.
FileText = Table(
    "file_texts",
    Base.metadata,
    Column("sha256", Text, primary_key=True),
    # As it stands in the document; the search columns have it folded.
    Column("content", Text, nullable=False),
    *search_table_columns(),
    *search_indexes("file_texts"),
)


async def read_later(file: "File", call: Call) -> None:
    """Has the text of a file read, where it is one that has text."""
    kind = KINDS.get(PurePath(file.display_name).suffix.lower().lstrip("."), "")
    if kind and 0 < (file.size or 0) <= LARGEST:
        await runs.start(
            call, READ, file.name, {"sha256": file.sha256, "kind": kind}, requester="system/workspace"
        )
