"""The fax machine: `submit(pdf, number)` gives a job, and says later by `ReportFax` what became of it.

Two there are: the command of HylaFAX, and a folder into which a PDF and a JSON of the same name are put, where another
machine looks. A machine that cannot be reached is tried five times.
"""

import asyncio
import json
import re
import tempfile
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID

from crmkit import blobs, runs
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.runs import Kind, Run
from sqlalchemy import select

from workspace.model.fax import RUN, Fax
from workspace.model.file import File

TRIES = 5
PAUSE = timedelta(minutes=1)
SECONDS = 20
REQUEST = re.compile(r"request id is (\S+)")


class Unreachable(Exception):
    """The machine has not taken it."""


async def submit(url: str, pdf: Path, number: str, key: str) -> str:
    """The machine's job for a PDF; the same key again is the same job where the machine can tell. Unreachable."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    try:
        if parts.scheme == "file":
            return await asyncio.to_thread(_drop, Path(path), pdf, number, key)
        if parts.scheme == "hylafax":
            return await _hylafax(path, pdf, number)
    except OSError as error:
        raise Unreachable(str(error)) from None
    raise Unreachable("FAX_URL")


def _drop(folder: Path, pdf: Path, number: str, key: str) -> str:
    """The JSON comes last and at once: who sees it has the PDF whole."""
    for suffix, content in (
        (".pdf", pdf.read_bytes()),
        (".json", json.dumps({"job": key, "number": number}).encode()),
    ):
        part = folder / f".{key}{suffix}.part"
        part.write_bytes(content)
        part.replace(folder / f"{key}{suffix}")
    return key


async def _hylafax(command: str, pdf: Path, number: str) -> str:
    digits = re.sub(r"[^0-9+]", "", number)
    process = await asyncio.create_subprocess_exec(
        command, "-n", "-d", digits, str(pdf), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Unreachable("timeout") from None
    found = REQUEST.search(said.decode(errors="replace"))
    if process.returncode or found is None:
        raise Unreachable(said.decode(errors="replace")[:300])
    return found[1]


async def deliver(run: Run) -> None:
    """Gives a fax to the machine. Whether one was given when the process died, nobody knows: it is not given again."""
    if run.phase == "ENDED":
        return
    if run.phase == "SUBMITTING":
        await _end(run, "", "interrupted", lasting=True)
        return
    async with run.chunk() as call:
        fax = await _loaded(run, call)
        file = await call.named(File, fax.file)
        if fax.state != "QUEUED" or file is None:
            run.next_phase("ENDED")
            return
        fax.attempts += 1
        fax.next_time = None
        run.next_phase("SUBMITTING")
    try:
        async with blobs.fetched(run.running.store, file.sha256) as content:
            with tempfile.NamedTemporaryFile(suffix=".pdf") as pdf:
                pdf.write(content.read())
                pdf.flush()
                number, key = fax.fax_number, f"{fax.id}-{fax.attempts}"
                job = await submit(run.running.settings.fax_url, Path(pdf.name), number, key)
    except (Unreachable, FileNotFoundError, blobs.Changed) as error:
        await _end(run, "", str(error))
        return
    await _end(run, job, "")


async def _loaded(run: Run, call: Call) -> Fax:
    row = select(Fax).where(Fax.id == UUID(run.about.partition("/")[2])).with_for_update()
    return (await call.db.scalars(row)).one()


async def _end(run: Run, job: str, problem: str, lasting: bool = False) -> None:
    async with run.chunk() as call:
        fax = await _loaded(run, call)
        if job:
            fax.state, fax.job, fax.problem = "SUBMITTED", job, ""
        elif lasting or fax.attempts >= TRIES:
            await fax.fail(problem, call)
        else:
            fax.problem, fax.next_time = problem[:500], call.now + PAUSE * 2 ** (fax.attempts - 1)
        run.next_phase("ENDED")


async def start_waiting(call: Call) -> None:
    """Gives again what the machine has not taken; without a machine all of it waits."""
    if not call.running.settings.fax_url:
        return
    due = select(Fax).where(Fax.state == "QUEUED", Fax.next_time <= call.now)
    for fax in list(await call.db.scalars(due.with_for_update(skip_locked=True).limit(200))):
        fax.next_time = None
        await runs.start(call, RUN, fax.name, {}, requester="system/workspace")


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """What could not be given for a reason of our own."""
    fax = await _loaded(run, call)
    if fax.state == "QUEUED":
        await fax.fail(problem.reason, call)


RUNS = {RUN: Kind(deliver, give_up, aside=True)}
