"""Faxes: a PDF that goes to a number, or has come from one."""

import re
from datetime import datetime

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import Validation, Violation
from crmkit.resource import Resource
from sqlalchemy import DateTime, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base
from workspace.model.file import File
from workspace.model.names import check_names
from workspace.telling import notify

RUN = "SubmitFax"
NUMBER = re.compile(r"\+?[0-9][0-9 \-()]{2,30}")


class Fax(Resource, Base):
    """A fax. It is given to the machine until that takes it, five times at most; the PDF stays whatever becomes of it."""

    __message__ = pb.Fax
    refers_by = ("links",)
    __table_args__ = (
        Index("faxes_job_key", "job", unique=True, postgresql_where=text("job <> ''")),
        Index("faxes_waiting_index", "next_time", postgresql_where=text("state = 'QUEUED'")),
    )

    display_name: Mapped[str]
    fax_number: Mapped[str]
    file: Mapped[str]
    account: Mapped[str]
    links: Mapped[list[str]]
    state: Mapped[str]
    job: Mapped[str]
    attempts: Mapped[int]
    problem: Mapped[str]
    occur_time: Mapped[datetime | None]
    next_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    async def creating(self, call: Call) -> None:
        """Goes to the machine, or stands with the customer where it has come."""
        if not NUMBER.fullmatch(self.fax_number):
            raise Validation(
                Violation("fax.fax_number", "WRONG_FORMAT", "传真号无效", "This is no fax number.")
            )
        check_names(self.links, "fax.links")
        file = await call.named(File, self.file)
        if file is None or file.media_type != "application/pdf":
            raise Validation(Violation("fax.file", "WRONG_FORMAT", "须为 PDF 文件", "A fax is a PDF."))
        self.occur_time = call.now
        if self.state == "RECEIVED":
            call.emit(events.FaxReceived, fax=self)
            await notify(
                call, [self.owner], "mail", f"{self.name}:received", self.name, f"收到传真：{self.fax_number}",
                f"A fax has come from {self.fax_number}",
            )  # fmt: skip
            return
        await self._queue(call)

    async def deleting(self, call: Call) -> None:
        """What is on its way stays."""
        self.check_state("SENT", "FAILED", "RECEIVED")

    async def retry(self, call: Call) -> None:
        """Begins anew."""
        self.check_state("FAILED")
        self.attempts, self.problem, self.job = 0, "", ""
        await self._queue(call)

    async def _queue(self, call: Call) -> None:
        self.state, self.next_time = "QUEUED", call.now
        if call.running.settings.fax_url:
            self.next_time = None
            await runs.start(call, RUN, self.name, {}, requester="system/workspace")

    async def report(self, arrived: bool, reason: str, call: Call) -> None:
        """The machine says what became of it; said again, nothing happens."""
        if self.state != "SUBMITTED":
            return
        if arrived:
            self.state, self.occur_time = "SENT", call.now
            call.emit(events.FaxSent, fax=self)
        else:
            await self.fail(reason, call)

    async def fail(self, detail: str, call: Call) -> None:
        """It has not arrived, and whoever has sent it is told."""
        self.state, self.problem = "FAILED", f"FAX_FAILED: {detail}"[:500]
        await notify(
            call, [self.owner], "mail", f"{self.name}:failed:{call.now.isoformat()}", self.name,
            f"传真未能发送：{self.display_name}（{self.fax_number}）",
            f"A fax was not sent: {self.display_name} ({self.fax_number})", self.problem,
        )  # fmt: skip
