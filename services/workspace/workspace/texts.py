"""Texts of documents are read aside, each in a child process of its own, and found by those who may read the file."""

import asyncio
import json
import sys
from contextlib import suppress
from typing import Any

from crm.workspace.v1 import pb
from crmkit import blobs
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.listing import Query, hides_searched, open_token, parse_term, seal_token
from crmkit.runs import Kind, Run
from crmkit.scope import predicate
from crmkit.search import CANDIDATES, SearchTerm, search_condition
from sqlalchemy import ColumnElement, and_, case, exists, func, literal, select, true, union_all
from sqlalchemy.dialects.postgresql import insert

from workspace.model.file import File
from workspace.model.file_text import READ, FileText
from workspace.model.folder import Folder

# Of one document: the lease of a run is longer.
SECONDS = 20
PAGE, MOST = 20, 50
BEFORE, LONG = 40, 120


async def work(run: Run) -> None:
    """Reads one document; one that cannot be read has no text, and its name alone finds it."""
    if run.phase == "ENDED":
        return
    sha256 = run.spec["sha256"]
    found: dict[str, Any] | None = None
    # A record may tell of bytes that never came.
    with suppress(FileNotFoundError, blobs.Changed):
        async with blobs.fetched(run.running.store, sha256) as content:
            found = await extracted(content.read(), run.spec["kind"])
    async with run.chunk() as call:
        # Not of a file that has gone meanwhile.
        if found and await call.db.scalar(select(exists().where(File.sha256 == sha256))):
            row = insert(FileText).values(sha256=sha256, search_pinyin=[], **found)
            await call.db.execute(row.on_conflict_do_nothing())
        run.next_phase("ENDED")


async def extracted(content: bytes, kind: str) -> dict[str, Any] | None:
    """The text of a document, ready to be searched; None where it has none or wants more than a child is given."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workspace.reader", kind, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        told, _ = await asyncio.wait_for(child.communicate(content), SECONDS)
    except TimeoutError:
        return None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return json.loads(told) if child.returncode == 0 and told else None


async def search(request: pb.SearchFilesRequest, call: Call) -> pb.SearchFilesResponse:
    """Files of the caller that have the words in their name or text; the index is asked first, then the rights."""
    term = parse_term(request.q)
    if term is None:
        return pb.SearchFilesResponse()
    caller, secret = call.caller, call.running.settings.secret
    digest = Query(request.folder, "", request.q).digest(File)
    offset = int(open_token(request.page_token, digest, caller, secret)[0]) if request.page_token else 0
    size = min(request.page_size or PAGE, MOST)
    within: ColumnElement[bool] = true()
    if request.folder:
        folder = await call.load(Folder, request.folder, lock=False)
        within = File.folder.in_(await folder.beneath(call))
    readable = and_(predicate(File, caller), within)
    names = File.search_table
    assert names is not None
    finds = [
        select(File.id, literal(1).label("rank"))
        .join(FileText, FileText.c.sha256 == File.sha256)
        .where(readable, search_condition(term, FileText))
        .limit(CANDIDATES)
    ]
    if not hides_searched(File, caller):
        by_name = select(File.id, literal(0).label("rank")).join(names, names.c.id == File.id)
        finds.append(by_name.where(readable, search_condition(term, names)).limit(CANDIDATES))
    parts = [select(one.subquery()) for one in finds]
    hits = union_all(*parts).subquery()
    best = select(hits.c.id, func.min(hits.c.rank).label("rank")).group_by(hits.c.id).subquery()
    statement = (
        select(File, _fragment(term, request.q))
        .join(best, best.c.id == File.id)
        .outerjoin(FileText, FileText.c.sha256 == File.sha256)
        .order_by(best.c.rank, File.update_time.desc(), File.id)
        .offset(offset)
        .limit(size + 1)
    )
    rows = (await call.db.execute(statement)).all()
    return pb.SearchFilesResponse(
        hits=[
            pb.SearchFilesResponse.Hit(file=call.shown(file, caller), fragment=" ".join(fragment.split()))  # pyright: ignore[reportArgumentType]
            for file, fragment in rows[:size]
        ],
        next_page_token=seal_token([offset + size], digest, caller, secret) if len(rows) > size else "",
    )


def _fragment(term: SearchTerm, q: str) -> ColumnElement[str]:
    """The text around the words as it stands there; as it was folded where only that has them."""
    content, folded = FileText.c.content, FileText.c.search_text
    stands = func.strpos(func.lower(content), q.strip().lower())
    at = func.greatest(*(func.strpos(folded, form) for form in term.forms))
    return case(
        (stands > 0, func.substr(content, func.greatest(stands - BEFORE, 1), LONG)),
        (at > 0, func.substr(folded, func.greatest(at - BEFORE, 1), LONG)),
        else_="",
    )


async def fail(run: Run, problem: Problem, call: Call) -> None:
    """The file is there without its text: its name finds it."""


RUNS = {READ: Kind(work, fail, aside=True)}
