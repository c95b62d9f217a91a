"""Proposals as documents: places filled from the records, and the whole made text, PDF or DOCX."""

from __future__ import annotations

import asyncio
import io
import re
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from html import escape
from typing import Any, cast

from crm.common.v1 import common_pb2
from crm.sales.v1 import pb
from crmkit import blobs
from crmkit.amounts import plain
from crmkit.call import Call
from crmkit.company import legal_entity
from crmkit.errors import FailedPrecondition
from crmkit.mapping import mapper
from crmkit.resource import Resource
from google.protobuf import json_format
from sqlalchemy import select, update

from sales.model.opportunity import Opportunity
from sales.model.proposal import HANDED_IN, Proposal
from sales.model.quote import Quote
from sales.printing import STYLE, pdf, sections

AT_ONCE = 20
# Whatever stands between double braces is a place, so that a misspelt one is told and not printed.
_PLACE = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_WORDS = {
    "zh": {
        "matrix": "需求应答表", "text": "要求", "verdict": "满足程度", "answer": "应答", "quote": "报价", "net": "不含税合计",
        "tax": "税额", "gross": "价税总计", "COMPLIES": "满足", "PARTLY": "部分满足", "NO": "不满足", "VERDICT_UNSPECIFIED": "",
    },
    "en": {
        "matrix": "Requirements", "text": "Requirement", "verdict": "Verdict", "answer": "Answer", "quote": "Quotation",
        "net": "Net total", "tax": "Tax", "gross": "Total", "COMPLIES": "Complies", "PARTLY": "Partly", "NO": "No",
        "VERDICT_UNSPECIFIED": "",
    },
}  # fmt: skip
_PAGE = f"{STYLE} h2 {{ font-size: 13pt; margin: 8mm 0 3mm }} .body {{ white-space: pre-wrap }}"
_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


class ProposalMethods:
    """What the service offers of proposals beyond the standard methods."""

    async def SubmitProposal(self, request: Any, call: Call) -> Proposal:
        """The text is filled now, and stays."""
        proposal = await call.load(Proposal, request)
        await proposal.check_complete(call)
        document = await document_of(proposal, call)
        proposal.hand_in(document.chapters, document.digest, call)
        return proposal

    async def RenderProposal(
        self, request: pb.RenderProposalRequest, call: Call
    ) -> pb.RenderProposalResponse:
        return await rendered(await call.load(Proposal, request.name, lock=False), request, call)


@dataclass(frozen=True)
class Document:
    """All that a proposal says, with its places filled. Whatever is made of it says the same."""

    title: str
    number: str
    chapters: list[tuple[str, str]]
    matrix: list[tuple[str, str, str]]
    offer: list[tuple[str, str]]

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return sha256(self.text("zh").encode()).hexdigest()

    def text(self, language: str) -> str:
        """The whole as text."""
        words = _WORDS[language]
        parts = [f"{self.title}\n{self.number}", *(f"{title}\n\n{body}" for title, body in self.chapters)]
        if self.matrix:
            rows = (f"{text}\n{words[verdict]}\n{answer}".rstrip() for text, verdict, answer in self.matrix)
            parts.append("\n\n".join([words["matrix"], *rows]))
        if self.offer:
            rows = (f"{words.get(label, label)}: {value}" for label, value in self.offer)
            parts.append("\n".join([words["quote"], *rows]))
        return "\n\n\n".join(parts) + "\n"


async def rendered(
    proposal: Proposal, request: pb.RenderProposalRequest, call: Call
) -> pb.RenderProposalResponse:
    """The proposal as a file. The PDF of what was handed in is made once and kept."""
    language = request.language if request.language in _WORDS else "zh"
    document = await document_of(proposal, call)
    reply = pb.RenderProposalResponse(digest=document.digest)
    if request.format == pb.RenderProposalRequest.TEXT:
        reply.content, ending = document.text(language).encode(), "txt"
        reply.media_type = "text/plain; charset=utf-8"
    elif request.format == pb.RenderProposalRequest.DOCX:
        reply.content, ending = await asyncio.to_thread(_docx, document, language), "docx"
        reply.media_type = _WORD
    else:
        reply.content, ending = await _printed(proposal, document, language, call), "pdf"
        reply.media_type = "application/pdf"
    reply.file_name = f"{proposal.number}.{ending}"
    return reply


async def print_proposals(call: Call) -> None:
    """Keeps the PDF of what was handed in and has none yet, the oldest first."""
    waiting = select(Proposal).where(Proposal.pdf == "", Proposal.state.in_(HANDED_IN)).order_by(Proposal.id)
    for proposal in list(await call.db.scalars(waiting.limit(AT_ONCE))):
        await _printed(proposal, await document_of(proposal, call), "zh", call)


async def document_of(proposal: Proposal, call: Call) -> Document:
    """What the proposal says. MERGE_FIELD_MISSING names every place that nothing fills for this reader."""
    chapters = [(one.title, one.body) for one in proposal.sections]
    quote = await proposal.quotation(call)
    if proposal.state not in HANDED_IN:
        chapters = _filled(chapters, await _records(proposal, quote, call))
    matrix = [(one.text, pb.Proposal.Verdict.Name(one.verdict), one.answer) for one in proposal.requirements]
    return Document(proposal.display_name, proposal.number, chapters, matrix, _offer(quote))


async def _printed(proposal: Proposal, document: Document, language: str, call: Call) -> bytes:
    kept = proposal.pdf if language == "zh" and proposal.state in HANDED_IN else ""
    if kept:
        async with blobs.fetched(call.running.store, kept) as file:
            return file.read()
    quote = await proposal.quotation(call)
    offer = await sections(quote, [language], False, call) if quote is not None else ""
    content = await asyncio.to_thread(pdf, _html(document, language, offer))
    if language == "zh" and proposal.state in HANDED_IN:
        await _keep(proposal, content, call)
    return content


async def _keep(proposal: Proposal, content: bytes, call: Call) -> None:
    sha, size = await blobs.keep(call.running.store, io.BytesIO(content))
    # The print follows from the proposal and is no change of it, so nobody's etag ends.
    table: Any = Proposal.__table__
    await call.db.execute(update(table).where(table.c.id == proposal.id).values(pdf=sha))
    stored = common_pb2.StoredFile(
        display_name=f"{proposal.number}.pdf", media_type="application/pdf", size=str(size), sha256=sha, owner=proposal.owner
    )  # fmt: skip
    call.tell("crm.sales.v1.FileStored", common_pb2.FileStored(file=stored, about=proposal.name), proposal)


async def _records(proposal: Proposal, quote: Quote | None, call: Call) -> dict[str, Any]:
    """What places may name, as far as the reader may read it."""
    deal = await call.named(Opportunity, proposal.opportunity)
    seller = call.entry(legal_entity(proposal.department, call))
    owner = call.entry(proposal.owner)
    account = await call.copy(proposal.account) or {}
    return {
        "account": {name: value for name, value in account.items() if name in _OF_ACCOUNTS},
        "opportunity": _told(deal, call),
        "quote": _told(quote, call),
        "proposal": _told(proposal, call),
        "company": {"displayName": seller.get("displayName", "")},
        "owner": {"displayName": owner.get("displayName", "")},
    }


# What of a customer may stand in a letter to him, whoever writes it.
_OF_ACCOUNTS = ("displayName", "legalName", "number", "industry", "website")


def _told(row: Resource | None, call: Call) -> dict[str, Any]:
    if row is None:
        return {}
    message: Any = mapper(type(row)).message(row, call.caller)
    return cast("dict[str, Any]", json_format.MessageToDict(message))


def _filled(chapters: list[tuple[str, str]], records: dict[str, Any]) -> list[tuple[str, str]]:
    missing: dict[str, None] = {}

    def word(found: re.Match[str]) -> str:
        value: Any = records
        for step in found[1].split("."):
            value = cast("dict[str, Any]", value).get(step) if isinstance(value, dict) else None
        text = _word(value)
        if not text:
            missing[found[1][:100]] = None
        return text

    done = [(_PLACE.sub(word, title), _PLACE.sub(word, body)) for title, body in chapters]
    if missing:
        raise FailedPrecondition("MERGE_FIELD_MISSING", fields=", ".join(missing))
    return done


def _word(value: Any) -> str:
    """An amount, a date, a number or a text in words; nothing for anything else."""
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value)
        if "currencyCode" in parts:
            return f"{Decimal(parts.get('amount') or 0):,} {parts['currencyCode']}"
        if {"year", "month", "day"} <= parts.keys():
            return f"{parts['year']}-{parts['month']:02}-{parts['day']:02}"
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value)


def _offer(quote: Quote | None) -> list[tuple[str, str]]:
    """The quotation in lines of text: what the customer may see."""
    if quote is None:
        return []
    lines: list[tuple[str, str]] = []
    for line in quote.lines:
        net = _word(json_format.MessageToDict(line.net_amount))
        lines.append((line.description, f"{plain(Decimal(line.quantity))} {line.unit} {net}"))
    totals = [("net", quote.net_total), ("tax", quote.tax_total), ("gross", quote.gross_total)]
    return [
        (quote.number, quote.display_name), *lines,
        *((label, f"{total.rounded().amount:,} {total.currency}") for label, total in totals if total is not None),
    ]  # fmt: skip


def _html(document: Document, language: str, offer: str) -> str:
    words = _WORDS[language]
    chapters = "".join(
        f"<h2>{escape(title)}</h2><div class=body>{escape(body)}</div>" for title, body in document.chapters
    )
    matrix = ""
    if document.matrix:
        rows = "".join(
            f"<tr><td>{escape(text)}</td><td>{escape(words[verdict])}</td><td class=body>{escape(answer)}</td></tr>"
            for text, verdict, answer in document.matrix
        )
        heads = "".join(f"<th>{words[one]}</th>" for one in ("text", "verdict", "answer"))
        matrix = (
            f"<h2>{words['matrix']}</h2><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        )
    title = f"<h1>{escape(document.title)} <small>{escape(document.number)}</small></h1>"
    head = f"<head><title>{escape(document.number)}</title><style>{_PAGE}</style></head>"
    return f"<html lang='{language}'>{head}<body><section>{title}{chapters}{matrix}</section>{offer}</body></html>"


def _docx(document: Document, language: str) -> bytes:
    from docx import Document as Word

    words, made = _WORDS[language], Word()
    made.add_heading(document.title, 0)
    made.add_paragraph(document.number)
    for title, body in document.chapters:
        made.add_heading(title, 1)
        for paragraph in body.split("\n"):
            made.add_paragraph(paragraph)
    if document.matrix:
        made.add_heading(words["matrix"], 1)
        table = made.add_table(rows=1, cols=3)
        for cell, name in zip(table.rows[0].cells, ("text", "verdict", "answer"), strict=True):
            cell.text = words[name]
        for text, verdict, answer in document.matrix:
            for cell, said in zip(table.add_row().cells, (text, words[verdict], answer), strict=True):
                cell.text = said
    if document.offer:
        made.add_heading(words["quote"], 1)
        table = made.add_table(rows=0, cols=2)
        for label, value in document.offer:
            for cell, said in zip(table.add_row().cells, (words.get(label, label), value), strict=True):
                cell.text = said
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()
