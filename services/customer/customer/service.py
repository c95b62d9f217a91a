"""Implements crm.customer.v1.CustomerService."""

from datetime import UTC
from typing import Any

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, NotFound
from crmkit.mapping import mapper, read_date
from crmkit.standard import Standard

from customer import (
    collision,
    disputes,
    grading,
    key_accounts,
    merges,
    ownership,
    places,
    recycling,
    scanning,
    transfers,
)
from customer.contacts import card_of, from_cards
from customer.credit import check_register, coverage
from customer.hierarchy import hierarchy
from customer.loyalty import loyalty
from customer.model.account import Account
from customer.model.account_plan import AccountPlan
from customer.model.care import CareOccurrence, CarePlan
from customer.model.consent import Consent
from customer.model.contact import Contact
from customer.model.credit import CreditProfile
from customer.model.duplicate_case import DuplicateCase
from customer.model.grading import AccountGrade, GradingRule, TagGroup
from customer.model.importation import Import
from customer.model.interaction import Interaction
from customer.model.merge import Merge
from customer.model.pool import Pool, PoolClaim, PoolItem
from customer.model.pool_rule import PoolRule, SimulatedReturn
from customer.model.profile_change import ProfileChange
from customer.model.recycle import RecycleProposal
from customer.model.relation import AccountRelation
from customer.model.timeline import TimelineEntry
from customer.model.trait import Trait
from customer.model.transfer import Transfer, TransferItem
from customer.orgchart import org_chart
from customer.overview import overview
from customer.persona import persona
from customer.sea import claims, emptying, simulation
from customer.sea import jobs as sea_jobs
from customer.sea.states import open_deals
from customer.timeline import rebuild


class CustomerService:
    """Accounts, contacts and what was said with them."""

    accounts = Standard(Account)
    contacts = Standard(Contact)
    account_relations = Standard(AccountRelation)
    interactions = Standard(Interaction)
    consents = Standard(Consent)
    timeline = Standard(TimelineEntry)
    imports = Standard(Import)
    profile_changes = Standard(ProfileChange)
    credit_profiles = Standard(CreditProfile)
    traits = Standard(Trait)
    care_plans = Standard(CarePlan)
    care_occurrences = Standard(CareOccurrence)
    duplicate_cases = Standard(DuplicateCase, disputes)
    pools = Standard(Pool)
    recycle_proposals = Standard(RecycleProposal, recycling)
    pool_items = Standard(PoolItem)
    pool_rules = Standard(PoolRule)
    simulated_returns = Standard(SimulatedReturn)
    pool_claims = Standard(PoolClaim)
    merges = Standard(Merge, merges)
    transfers = Standard(Transfer, transfers)
    grading_rules = Standard(GradingRule, grading)
    account_grades = Standard(AccountGrade)
    tag_groups = Standard(TagGroup)
    account_plans = Standard(AccountPlan)
    transfer_items = Standard(TransferItem)

    async def AssignAccount(self, request: pb.AssignAccountRequest, call: Call) -> Account:
        account = await call.load(Account, request)
        await call.check_references(request, "", ["owner"])
        account.check_state("ACTIVE", "FROZEN", "POOLED")
        await ownership.give(account, request.owner, ownership.Change("ASSIGN"), call)
        return account

    async def ClaimAccount(self, request: Any, call: Call) -> Account:
        return await claims.claim(request.name, call)

    async def ReleaseAccount(self, request: pb.ReleaseAccountRequest, call: Call) -> Account:
        account = await call.load(Account, request)
        account.check_state("ACTIVE", "FROZEN")
        await call.check_references(request, "", ["pool"])
        pool = await call.load(Pool, request.pool, lock=False)
        pool.check_open()
        if account.owner and not pool.takes_from(account, call):
            raise FailedPrecondition("POOL_NOT_ALLOWED")
        answer = (
            pb.ReleaseAccountRequest.OpenBusiness.Name(request.open_business) if request.open_business else ""
        )
        deals = await open_deals(account, call)
        if deals and not answer:
            raise FailedPrecondition("OPEN_BUSINESS", count=deals)
        change = ownership.Change("RELEASE", reason=request.reason, open_business=answer or "KEEP")
        await ownership.put_into_pool(account, pool, change, call)
        return account

    async def ProtectAccount(self, request: pb.ProtectAccountRequest, call: Call) -> Account:
        account = await call.load(Account, request)
        account.check_state("ACTIVE", "FROZEN")
        account.protect(request.until_time.ToDatetime(UTC), request.reason, call)
        return account

    async def ListKeyAccountCandidates(
        self, request: pb.ListKeyAccountCandidatesRequest, call: Call
    ) -> pb.ListKeyAccountCandidatesResponse:
        return await key_accounts.candidates(request, call)

    async def ListMeetings(self, request: pb.ListMeetingsRequest, call: Call) -> pb.ListMeetingsResponse:
        return await key_accounts.meetings(await call.load(AccountPlan, request.name, lock=False), call)

    async def ListOwnerHistory(self, request: pb.ListOwnerHistoryRequest, call: Call) -> dict[str, Any]:
        account = await call.load(Account, request.name, lock=False)
        return {"changes": await ownership.history(account, call)}

    async def OpenPoolItem(self, request: Any, call: Call) -> pb.Account:
        item = await call.load(PoolItem, request, lock=False)
        pool = await call.load(Pool, item.pool, lock=False)
        return await claims.open_item(item, pool, call)

    async def TransferPoolItems(self, request: pb.TransferPoolItemsRequest, call: Call) -> Pool:
        pool = await _managed(request, call)
        target = await call.load(Pool, request.target, lock=False)
        target.check_open()
        for account in await emptying.waiting(pool, list(request.accounts), len(request.accounts), call):
            await ownership.put_into_pool(
                account, target, ownership.Change("POOL", reason=request.reason), call
            )
        return pool

    async def AssignPoolItems(self, request: pb.AssignPoolItemsRequest, call: Call) -> Pool:
        pool = await _managed(request, call)
        await call.check_references(request, "", ["employees"])
        people = list(dict.fromkeys(request.employees))
        wanted = len(people) * request.each if request.each else len(request.accounts) or emptying.AT_ONCE
        for n, account in enumerate(await emptying.waiting(pool, list(request.accounts), wanted, call)):
            change = ownership.Change("ASSIGN", pool=pool.name, reason=request.reason)
            await ownership.give(account, people[n % len(people)], change, call)
            await call.flush()
        return pool

    async def ClosePool(self, request: pb.ClosePoolRequest, call: Call) -> Pool:
        pool = await _managed(request, call)
        pool.check_open()
        await emptying.close(pool, request.target, call)
        return pool

    async def GetPoolQuota(self, request: pb.GetPoolQuotaRequest, call: Call) -> dict[str, Any]:
        return await claims.quota(await call.load(Pool, request.name, lock=False), call)

    async def SimulatePoolRule(self, request: pb.SimulatePoolRuleRequest, call: Call) -> PoolRule:
        rule = await call.load(PoolRule, request)
        rule.check_state("DRAFT", "SCHEDULED", "ACTIVE")
        await simulation.begin(rule, request.days, call)
        return rule

    async def ActivatePoolRule(self, request: pb.ActivatePoolRuleRequest, call: Call) -> PoolRule:
        rule = await call.load(PoolRule, request)
        at = request.effective_time.ToDatetime(UTC) if request.HasField("effective_time") else None
        await sea_jobs.activate(rule, at, call)
        return rule

    async def RollbackPoolRule(self, request: pb.RollbackPoolRuleRequest, call: Call) -> PoolRule:
        rule = await call.load(PoolRule, request, lock=False)
        old = await call.find(PoolRule, PoolRule.pool == rule.pool, PoolRule.revision == request.version)
        if old is None:
            raise NotFound()
        return await call.add(old.again())

    async def CopyAccount(self, request: pb.CopyAccountRequest, call: Call) -> Account:
        account = await call.load(Account, request, lock=False)
        return await call.add(account.copied(request.display_name))

    async def CheckAccountCollision(
        self, request: pb.CheckAccountCollisionRequest, call: Call
    ) -> dict[str, Any]:
        account = Account()
        names = ["display_name", "kind", "legal_name", "aliases", "tax_id", "phones", "emails", "website"]
        mapper(Account).assign(account, request.account, names, new=True, prefix="account")
        account.normalise()
        return {"hits": await collision.check(account, call)}

    async def ClaimCollision(self, request: pb.ClaimCollisionRequest, call: Call) -> Account:
        return await claims.claim(collision.read_token(request.token, call)["account"], call)

    async def RequestCollaboration(
        self, request: pb.RequestCollaborationRequest, call: Call
    ) -> DuplicateCase:
        return await disputes.request_collaboration(request, call)

    async def DisputeDuplicate(self, request: pb.DisputeDuplicateRequest, call: Call) -> DuplicateCase:
        return await disputes.dispute(request, call)

    async def BatchDecideDuplicateCases(
        self, request: pb.BatchDecideDuplicateCasesRequest, call: Call
    ) -> dict[str, Any]:
        return await scanning.decide_many(request, call)

    async def GetCollisionEvidence(
        self, request: pb.GetCollisionEvidenceRequest, call: Call
    ) -> pb.CollisionEvidence:
        return await disputes.evidence(await call.load(DuplicateCase, request.name, lock=False), call)

    async def GetAccountGrading(self, request: pb.GetAccountGradingRequest, call: Call) -> dict[str, Any]:
        return await grading.grading(await call.load(Account, request.name, lock=False), call)

    async def SetAccountLevel(self, request: pb.SetAccountLevelRequest, call: Call) -> Account:
        account = await call.load(Account, request)
        await grading.set_level(account, request, call)
        return account

    async def TagAccounts(self, request: pb.TagAccountsRequest, call: Call) -> dict[str, Any]:
        return await grading.tag(request, call)

    async def ListUnattendedAccounts(
        self, request: pb.ListUnattendedAccountsRequest, call: Call
    ) -> dict[str, Any]:
        return await transfers.unattended(request, call)

    async def GetAccountOverview(self, request: Any, call: Call) -> pb.AccountOverview:
        return await overview(await call.load(Account, request.name, lock=False), call)

    async def GetAccountLoyalty(self, request: Any, call: Call) -> pb.AccountLoyalty:
        return await loyalty(await call.load(Account, request.name, lock=False), call)

    async def GetAccountHierarchy(self, request: Any, call: Call) -> pb.AccountHierarchy:
        account = await call.load(Account, request.name, lock=False)
        return await hierarchy(account, read_date(request.date) or today(call), call)

    async def GetAccountOrgChart(self, request: Any, call: Call) -> pb.AccountOrgChart:
        return await org_chart(await call.load(Account, request.name, lock=False), call)

    async def RebuildTimeline(self, request: pb.RebuildTimelineRequest, call: Call) -> dict[str, Any]:
        return {"entries": await rebuild(request.account, call)}

    async def PinAccount(self, request: pb.PinAccountRequest, call: Call) -> Account:
        return await places.pin(await call.load(Account, request), request, call)

    async def GeocodeAccount(self, request: Any, call: Call) -> Account:
        return await places.locate(await call.load(Account, request), call)

    async def FindNearbyAccounts(
        self, request: pb.FindNearbyAccountsRequest, call: Call
    ) -> pb.FindNearbyAccountsResponse:
        return await places.nearby(request, call)

    async def GradeCreditProfile(self, request: pb.GradeCreditProfileRequest, call: Call) -> CreditProfile:
        profile = await call.load(CreditProfile, request)
        await profile.give_grade(request, call)
        return profile

    async def RaiseCreditProfile(self, request: pb.RaiseCreditProfileRequest, call: Call) -> CreditProfile:
        profile = await call.load(CreditProfile, request)
        await call.check_references(request, "", ["evidence"])
        await profile.raise_limit(request, call)
        return profile

    async def CheckCreditProfile(self, request: pb.CheckCreditProfileRequest, call: Call) -> CreditProfile:
        profile = await call.load(CreditProfile, request)
        await check_register(profile, request, call)
        return profile

    async def GetCreditCoverage(self, request: Any, call: Call) -> pb.CreditCoverage:
        return await coverage(call)

    async def GetAccountPersona(self, request: pb.GetAccountPersonaRequest, call: Call) -> pb.Persona:
        account = await call.load(Account, request.name, lock=False)
        return await persona(account, request.contact, call)

    async def LeaveContact(self, request: pb.LeaveContactRequest, call: Call) -> Contact:
        contact = await call.load(Contact, request)
        await call.check_references(request, "", ["account", "to_account"])
        contact.leave(request.account, read_date(request.date) or today(call), request.to_account, call)
        return contact

    async def ExportContactVcard(self, request: pb.ExportContactVcardRequest, call: Call) -> dict[str, Any]:
        return await card_of(request.name, request.version, call)

    async def ImportContactVcards(self, request: pb.ImportContactVcardsRequest, call: Call) -> dict[str, Any]:
        return await from_cards(request, call)

    async def EndAccountRelation(self, request: pb.EndAccountRelationRequest, call: Call) -> AccountRelation:
        relation = await call.load(AccountRelation, request)
        relation.end(read_date(request.date) or today(call), call)
        return relation

    async def ForwardInteraction(self, request: pb.ForwardInteractionRequest, call: Call) -> Interaction:
        interaction = await call.load(Interaction, request)
        await call.check_references(request, "", ["departments"])
        interaction.forward(list(request.departments), pb.Interaction.ForwardKind.Name(request.kind), call)
        return interaction


async def _managed(request: Any, call: Call) -> Pool:
    """The pool of a request, for one of its managers."""
    pool = await call.load(Pool, request)
    if not pool.managed_by(call.caller):
        raise FailedPrecondition("NOT_POOL_MANAGER")
    return pool
