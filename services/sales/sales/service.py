"""Implements crm.sales.v1.SalesService."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit import approvals
from crmkit.call import Call
from crmkit.describe import COMMON
from crmkit.errors import FailedPrecondition, NotFound, Validation, Violation
from crmkit.mapping import WRITABLE_COMMON, mapper, read_date
from crmkit.resource import Resource, parse_name
from crmkit.standard import Standard
from crmkit.text import is_mail_address
from crmkit.values import Money
from sqlalchemy import select

from sales import commission_work
from sales.forecast import forecast, outlook
from sales.importing import brought_in
from sales.lead_methods import LeadMethods
from sales.model.assignment_rule import AssignmentRule, tested
from sales.model.bundle import Bundle
from sales.model.commission_entry import CommissionEntry
from sales.model.commission_plan import CommissionPlan
from sales.model.commission_statement import CommissionStatement
from sales.model.competitor import Competitor
from sales.model.conversion import conversion_of
from sales.model.course_completion import CourseCompletion
from sales.model.deal_registration import DealRegistration
from sales.model.discount_policy import DiscountPolicy
from sales.model.forecast_snapshot import Forecast
from sales.model.incumbency import Incumbency
from sales.model.joint_work_request import JointWorkRequest
from sales.model.lead import Lead, seen_or_told, visible_to_caller
from sales.model.lead_pool import pool_of
from sales.model.opportunity import Opportunity
from sales.model.pipeline import Pipeline
from sales.model.price_book import PriceBook
from sales.model.product import Product
from sales.model.product_category import ProductCategory
from sales.model.proposal import Proposal, ProposalBlock, ProposalTemplate
from sales.model.purchase import Purchase
from sales.model.quote import Quote, changes
from sales.model.quote_link import check_open, make_link, opened, revoke_links, shown
from sales.model.quote_records import last_price
from sales.model.support_request import SupportRequest
from sales.model.tip import Tip, beside, experts
from sales.model.upsell_proposal import UpsellProposal
from sales.model.visit import Visit, route
from sales.offers import compared, configured, simulated, upgraded
from sales.performance import AppraisalMethods
from sales.printing import as_file, battle_card, printed
from sales.proposals import ProposalMethods
from sales.shop import ShopMethods
from sales.snapshot import estimated, snapshot, without_gifts
from sales.target_methods import TargetMethods
from sales.telesales import TelesalesMethods
from sales.territories import TerritoryMethods
from sales.winning import battle_cards, win_rates


class SalesService(
    LeadMethods,
    TargetMethods,
    TelesalesMethods,
    AppraisalMethods,
    TerritoryMethods,
    ProposalMethods,
    ShopMethods,
):
    """Leads, opportunities, products, prices and quotes."""

    leads = Standard(Lead)
    pipelines = Standard(Pipeline)
    opportunities = Standard(Opportunity)
    competitors = Standard(Competitor)
    products = Standard(Product)
    price_books = Standard(PriceBook)
    quotes = Standard(Quote)
    product_categories = Standard(ProductCategory)
    bundles = Standard(Bundle)
    discount_policies = Standard(DiscountPolicy)
    incumbencies = Standard(Incumbency)
    assignment_rules = Standard(AssignmentRule)
    deal_registrations = Standard(DealRegistration)
    commission_plans = Standard(CommissionPlan)
    commission_entries = Standard(CommissionEntry)
    commission_statements = Standard(CommissionStatement)
    forecasts = Standard(Forecast)
    visits = Standard(Visit)
    tips = Standard(Tip)
    course_completions = Standard(CourseCompletion)
    purchases = Standard(Purchase)
    support_requests = Standard(SupportRequest)
    joint_work_requests = Standard(JointWorkRequest)
    upsell_proposals = Standard(UpsellProposal)
    proposals = Standard(Proposal)
    proposal_blocks = Standard(ProposalBlock)
    proposal_templates = Standard(ProposalTemplate)

    async def CreateLead(self, request: Any, call: Call) -> Lead | pb.Lead:
        """What belongs to a known lead joins it. Whoever may not see that one gets back what he told, and no more."""
        lead = Lead()
        names = [name for name in Lead.described.fields if name not in COMMON or name in WRITABLE_COMMON]
        mapper(Lead).assign(lead, request.lead, names, new=True, prefix="lead")
        await call.check_references(request.lead, "lead", names)
        return await seen_or_told(lead, call)

    async def AssignLead(self, request: pb.AssignLeadRequest, call: Call) -> Lead:
        lead = await call.load(Lead, request)
        await call.check_references(request, "", ["owner"])
        await lead.assign(request.owner, call)
        return lead

    async def CopyLead(self, request: Any, call: Call) -> Lead:
        lead = await call.load(Lead, request, lock=False)
        return await lead.copied(call)

    async def TestAssignment(
        self, request: pb.TestAssignmentRequest, call: Call
    ) -> pb.TestAssignmentResponse:
        return await tested(await call.load(Lead, request.lead, lock=False), call)

    async def EstimateCommission(
        self, request: pb.EstimateCommissionRequest, call: Call
    ) -> pb.EstimateCommissionResponse:
        return await commission_work.estimate(
            await call.load(Opportunity, request.opportunity, lock=False), call
        )

    async def SimulateCommissionPlan(
        self, request: pb.SimulateCommissionPlanRequest, call: Call
    ) -> pb.SimulateCommissionPlanResponse:
        return await commission_work.simulated(
            await call.load(CommissionPlan, request.name, lock=False), request.months, call
        )

    async def CorrectCommissionEntry(
        self, request: pb.CorrectCommissionEntryRequest, call: Call
    ) -> CommissionEntry:
        entry = await call.load(CommissionEntry, request)
        _must_be_held("CorrectCommissionEntry", entry, call, "CORRECTION_NEEDS_APPROVAL")
        return await entry.correct(Decimal(request.amount or 0), request.note, call)

    async def CheckInVisit(self, request: pb.CheckInVisitRequest, call: Call) -> Visit:
        visit = await call.load(Visit, request)
        visit.arrive(request, call)
        return visit

    async def ReviewVisit(self, request: pb.ReviewVisitRequest, call: Call) -> Visit:
        visit = await call.load(Visit, request)
        visit.comment(request.review, call)
        return visit

    async def PlanVisitRoute(
        self, request: pb.PlanVisitRouteRequest, call: Call
    ) -> pb.PlanVisitRouteResponse:
        visits = [await call.load(Visit, name, lock=False) for name in list(request.visits)[:100]]
        return route(visits, request.start)

    async def AcceptTipComment(self, request: pb.AcceptTipCommentRequest, call: Call) -> Tip:
        tip = await call.load(Tip, request)
        tip.accept(request.comment, call)
        return tip

    async def FinishCourse(self, request: Any, call: Call) -> CourseCompletion:
        tip = await call.load(Tip, request, lock=False)
        return await tip.finish(call)

    async def ListExperts(self, request: pb.ListExpertsRequest, call: Call) -> pb.ListExpertsResponse:
        return await experts(request.skill, call)

    async def SuggestTips(self, request: pb.SuggestTipsRequest, call: Call) -> dict[str, Any]:
        return {"tips": await beside(await call.load(Opportunity, request.name, lock=False), call)}

    async def AnswerSupportRequest(self, request: pb.SupportWordsRequest, call: Call) -> SupportRequest:
        asked = await call.load(SupportRequest, request)
        asked.reply(request.text, call)
        return asked

    async def AdjustForecast(self, request: pb.AdjustForecastRequest, call: Call) -> Forecast:
        row = await call.load(Forecast, request)
        row.adjust(Money.of(request.amount.amount, request.amount.currency_code), request.note, call)
        return row

    async def GetForecastAccuracy(
        self, request: pb.GetForecastAccuracyRequest, call: Call
    ) -> pb.GetForecastAccuracyResponse:
        return await (await call.load(Forecast, request.name, lock=False)).accuracy(call)

    async def ClaimLead(self, request: Any, call: Call) -> Lead:
        """A lead that nobody owns can be taken by everybody who may claim, whatever their data scope."""
        lead = await call.named(Lead, request.name, lock=True)
        claimable = lead is not None and (not lead.owner or lead.claim_time is not None)
        if lead is not None and not lead.owner and (pool := await pool_of(lead.pool, call)) is not None:
            claimable = pool.has_member(call.caller)
        if lead is None or (not claimable and not await call.db.scalar(visible_to_caller(lead, call))):
            raise NotFound()
        lead.check_etag(request.etag)
        async with call.everybody():
            await lead.claim(call)
            await call.flush()
        return lead

    async def ConvertLead(self, request: pb.ConvertLeadRequest, call: Call) -> Lead:
        lead = await call.load(Lead, request)
        await call.check_references(request, "", ["account", "contact", "opportunity", "opportunity_draft"])
        lead.request_conversion(await conversion_of(lead, request, call), call)
        return lead

    async def ActivatePipeline(self, request: pb.ActivatePipelineRequest, call: Call) -> Pipeline:
        pipeline = await call.load(Pipeline, request)
        await pipeline.activate(
            {one.from_stage: one.to_stage for one in request.mappings}, request.move_deals, call
        )
        return pipeline

    async def ListWinRates(self, request: pb.ListWinRatesRequest, call: Call) -> pb.ListWinRatesResponse:
        return await win_rates(read_date(request.from_date), read_date(request.to_date), call)

    async def ListBattleCards(
        self, request: pb.ListBattleCardsRequest, call: Call
    ) -> pb.ListBattleCardsResponse:
        return await battle_cards(request.digest, call)

    async def RenderBattleCard(
        self, request: pb.RenderBattleCardRequest, call: Call
    ) -> pb.RenderQuoteResponse:
        return await battle_card(await call.load(Competitor, request.name, lock=False), call)

    async def EvaluateForecast(
        self, request: pb.EvaluateForecastRequest, call: Call
    ) -> pb.EvaluateForecastResponse:
        return await forecast(request, call)

    async def GetOpportunityOutlook(
        self, request: pb.GetOpportunityOutlookRequest, call: Call
    ) -> pb.GetOpportunityOutlookResponse:
        return await outlook(await call.load(Opportunity, request.name, lock=False), call)

    async def ImportOpportunities(
        self, request: pb.ImportOpportunitiesRequest, call: Call
    ) -> pb.ImportOpportunitiesResponse:
        await call.check_references(request, "", ["pipeline"])
        return await brought_in(request, call)

    async def AdvanceOpportunity(self, request: pb.AdvanceOpportunityRequest, call: Call) -> Opportunity:
        opportunity = await call.load(Opportunity, request)
        stage = await opportunity.advance(request.stage, call)
        if stage.approval:
            _must_be_held(
                "AdvanceOpportunity", opportunity, call, "STAGE_NEEDS_APPROVAL", stage=stage.display_name
            )
        return opportunity

    async def WinOpportunity(self, request: Any, call: Call) -> Opportunity:
        opportunity = await call.load(Opportunity, request)
        opportunity.win(call)
        quote = None
        if opportunity.accepted_quote:
            quote = await call.named(Quote, opportunity.accepted_quote)
        call.emit(events.OpportunityWon, opportunity=opportunity, quote=quote)
        return opportunity

    async def LoseOpportunity(self, request: pb.LoseOpportunityRequest, call: Call) -> Opportunity:
        opportunity = await call.load(Opportunity, request)
        await call.check_references(request, "", ["competitor"])
        opportunity.lose(request.reason, request.competitor, call)
        return opportunity

    async def EndProductSale(self, request: pb.EndProductSaleRequest, call: Call) -> Product:
        product = await call.load(Product, request)
        await call.check_references(request, "", ["successor"])
        product.end_sale(request.successor, call)
        return product

    async def AdjustPriceBook(self, request: pb.AdjustPriceBookRequest, call: Call) -> dict[str, Any]:
        """A preview changes a copy that nobody stores."""
        book = await call.load(PriceBook, request)
        if request.preview:
            call.db.expunge(book)
        elif book.state == "ACTIVE":
            book = await book.new_version(call)
        elif book.state != "DRAFT":
            book.check_state("DRAFT", "ACTIVE")
        changed = book.adjust(Decimal(request.percent or 0), list(request.products))
        return {"price_book": book, "changes": changed}

    async def ConfigureBundle(
        self, request: pb.ConfigureBundleRequest, call: Call
    ) -> pb.ConfigureBundleResponse:
        bundle = await call.load(Bundle, request.name, lock=False)
        await call.check_references(request, "", ["account"])
        return await configured(bundle, request, call)

    async def UpgradeConfiguration(
        self, request: pb.UpgradeConfigurationRequest, call: Call
    ) -> pb.UpgradeConfigurationResponse:
        bundle = await call.load(Bundle, request.name, lock=False)
        return await upgraded(bundle, list(request.choices), call)

    async def SimulateDiscountPolicy(
        self, request: pb.SimulatePolicyRequest, call: Call
    ) -> pb.SimulatePolicyResponse:
        policy = await call.load(DiscountPolicy, request.name, lock=False)
        return await simulated(policy, request.days or 90, call)

    async def CalculateQuote(self, request: pb.CalculateQuoteRequest, call: Call) -> Any:
        """The same as creating it, but for the storing."""
        quote = Quote()
        quote.transient, quote.version_number = True, 1
        names = [name for name in Quote.described.fields if name not in COMMON]
        mapper(Quote).assign(quote, request.quote, names, new=True, prefix="quote")
        await call.check_references(request.quote, "quote", names)
        await quote.complete(call)
        return mapper(Quote).message(quote, call.caller)

    async def PriceQuote(self, request: Any, call: Call) -> Any:
        quote = await call.load(Quote, request, lock=False)
        return mapper(Quote).message(await quote.priced_today(call), call.caller)

    async def RepriceQuote(self, request: pb.RepriceQuoteRequest, call: Call) -> pb.RepriceQuoteResponse:
        quote = await call.load(Quote, request)
        today = await quote.priced_today(call)
        reply = pb.RepriceQuoteResponse(changes=changes(quote, today))
        if request.confirm:
            await quote.price(call)
            await call.flush()
        told: Any = mapper(Quote).message(quote if request.confirm else today, call.caller)
        reply.quote.CopyFrom(told)
        return reply

    async def CopyQuote(self, request: Any, call: Call) -> Quote:
        quote = await call.load(Quote, request, lock=False)
        return await quote.copied(call)

    async def GetPriceSnapshot(
        self, request: pb.GetPriceSnapshotRequest, call: Call
    ) -> pb.GetPriceSnapshotResponse:
        await call.check_references(request, "", ["account", "channel_partner"])
        return await snapshot(request, call)

    async def SyncQuote(self, request: pb.SyncQuoteRequest, call: Call) -> pb.SyncQuoteResponse:
        """The same as creating it; the answer says what the device reckoned otherwise."""
        asked, gifts = without_gifts(request.quote)
        made: Any = await self.quotes.create(pb.SyncQuoteRequest(quote=asked), call)
        await call.flush()
        reply = estimated(asked, gifts, made)
        told: Any = mapper(Quote).message(made, call.caller)
        reply.quote.CopyFrom(told)
        return reply

    async def CompareQuote(self, request: pb.CompareQuoteRequest, call: Call) -> pb.CompareQuoteResponse:
        before = await call.load(Quote, request.name, lock=False)
        return compared(before, await call.load(Quote, request.other, lock=False))

    async def ListLastPrices(self, request: pb.ListLastPricesRequest, call: Call) -> dict[str, Any]:
        await call.check_references(request, "", ["account"])
        names = list(request.products)[:200]
        return {"prices": [await last_price(request.account, name, request.currency, call) for name in names]}

    async def RenderQuote(self, request: pb.RenderQuoteRequest, call: Call) -> pb.RenderQuoteResponse:
        quote = await call.load(Quote, request.name, lock=False)
        return await printed(quote, request.language, request.without_prices, call)

    async def CreateQuoteLink(
        self, request: pb.CreateQuoteLinkRequest, call: Call
    ) -> pb.CreateQuoteLinkResponse:
        return await make_link(await call.load(Quote, request.name), call)

    async def RevokeQuoteLinks(self, request: Any, call: Call) -> Quote:
        quote = await call.load(Quote, request)
        await revoke_links(quote, call)
        return quote

    async def OpenQuoteLink(self, request: pb.OpenQuoteLinkRequest, call: Call) -> pb.OpenQuoteLinkResponse:
        return await shown(*await opened(request.token, call), call)

    async def AcceptQuoteLink(
        self, request: pb.AcceptQuoteLinkRequest, call: Call
    ) -> pb.OpenQuoteLinkResponse:
        async with _decided(request.token, call) as (quote, until):
            await quote.accept(request.digest, request.person, request.consent, call)
        return await shown(quote, until, call)

    async def RejectQuoteLink(
        self, request: pb.RejectQuoteLinkRequest, call: Call
    ) -> pb.OpenQuoteLinkResponse:
        async with _decided(request.token, call) as (quote, until):
            quote.reject(request.reason, call)
        return await shown(quote, until, call)

    async def SubmitQuote(self, request: Any, call: Call) -> Quote:
        """Below the floor, or above the limit of the role, there must be a policy that holds it for a decision."""
        quote = await _version(request, call)
        await quote.submit(call)
        reason = (
            "MARGIN_BELOW_FLOOR" if quote.below_floor else "DISCOUNT_OVER_LIMIT" if quote.over_limit else ""
        )
        if reason:
            _must_be_held("SubmitQuote", quote, call, reason)
        return quote

    async def SendQuote(self, request: pb.SendQuoteRequest, call: Call) -> Quote:
        quote = await _version(request, call)
        contact = await call.copy(quote.contact) or {}
        known = [email["address"] for email in contact.get("emails", []) if email.get("address")]
        people = list(dict.fromkeys(request.recipients)) or known
        if wrong := [place for place, one in enumerate(request.recipients) if not is_mail_address(one)]:
            text = "邮箱无效", "This is no mail address."
            raise Validation(*(Violation(f"recipients[{place}]", "WRONG_FORMAT", *text) for place in wrong))
        quote.send(call)
        file = await as_file(quote, call) if people else None
        call.emit(events.QuoteSent, quote=quote, recipients=people, text=request.text, file=file)
        return quote

    async def AcceptQuote(self, request: pb.AcceptQuoteRequest, call: Call) -> Quote:
        """A portal customer accepts too, who sees neither the drafts that end nor the opportunity."""
        quote = await _version(request, call)
        await quote.accept(request.digest, request.person, request.consent, call)
        async with call.everybody():
            await call.flush()
        return quote

    async def RejectQuote(self, request: pb.RejectQuoteRequest, call: Call) -> Quote:
        quote = await _version(request, call)
        quote.reject(request.reason, call)
        return quote

    async def WithdrawQuote(self, request: pb.WithdrawQuoteRequest, call: Call) -> Quote:
        quote = await _version(request, call)
        quote.withdraw(request.reason)
        return quote

    async def NewQuoteVersion(self, request: Any, call: Call) -> Quote:
        quote = await _version(request, call)
        return await quote.new_version(call)


def _must_be_held(method: str, row: Resource, call: Call, reason: str, **metadata: Any) -> None:
    """Refuses what nobody has approved and no policy holds for a decision."""
    if call.caller.approved:
        return
    policies = approvals.policies_for(call.running.pipeline.methods[method], call)
    if approvals.matching(policies, call.message_of(row), call) is None:
        raise FailedPrecondition(reason, **metadata)


async def _version(request: Any, call: Call) -> Quote:
    """Loads a version while nobody else decides on another version of the same quotation (QV-3)."""
    root = await call.db.scalar(select(Quote.root).where(Quote.id == parse_name(request.name, "quotes")))
    await call.one_at_a_time([root or request.name])
    return await call.load(Quote, request)


@asynccontextmanager
async def _decided(token: str, call: Call) -> AsyncGenerator[tuple[Quote, datetime], None]:
    """Whoever has the link speaks for the customer; one decides, the others are told so."""
    quote, until = await opened(token, call)
    await call.one_at_a_time([quote.root])
    async with call.everybody():
        await call.db.refresh(quote, with_for_update=True)
        check_open(quote, until, call)
        yield quote, until
        await call.flush()
