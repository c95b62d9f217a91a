"""Documents lie in folders, have versions, are kept where the law wants it, and are found by their text: by whom they are for."""

from datetime import timedelta
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
import xlsxwriter
from crmkit import blobs
from crmkit.testing import Client, Service, local_date
from docx import Document
from pptx import Presentation
from pptx.util import Inches
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject
from workspace import texts

PEOPLE = ("sales1", "sales2", "manager", "stranger")


class Desk:
    """Uploads, and folders of departments."""

    def __init__(self, workspace: Service, office: Any) -> None:
        self.workspace, self.office, self.mark = workspace, office, uuid4().hex[:8]
        self.people = {who: workspace.client(who) for who in PEOPLE}

    async def upload(self, who: Client, name: str, content: bytes = b"") -> Any:
        sha256, size = await blobs.keep(self.workspace.running.store, BytesIO(content or uuid4().bytes))
        return await who.CreateFile(file={"displayName": name, "sha256": sha256, "size": str(size)})

    async def folder(self, who: Client, **fields: Any) -> Any:
        return await who.CreateFolder(folder={"displayName": f"{uuid4().hex[:6]}", **fields})

    async def document(self, who: Client, folder: Any, name: str, content: bytes = b"") -> Any:
        file = await self.upload(who, name, content)
        return await who.MoveFile(name=file.name, folder=folder.name)

    async def become(self, file: Any, readers: set[str]) -> None:
        """Waits until exactly these read a file: list and get say so."""

        async def are() -> bool:
            found = [
                await client.ListFiles(filter=f'name = "{file.name}"') for client in self.people.values()
            ]
            return {who for who, page in zip(self.people, found, strict=True) if page.files} == readers

        await self.workspace.eventually(are, 30)
        for who, client in self.people.items():
            if who in readers:
                await client.GetFile(name=file.name)
            else:
                assert await self.office.refusal(client.GetFile(name=file.name)) == "NOT_FOUND"

    async def found(self, who: Client, q: str, **more: Any) -> dict[str, str]:
        """What somebody finds: name of the file and the fragment."""
        return {hit.file.name: hit.fragment for hit in (await who.SearchFiles(q=q, **more)).hits}

    async def finds(self, who: Client, q: str, file: Any) -> str:
        """Waits until somebody finds a file; the fragment."""

        async def it() -> Any:
            return file.name in (found := await self.found(who, q)) and (found[file.name] or True)

        return await self.workspace.eventually(it, 30)


@pytest.fixture
def desk(workspace: Service, office: Any) -> Desk:
    return Desk(workspace, office)


@pytest.mark.capability("w.share")
async def test_a_document_is_read_by_those_its_folder_is_for_wherever_it_goes(
    workspace: Service, office: Any, desk: Desk
) -> None:
    me, other = desk.people["sales1"], desk.people["sales2"]
    elsewhere = workspace.person("stranger")
    mine = await desk.folder(me)
    shared = await desk.folder(me, audiencePeople=[elsewhere.employee])
    inner = await desk.folder(me, parent=shared.name, displayName="合同")
    assert inner.path == f"{shared.display_name}\n合同"
    file = await desk.document(me, inner, "范本.pdf")
    await desk.become(file, {"sales1", "stranger"})
    listed = (await desk.people["stranger"].ListFiles(filter=f'folder = "{inner.name}"')).files
    assert [one.name for one in listed] == [file.name]
    # The audience is the topmost folder's to say, and what lies in it follows at once.
    refused = me.UpdateFolder(folder={"name": inner.name, "everyone": True}, updateMask="everyone")
    assert await office.refusal(refused) == "VALIDATION"
    people = {"name": shared.name, "audiencePeople": [workspace.person("sales2").employee]}
    await me.UpdateFolder(folder=people, updateMask="audiencePeople")
    await desk.become(file, {"sales1", "sales2"})
    await me.UpdateFolder(folder={"name": shared.name, "everyone": True}, updateMask="everyone")
    await desk.become(file, set(PEOPLE))
    # Readers read: they put nothing into it and take nothing out, unless it is open to them.
    theirs = await desk.upload(other, "别的.pdf")
    for wrong in (
        other.MoveFile(name=theirs.name, folder=inner.name),
        other.MoveFile(name=file.name),
        other.CreateFolder(folder={"displayName": "x", "parent": inner.name}),
    ):
        assert await office.refusal(wrong) == "FOLDER_CLOSED"
    assert await office.refusal(other.MoveFolder(name=inner.name)) == "NOT_FOUND"
    assert await office.refusal(other.MoveFile(name=theirs.name, folder=mine.name)) == "UNKNOWN_REFERENCE"
    await me.UpdateFolder(folder={"name": inner.name, "openToReaders": True}, updateMask="openToReaders")
    await other.MoveFile(name=theirs.name, folder=inner.name)
    await desk.become(theirs, set(PEOPLE))
    # What one takes back is one's own again; so is a folder that goes with all that lies in it.
    await other.MoveFile(name=theirs.name)
    await desk.become(theirs, {"sales2", "manager"} if _together(workspace) else {"sales2"})
    await me.MoveFolder(name=inner.name, parent=mine.name)
    await desk.become(file, {"sales1"})
    assert await office.refusal(me.MoveFolder(name=mine.name, parent=inner.name)) == "FOLDER_CYCLE"
    assert await office.refusal(me.DeleteFolder(name=inner.name)) == "IN_USE"
    await me.MoveFile(name=file.name)
    await me.DeleteFolder(name=inner.name)
    again = await desk.folder(me, parent=mine.name, displayName="合同")
    assert await office.refusal(desk.folder(me, parent=mine.name, displayName="合同")) == "ALREADY_EXISTS"
    deep = again
    for _ in range(8):
        deep = await desk.folder(me, parent=deep.name)
    assert await office.refusal(desk.folder(me, parent=deep.name)) == "FOLDER_TOO_DEEP"
    portal = workspace.client("customer", account=f"accounts/{uuid4()}")
    assert await office.refusal(portal.GetFolder(name=shared.name)) in ("NOT_FOUND", "PERMISSION_DENIED")


def _together(workspace: Service) -> bool:
    return workspace.person("sales2").department == workspace.person("manager").department


@pytest.mark.capability("w.share")
async def test_a_document_has_versions_and_an_earlier_one_comes_back(
    workspace: Service, office: Any, desk: Desk
) -> None:
    me, other = desk.people["sales1"], desk.people["sales2"]
    folder = await desk.folder(me, everyone=True)
    file = await desk.document(me, folder, "价目.txt", "第一版苹果".encode())
    first = file.sha256
    assert [one.version for one in (await me.ListFileVersions(name=file.name)).versions] == [1]
    await desk.become(file, set(PEOPLE))
    new = await desk.upload(me, "价目2.txt", "第二版香蕉".encode())
    theirs = await desk.upload(other, "x.txt")
    assert await office.refusal(other.NewFileVersion(name=file.name, content=theirs.name)) == "FOLDER_CLOSED"
    assert await office.refusal(me.NewFileVersion(name=file.name, content=theirs.name)) in (
        "UNKNOWN_REFERENCE",
        "NOT_THE_OWNER",
    )
    assert await office.refusal(me.NewFileVersion(name=file.name, content=file.name)) == "FILE_ON_RECORD"
    stale = me.NewFileVersion(name=file.name, content=new.name, etag='"0"')
    assert await office.refusal(stale) == "ETAG_MISMATCH"
    changed = await me.NewFileVersion(name=file.name, content=new.name, note="涨价")
    assert (changed.version_number, changed.sha256, changed.display_name) == (2, new.sha256, "价目2.txt")
    assert await office.refusal(me.GetFile(name=new.name)) == "NOT_FOUND"
    told = (await other.ListFileVersions(name=file.name)).versions
    assert [(one.version, one.note, one.sha256) for one in told] == [(2, "涨价", new.sha256), (1, "", first)]
    assert (await other.ReadFileVersion(name=file.name, version=1)).sha256 == first
    assert await office.refusal(other.ReadFileVersion(name=file.name, version=3)) == "NOT_FOUND"
    # The text that is found is that of the present version.
    assert "香蕉" in await desk.finds(other, "香蕉", file)
    assert file.name not in await desk.found(other, "第一版苹果")
    back = await me.RestoreFileVersion(name=file.name, version=1)
    assert (back.version_number, back.sha256) == (3, first)
    await desk.finds(other, "第一版苹果", file)
    assert len((await me.ListFileVersions(name=file.name)).versions) == 3
    # Its content is what a record was given: a file that hangs on one changes no more.
    await me.CreatePost(post={"displayName": "新价", "board": "FORUM", "files": [file.name]})

    async def hangs() -> bool:
        return await office.refusal(me.RestoreFileVersion(name=file.name, version=99)) == "FILE_ON_RECORD"

    await workspace.eventually(hangs, 30)
    later = await desk.upload(me, "价目4.txt")
    assert await office.refusal(me.NewFileVersion(name=file.name, content=later.name)) == "FILE_ON_RECORD"
    assert await office.refusal(me.MoveFile(name=file.name)) == "FILE_ON_RECORD"


@pytest.mark.capability("w.share")
async def test_what_is_held_is_neither_changed_nor_moved_nor_deleted(
    workspace: Service, office: Any, desk: Desk
) -> None:
    me, manager = desk.people["sales1"], desk.people["manager"]
    folder = await desk.folder(me, everyone=True)
    file = await desk.document(me, folder, "证据.txt", b"evidence")
    new = await desk.upload(me, "新.txt")
    await desk.become(file, set(PEOPLE))
    assert await office.refusal(me.HoldFile(name=file.name, reason="诉讼需要保全")) == "PERMISSION_DENIED"
    assert await office.refusal(manager.HoldFile(name=file.name, reason="短")) == "REASON_REQUIRED"
    held = await manager.HoldFile(name=file.name, reason="诉讼需要保全")
    assert held.legal_hold and held.hold_reason == "诉讼需要保全"

    async def is_kept() -> None:
        for refused in (
            me.DeleteFile(name=file.name),
            me.MoveFile(name=file.name),
            me.NewFileVersion(name=file.name, content=new.name),
            me.RestoreFileVersion(name=file.name, version=1),
        ):
            assert await office.refusal(refused) == "FILE_ON_HOLD"

    await is_kept()
    tomorrow = local_date() + timedelta(days=1)
    day = {"year": tomorrow.year, "month": tomorrow.month, "day": tomorrow.day}
    kept = await manager.HoldFile(name=file.name, reason="按规定保存", retentionUntil=day)
    assert kept.retention_until.day == tomorrow.day and kept.legal_hold
    earlier = {"year": 2020, "month": 1, "day": 1}
    shorter = manager.HoldFile(name=file.name, reason="按规定保存", retentionUntil=earlier)
    assert await office.refusal(shorter) == "VALIDATION"
    assert await office.refusal(manager.ReleaseFile(name=file.name, reason="")) == "REASON_REQUIRED"
    released = await manager.ReleaseFile(name=file.name, reason="案件已经审结")
    assert not released.legal_hold
    # Its day has not come.
    await is_kept()
    assert (
        await office.refusal(manager.ReleaseFile(name=file.name, reason="案件已经审结"))
        == "ILLEGAL_TRANSITION"
    )

    free = await desk.document(me, folder, "证据2.txt", b"more evidence")
    await desk.become(free, set(PEOPLE))
    await manager.HoldFile(name=free.name, reason="诉讼需要保全")
    await manager.ReleaseFile(name=free.name, reason="案件已经审结")
    await me.MoveFile(name=free.name)


def _pdf(words: str) -> bytes:
    """A page with the words in it."""
    writer = PdfWriter()
    page = writer.add_blank_page(300, 300)
    font = DictionaryObject({
        NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
        NameObject("/BaseFont"): NameObject("/Helvetica"),
    })  # fmt: skip
    fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F1 12 Tf 20 200 Td ({words}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(stream)
    made = BytesIO()
    writer.write(made)
    return made.getvalue()


def _docx(words: str) -> bytes:
    made, document = BytesIO(), Document()
    document.add_paragraph("前言")
    document.add_table(1, 1).cell(0, 0).text = words
    document.save(made)
    return made.getvalue()


def _pptx(words: str, within: str) -> bytes:
    """Slides that have the words in a group, in a table or in their notes."""
    made, slides = BytesIO(), Presentation()
    slide = slides.slides.add_slide(slides.slide_layouts[6])
    box = (Inches(1), Inches(1), Inches(4), Inches(1))
    slide.shapes.add_textbox(*box).text_frame.text = "封面"
    if within == "group":
        slide.shapes.add_group_shape().shapes.add_textbox(*box).text_frame.text = words
    elif within == "table":
        slide.shapes.add_table(1, 1, *box).table.cell(0, 0).text = words
    else:
        slide.notes_slide.notes_text_frame.text = words
    slides.save(made)
    return made.getvalue()


def _xlsx(words: str) -> bytes:
    made = BytesIO()
    with xlsxwriter.Workbook(made) as book:
        book.add_worksheet("空")
        book.add_worksheet("二").write(3, 2, words)
    return made.getvalue()


@pytest.mark.capability("w.share")
async def test_texts_of_documents_are_found_by_fragments_and_by_those_alone_who_read_the_file(
    workspace: Service, office: Any, desk: Desk
) -> None:
    me, other = desk.people["sales1"], desk.people["sales2"]
    mark = desk.mark
    mine, shared = await desk.folder(me), await desk.folder(me, everyone=True)
    inner = await desk.folder(me, parent=shared.name)
    gbk = f"本制度适用于全体员工的差旅报销流程，请各部门遵照执行。海棠{mark}".encode("gb18030")
    contents = {
        "制度.txt": gbk,
        "说明.md": f"# 说明\n换行处的海\n棠{mark}也找得到".encode(),
        "page.pdf": _pdf(f"quarterly haitang {mark}"),
        "合同.docx": _docx(f"违约责任：海棠{mark}"),
        "价目.xlsx": _xlsx(f"海棠{mark}"),
        **{f"{within}.pptx": _pptx(f"海棠{mark}", within) for within in ("group", "table", "notes")},
    }
    files = {name: await desk.document(me, inner, name, content) for name, content in contents.items()}
    for name, file in files.items():
        q = f"haitang {mark}" if name.endswith("pdf") else f"海棠{mark}"
        assert mark in await desk.finds(me, q, file), name
        await desk.finds(other, q, file)
    assert "全体员工" in (await desk.found(other, "差旅报销"))[files["制度.txt"].name]
    # A fragment of two characters; in a folder with all beneath it, and nowhere else.
    words = {
        name for name, file in files.items() if file.name in await desk.found(other, "海棠", pageSize=50)
    }
    assert words == set(contents) - {"page.pdf"}
    assert set(await desk.found(other, f"海棠{mark}", folder=shared.name)) == {
        file.name for name, file in files.items() if name in words
    }
    nowhere = await desk.folder(me, everyone=True)
    assert not await desk.found(me, f"海棠{mark}", folder=nowhere.name)
    # By its name too, and first; page by page.
    named = await desk.document(me, shared, f"海棠{mark}.bin")
    page = await me.SearchFiles(q=f"海棠{mark}", pageSize=2)
    assert page.hits[0].file.name == named.name and len(page.hits) == 2
    rest = await me.SearchFiles(q=f"海棠{mark}", pageSize=50, pageToken=page.next_page_token)
    assert len({hit.file.name for hit in (*page.hits, *rest.hits)}) == 8 and not rest.next_page_token
    other_words = me.SearchFiles(q="别的", pageToken=page.next_page_token)
    assert await office.refusal(other_words) == "PAGE_TOKEN_INVALID"
    # Who may not read the file finds nothing of it; who may no more, no more.
    secret = await desk.document(me, mine, "密.txt", f"机密海棠{mark}".encode())
    await desk.finds(me, f"机密海棠{mark}", secret)
    assert not await desk.found(other, f"机密海棠{mark}")
    await me.UpdateFolder(folder={"name": shared.name, "everyone": False}, updateMask="everyone")
    await desk.become(files["制度.txt"], {"sales1"})
    assert not await desk.found(other, f"海棠{mark}")
    portal = workspace.client("customer", account=f"accounts/{uuid4()}")
    assert not (await portal.SearchFiles(q=f"海棠{mark}")).hits
    # What is deleted is found no more, and its text is not kept.
    await me.DeleteFile(name=secret.name)
    again = await desk.document(me, mine, "空.txt", f"机密海棠{mark}".encode())
    assert again.name in [await desk.finds(me, f"机密海棠{mark}", again) and again.name]
    assert secret.name not in await desk.found(me, f"机密海棠{mark}")


async def test_a_document_that_asks_for_too_much_is_not_read_and_holds_up_nobody() -> None:
    assert await texts.extracted(b"%PDF-1.7 broken", "pdf") is None
    assert await texts.extracted(b"PK\x03\x04 no archive", "docx") is None
    assert await texts.extracted(b"PK\x03\x04 no archive", "pptx") is None
    told = await texts.extracted(("长" * 3_000_000).encode(), "plain")
    assert told is not None and len(told["content"]) == 200_000
    assert await texts.extracted(b"", "plain") is None
    with pytest.MonkeyPatch.context() as patched:
        # A document that takes forever: nobody waits longer than that.
        patched.setattr(texts, "SECONDS", 0.05)
        assert await texts.extracted(b"x" * 1000, "plain") is None
