"""Proposals and tenders through the front door: blocks, matrix, dates, the document."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from docx import Document
from pypdf import PdfReader
from sales.jobs import print_quotes, remind_of_proposals

Made = Callable[..., Awaitable[Any]]
Proposal = pb.Proposal
GONE = {"year": 2020, "month": 1, "day": 1}
LATER = {"year": 2099, "month": 12, "day": 31}


@pytest.fixture
def block(sales: Service) -> Made:
    """A text of the library."""

    async def make(title: str, body: str, kind: str = "COMPANY_PROFILE", **fields: Any) -> str:
        made = {"displayName": title, "body": body, "kind": kind, **fields}
        return (await sales.manager.CreateProposalBlock(proposalBlock=made)).name

    return make


async def job(sales: Service, work: Any, when: datetime) -> None:
    async with sales.running.call("test", system("sales")) as call:
        await work(when, call)


@pytest.mark.capability("s.proposal")
async def test_a_tender_is_made_of_blocks_answers_every_requirement_and_stays_as_it_was_handed_in(
    sales: Service, deal: Made, account: Made, product: Made, block: Made
) -> None:
    customer = await account(displayName="华东机械")
    opportunity = await deal(account=customer)
    goods = await product()
    quote = await sales.sales1.CreateQuote(
        quote={
            "account": customer, "opportunity": opportunity.name, "currency": "CNY",
            "lines": [{"product": goods.name, "quantity": "12"}],
        }
    )  # fmt: skip
    profile = await block("公司简介", "我们为{{account.displayName}}服务。")
    licence = await block("ISO 9001", "证书有效。", "QUALIFICATION", validUntilDate=LATER)
    plan = await block(
        "技术方案",
        "预算 {{opportunity.amount}}，报价 {{quote.number}} 共 {{ quote.grossTotal }}。",
        "TECHNICAL_PLAN",
    )
    template = await sales.manager.CreateProposalTemplate(
        proposalTemplate={
            "displayName": "投标模板",
            "blocks": [profile, licence],
            "requirements": ["三年质保"],
        }
    )
    body = {
        "displayName": "二号线改造投标书", "kind": "TENDER", "opportunity": opportunity.name, "template": template.name,
        "quote": quote.name, "sections": [{"block": plan, "owner": sales.person("sales2").employee}],
        "requirements": [{"text": "两周交货"}, {"text": "本地服务", "verdict": "PARTLY"}],
        "submissionTime": "2099-12-01T01:30:00Z",
    }  # fmt: skip
    made = await sales.sales1.CreateProposal(proposal=body)
    assert (made.number[:3], made.account, made.state) == ("PR-", customer, Proposal.DRAFT)
    assert [one.title for one in made.sections] == ["公司简介", "ISO 9001", "技术方案"]
    assert [one.text for one in made.requirements] == ["三年质保", "两周交货", "本地服务"]
    # Whoever writes a chapter sees the proposal.
    assert (await sales.sales2.GetProposal(name=made.name)).name == made.name

    # A block that has expired is not put in, neither directly nor by a template; a qualification says when it ends.
    with pytest.raises(Refused) as refused:
        await block("无期限", "x", "QUALIFICATION")
    assert refused.value.violations == {"proposal_block.valid_until_date": "REQUIRED"}
    old = await block("旧资质", "已过期", "QUALIFICATION", validUntilDate=GONE)
    with pytest.raises(Refused) as refused:
        await sales.sales1.UpdateProposal(
            proposal={"name": made.name, "sections": [{"block": old}]}, updateMask="sections"
        )
    assert (refused.value.reason, refused.value.info.metadata["block"]) == ("BLOCK_EXPIRED", "旧资质")
    stale = await sales.manager.CreateProposalTemplate(
        proposalTemplate={"displayName": "旧模板", "blocks": [old]}
    )
    with pytest.raises(Refused) as refused:
        await sales.sales1.CreateProposal(proposal={**body, "template": stale.name})
    assert refused.value.reason == "BLOCK_EXPIRED"

    async def text(format: str = "TEXT", name: str = made.name) -> Any:
        return await sales.sales1.RenderProposal(name=name, format=format)

    # The same input gives the same text, in every format.
    one, two = await text(), await text()
    assert (one.content, one.digest) == (two.content, two.digest)
    told = one.content.decode()
    assert "我们为华东机械服务。" in told
    assert f"预算 50,000.00 CNY，报价 {quote.number} 共 {quote.gross_total.amount[:1]}," in told
    pages = await text("PDF")
    printed = "".join(page.extract_text() for page in PdfReader(BytesIO(pages.content)).pages)
    assert "我们为华东机械服务" in printed and quote.number in printed and pages.digest == one.digest
    again = await text("PDF")
    assert printed == "".join(page.extract_text() for page in PdfReader(BytesIO(again.content)).pages)
    word = await text("DOCX")
    assert "我们为华东机械服务。" in [one.text for one in Document(BytesIO(word.content)).paragraphs]

    # A place that nothing fills is an error that names it, not an empty spot; all of them at once.
    broken = await block("缺字段", "{{account.taxNumber}} 与 {{ nobody }} 与 {{account.displayName}}")
    bad = await sales.sales1.CreateProposal(
        proposal={"displayName": "缺字段", "opportunity": opportunity.name, "sections": [{"block": broken}]}
    )
    for format in ("TEXT", "PDF", "DOCX"):
        with pytest.raises(Refused) as refused:
            await text(format, bad.name)
        assert refused.value.reason == "MERGE_FIELD_MISSING"
        assert refused.value.info.metadata["fields"] == "account.taxNumber, nobody"

    # It is reviewed, approved above, and handed in only when every requirement has its answer.
    with pytest.raises(Refused) as refused:
        await sales.sales1.SubmitProposal(name=made.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    await sales.sales1.ReviewProposal(name=made.name)
    with pytest.raises(Refused) as refused:
        await sales.sales1.ApproveProposal(name=made.name)
    assert refused.value.reason == "PERMISSION_DENIED"
    assert (await sales.manager.ApproveProposal(name=made.name)).state == Proposal.APPROVED
    with pytest.raises(Refused) as refused:
        await sales.sales1.SubmitProposal(name=made.name)
    assert refused.value.reason == "REQUIREMENT_OPEN"
    assert refused.value.info.metadata["requirements"] == "三年质保；两周交货；本地服务"
    assert len(refused.value.violations) == 3
    with pytest.raises(Refused) as refused:
        await sales.sales1.UpdateProposal(
            proposal={"name": made.name, "requirements": []}, updateMask="requirements"
        )
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    await sales.sales1.ReviseProposal(name=made.name, reason="补全应答")
    answered = [
        {"text": "三年质保", "verdict": "COMPLIES"}, {"text": "两周交货", "verdict": "NO", "answer": "三周"},
        {"text": "本地服务", "verdict": "PARTLY", "answer": "仅上海"},
    ]  # fmt: skip
    await sales.sales1.UpdateProposal(
        proposal={"name": made.name, "requirements": answered}, updateMask="requirements"
    )
    await sales.sales1.ReviewProposal(name=made.name)
    await sales.manager.ApproveProposal(name=made.name)
    with pytest.raises(Refused) as refused:
        await sales.sales1.SubmitProposal(name=made.name)
    assert (refused.value.reason, refused.value.info.metadata["quote"]) == (
        "QUOTE_NOT_APPROVED",
        quote.number,
    )
    await sales.sales1.SubmitQuote(name=quote.name)
    for date, reason in (
        ("2020-01-01T00:00:00Z", "SUBMISSION_DATE_PASSED"),
        (body["submissionTime"], "BLOCK_EXPIRED"),
    ):
        # The customer moves the date while it is looked at; a qualification ends in the meantime.
        await sales.sales1.UpdateProposal(
            proposal={"name": made.name, "submissionTime": date}, updateMask="submissionTime"
        )
        if reason == "BLOCK_EXPIRED":
            await sales.manager.UpdateProposalBlock(
                proposalBlock={"name": licence, "validUntilDate": GONE}, updateMask="validUntilDate"
            )
        with pytest.raises(Refused) as refused:
            await sales.sales1.SubmitProposal(name=made.name)
        assert refused.value.reason == reason
    await sales.manager.UpdateProposalBlock(
        proposalBlock={"name": licence, "validUntilDate": LATER}, updateMask="validUntilDate"
    )
    before = await text()
    done = await sales.sales1.SubmitProposal(name=made.name)
    assert (done.state, done.digest) == (Proposal.SUBMITTED, before.digest)

    # What was handed in stays, whatever becomes of the block and the deal.
    await sales.manager.UpdateProposalBlock(
        proposalBlock={"name": profile, "body": "换了说法"}, updateMask="body"
    )
    await sales.sales1.UpdateOpportunity(
        opportunity={"name": opportunity.name, "amount": {"currencyCode": "CNY", "amount": "1.00"}},
        updateMask="amount",
    )
    after = await text()
    assert (after.content, after.digest) == (before.content, before.digest)
    await job(sales, print_quotes, datetime.now(UTC))
    kept = await sales.sales1.GetProposal(name=made.name)
    assert kept.pdf and (await text("PDF")).content == (await text("PDF")).content
    [stored] = await sales.facts("crm.sales.v1.FileStored", made.name)
    assert stored["file"]["sha256"] == kept.pdf
    with pytest.raises(Refused) as refused:
        await sales.sales1.UpdateProposal(
            proposal={"name": made.name, "displayName": "x"}, updateMask="displayName"
        )
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    assert (await sales.sales1.WinProposal(name=made.name)).state == Proposal.WON


@pytest.mark.capability("s.proposal")
async def test_each_date_is_told_of_seven_three_and_one_days_before_and_once(
    sales: Service, deal: Made
) -> None:
    opportunity = await deal()
    due = datetime(2031, 6, 20, 1, 30, tzinfo=UTC)
    made = await sales.sales1.CreateProposal(
        proposal={
            "displayName": "投标", "opportunity": opportunity.name, "submissionTime": due.isoformat(),
            "questionsTime": (due - timedelta(days=8)).isoformat(), "openingTime": (due + timedelta(days=1)).isoformat(),
        }
    )  # fmt: skip

    async def told() -> list[str]:
        facts = await sales.facts("crm.sales.v1.NoticeRaised", made.name)
        assert all(one["employees"] == [sales.person("sales1").employee] for one in facts)
        return [one["dedupeKey"].partition(":")[2] for one in facts]

    for left in (16, 15, 14, 11, 9, 8):
        await job(sales, remind_of_proposals, due - timedelta(days=left))
    asked = f"{due - timedelta(days=8):%Y-%m-%d}"
    assert await told() == [f"questions_time:{left}:{asked}" for left in (7, 3, 1)]
    for left in (7, 7, 3, 2, 1, 0, -1):
        await job(sales, remind_of_proposals, due - timedelta(days=left))
    steps = [one for one in await told() if one.startswith("submission_time")]
    assert steps == [f"submission_time:{left}:2031-06-20" for left in (7, 3, 1)]
    # A date that was moved is told of anew.
    await sales.sales1.UpdateProposal(
        proposal={"name": made.name, "submissionTime": (due + timedelta(days=30)).isoformat()},
        updateMask="submissionTime",
    )
    await job(sales, remind_of_proposals, due + timedelta(days=27))
    assert (await told())[-1] == "submission_time:3:2031-07-20"
