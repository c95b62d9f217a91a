"""The printed quote: one HTML page per language, made a PDF by WeasyPrint with the CJK fonts of the system."""

from __future__ import annotations

import asyncio
import hashlib
import io
from decimal import Decimal
from html import escape
from typing import Any
from uuid import UUID, uuid5

from crm.common.v1 import common_pb2
from crm.sales.v1 import pb
from crmkit import blobs
from crmkit.amounts import plain
from crmkit.call import Call
from crmkit.company import legal_entity
from crmkit.values import Money
from sqlalchemy import Boolean, Text, Uuid, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from sales.model.base import Base
from sales.model.competitor import Competitor
from sales.model.quote import Quote

STYLE = """
@page { size: A4; margin: 18mm 16mm 20mm; @bottom-center { content: counter(page) " / " counter(pages); font-size: 8pt } }
body { font-family: "Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Zen Hei", sans-serif; font-size: 9.5pt }
h1 { font-size: 17pt; margin: 0 0 6mm } h1 small { font-size: 10pt; font-weight: normal; float: right }
dl { display: grid; grid-template-columns: 30mm 1fr; gap: 1mm 3mm; margin: 0 0 6mm } dt { color: #555 } dd { margin: 0 }
table { width: 100%; border-collapse: collapse } th, td { padding: 1.6mm 1.5mm; border-bottom: .2mm solid #ccc; text-align: left }
th { background: #f2f4f7 } .n { text-align: right; white-space: nowrap } tfoot td { border: 0 }
tfoot tr:last-child { font-weight: bold }
.sub { color: #666; font-size: 8.5pt } .terms { white-space: pre-wrap; margin-top: 6mm } section + section { break-before: page }
"""
_WORDS = {
    "zh": {
        "title": "报价单", "number": "编号", "account": "客户", "contact": "联系人", "date": "报价日期", "until": "有效期至",
        "item": "项目", "quantity": "数量", "price": "单价", "discount": "优惠", "net": "金额", "tax": "税额", "rate": "税率",
        "net_total": "不含税合计", "tax_total": "税额合计", "gross_total": "价税总计", "terms": "条款", "free": "赠品",
        "none": "无", "state": "状态", "list_total": "标准总额", "discount_total": "优惠合计", "draft": "草稿",
    },
    "en": {
        "title": "Quotation", "number": "No.", "account": "Customer", "contact": "Contact", "date": "Date",
        "until": "Valid until", "item": "Item", "quantity": "Quantity", "price": "Unit price", "discount": "Discount",
        "net": "Net", "tax": "Tax", "rate": "Tax rate", "net_total": "Net total", "tax_total": "Tax",
        "gross_total": "Total", "terms": "Terms", "free": "Free of charge", "none": "none", "state": "State",
        "list_total": "List total", "discount_total": "Discounts", "draft": "Draft",
    },
}  # fmt: skip
BOTH = "+".join(_WORDS)
_OFFERED = ("APPROVED", "SENT", "ACCEPTED", "REJECTED", "EXPIRED", "WITHDRAWN", "SUPERSEDED")
AT_ONCE = 20


class QuotePrint(Base):
    """The PDF of a version that has left the draft: what was printed once is printed the same for ever."""

    __tablename__ = "quote_prints"

    quote: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    language: Mapped[str] = mapped_column(Text, primary_key=True)
    without_prices: Mapped[bool] = mapped_column(Boolean, primary_key=True)
    sha256: Mapped[str] = mapped_column(Text)


async def printed(quote: Quote, language: str, without_prices: bool, call: Call) -> pb.RenderQuoteResponse:
    """The PDF: of a draft made anew, of any other version made once and kept."""
    languages = [language] if language in _WORDS else list(_WORDS)
    variant = (
        QuotePrint.quote == quote.id, QuotePrint.language == "+".join(languages),
        QuotePrint.without_prices == without_prices,
    )  # fmt: skip
    kept = await call.db.scalar(select(QuotePrint.sha256).where(*variant)) if quote.state != "DRAFT" else None
    if kept:
        async with blobs.fetched(call.running.store, kept) as file:
            content = file.read()
    else:
        html = await page(quote, languages, without_prices, call)
        # Half a second of reckoning must not keep other calls waiting.
        content = await asyncio.to_thread(pdf, html)
        if quote.state != "DRAFT":
            await _keep(quote, "+".join(languages), without_prices, content, call)
    name = f"{quote.number or 'quote'}{'' if not without_prices else '-WH'}.pdf"
    return pb.RenderQuoteResponse(content=content, file_name=name, media_type="application/pdf")


async def print_unprinted(call: Call) -> None:
    """Prints the versions that have left the draft and have no print yet, the oldest first."""
    waiting = select(Quote).where(Quote.pdf == "", Quote.state.in_(_OFFERED)).order_by(Quote.id)
    for quote in list(await call.db.scalars(waiting.limit(AT_ONCE))):
        await printed(quote, "", False, call)


async def page(quote: Quote, languages: list[str], without_prices: bool, call: Call) -> str:
    """The quote as HTML: what customers may see, and nothing else."""
    head = f"<head><title>{escape(quote.number)}</title><style>{STYLE}</style></head>"
    body = await sections(quote, languages, without_prices, call)
    return f"<html lang='{languages[0]}'>{head}<body>{body}</body></html>"


async def sections(quote: Quote, languages: list[str], without_prices: bool, call: Call) -> str:
    """The quote as part of a page, once in each language."""
    account = (await call.copy(quote.account) or {}).get("displayName", "")
    contact = (await call.copy(quote.contact) or {}).get("displayName", "") if quote.contact else ""
    seller = call.entry(legal_entity(quote.department, call))
    told = (
        _section(quote, _WORDS[one], account, contact, str(seller.get("displayName", "")), without_prices)
        for one in languages
    )
    return "".join(told)


async def _keep(quote: Quote, language: str, without_prices: bool, content: bytes, call: Call) -> None:
    sha256, size = await blobs.keep(call.running.store, io.BytesIO(content))
    row = {"quote": quote.id, "language": language, "without_prices": without_prices, "sha256": sha256}
    await call.db.execute(insert(QuotePrint).values(**row).on_conflict_do_nothing())
    if language == BOTH and not without_prices:
        # The print follows from the version and is no change of it, so nobody's etag ends.
        table: Any = Quote.__table__
        await call.db.execute(update(table).where(table.c.id == quote.id).values(pdf=sha256))
    call.tell(
        "crm.sales.v1.FileStored",
        common_pb2.FileStored(file=_stored(quote, sha256, size), about=quote.name),
        quote,
    )


async def as_file(quote: Quote, call: Call) -> common_pb2.StoredFile:
    """The print of a version that has left the draft, as the file that its mail takes along."""
    content = (await printed(quote, "", False, call)).content
    return _stored(quote, hashlib.sha256(content).hexdigest(), len(content))


def _stored(quote: Quote, sha256: str, size: int) -> common_pb2.StoredFile:
    # Whoever hears of the print first makes its record, so everybody has the same name for it.
    return common_pb2.StoredFile(
        display_name=f"{quote.number}.pdf", media_type="application/pdf", size=str(size), sha256=sha256, owner=quote.owner,
        name=f"files/{uuid5(quote.id, sha256)}",
    )  # fmt: skip


def pdf(html: str) -> bytes:
    """The page as PDF."""
    from weasyprint import HTML

    def nothing(url: str, *_: Any, **__: Any) -> Any:
        raise ValueError(url)

    # Nothing is fetched from anywhere, whatever a text says.
    return HTML(string=html, url_fetcher=nothing).write_pdf() or b""


def _section(
    quote: Quote, words: dict[str, str], account: str, contact: str, seller: str, without_prices: bool
) -> str:
    facts = [
        (words["number"], quote.number), (words["account"], account), (words["contact"], contact),
        (words["date"], str(quote.price_date or "")), (words["until"], str(quote.valid_until_date or words["none"])),
    ]  # fmt: skip
    if quote.state == "DRAFT":
        facts.append((words["state"], words["draft"]))
    told = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in facts if text)
    heads = [words["item"], words["quantity"]]
    if not without_prices:
        heads += [f"{words[name]} ({quote.currency})" for name in ("price", "discount", "net")] + [
            words["rate"],
            words["tax"],
        ]
    head = "".join(
        f"<th{' class=n' if place else ''}>{escape(text)}</th>" for place, text in enumerate(heads)
    )
    rows = "".join(_row(line, words, without_prices) for line in quote.lines)
    foot = "" if without_prices else _foot(quote, words)
    terms = f"<div class=terms><b>{words['terms']}</b><br>{escape(quote.terms)}</div>" if quote.terms else ""
    title = f"<h1>{words['title']} <small>{escape(seller)}</small></h1><p>{escape(quote.display_name)}</p>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>{foot}</table>"
    return f"<section>{title}<dl>{told}</dl>{table}{terms}</section>"


def _row(line: Any, words: dict[str, str], without_prices: bool) -> str:
    name = escape(line.description) + (f" <span class=sub>{words['free']}</span>" if line.free_with else "")
    cells = [f"<td>{name}</td>", f"<td class=n>{_number(line.quantity)} {escape(line.unit)}</td>"]
    if not without_prices:
        taken = Decimal(line.discount_amount.amount or 0)
        cells += [
            f"<td class=n>{_money(line.unit_list_price.amount)}</td>",
            f"<td class=n>{_money(str(-taken)) if taken else ''}</td>",
            f"<td class=n>{_money(line.net_amount.amount)}</td>",
            f"<td class=n>{escape(line.tax_rate)}%</td>",
            f"<td class=n>{_money(line.tax_amount.amount)}</td>",
        ]
    return f"<tr>{''.join(cells)}</tr>"


def _foot(quote: Quote, words: dict[str, str]) -> str:
    rows = [
        (words["net_total"], quote.net_total),
        (words["tax_total"], quote.tax_total),
        (words["gross_total"], quote.gross_total),
    ]
    if quote.discount_total:
        rows = [
            (words["list_total"], quote.list_total),
            (words["discount_total"], -quote.discount_total),
            *rows,
        ]
    return f"<tfoot>{''.join(_total(label, amount) for label, amount in rows)}</tfoot>"


def _total(label: str, amount: Money | None) -> str:
    text = _money(str(amount.rounded().amount)) if amount is not None else ""
    currency = amount.currency if amount is not None else ""
    return f"<tr><td colspan=6 class=n>{escape(label)} ({currency})</td><td class=n>{text}</td></tr>"


def _money(amount: str) -> str:
    return f"{Decimal(amount):,}" if amount else ""


def _number(quantity: str) -> str:
    return plain(Decimal(quantity))


async def battle_card(competitor: Competitor, call: Call) -> pb.RenderQuoteResponse:
    """What to know against a competitor, on paper."""
    products = "".join(
        f"<h3>{escape(one.display_name)}</h3><dl>{_facts(_strengths(one, call))}</dl>"
        for one in competitor.products
    )
    news = "".join(
        f"<li>{one.date.year}-{one.date.month:02}-{one.date.day:02} {escape(one.text)}"
        f" <span class=sub>{escape(one.source)}</span></li>"
        for one in competitor.news
    )
    card = f"<div class=terms>{escape(competitor.battle_card)}</div>"
    body = f"<h1>{escape(competitor.display_name)}</h1>{card}{products}<ul>{news}</ul>"
    html = f"<html><head><style>{STYLE}</style></head><body>{body}</body></html>"
    content = await asyncio.to_thread(pdf, html)
    return pb.RenderQuoteResponse(
        content=content, file_name=f"{competitor.display_name}.pdf", media_type="application/pdf"
    )


def _strengths(product: Any, call: Call) -> list[tuple[str, str]]:
    words = (
        ("advantages", "优势", "Advantages"), ("weaknesses", "劣势", "Weaknesses"),
        ("success_factors", "关键成功因素", "Success factors"), ("failure_factors", "关键失败因素", "Failure factors"),
    )  # fmt: skip
    return [(call.text(zh, en), getattr(product, name)) for name, zh, en in words]


def _facts(pairs: list[tuple[str, str]]) -> str:
    return "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in pairs if text)
