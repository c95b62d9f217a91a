"""Implements crm.customer.v1.CustomerService."""

from typing import Any

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.mapping import mapper, read_date
from crmkit.scope import predicate
from crmkit.standard import Standard
from sqlalchemy import select

from customer import places
from customer.collision import find_hits
from customer.contacts import card_of, from_cards
from customer.credit import check_register, coverage
from customer.hierarchy import hierarchy
from customer.model.account import Account
from customer.model.care import CareOccurrence, CarePlan
from customer.model.consent import Consent
from customer.model.contact import Contact
from customer.model.credit import CreditProfile
from customer.model.importation import Import
from customer.model.interaction import Interaction
from customer.model.profile_change import ProfileChange
from customer.model.relation import AccountRelation
from customer.model.timeline import TimelineEntry
from customer.orgchart import org_chart
from customer.overview import overview
from customer.timeline import rebuild

MASKED_HITS = 5


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
    care_plans = Standard(CarePlan)
    care_occurrences = Standard(CareOccurrence)

    async def AssignAccount(self, request: pb.AssignAccountRequest, call: Call) -> Account:
        account = await call.load(Account, request)
        await call.check_references(request, "", ["owner"])
        account.assign(request.owner, call)
        return account

    async def CopyAccount(self, request: pb.CopyAccountRequest, call: Call) -> Account:
        account = await call.load(Account, request, lock=False)
        return await call.add(account.copied(request.display_name))

    async def ArchiveAccount(self, request: Any, call: Call) -> Account:
        account = await call.load(Account, request)
        account.archive()
        return account

    async def UnarchiveAccount(self, request: Any, call: Call) -> Account:
        account = await call.load(Account, request)
        account.unarchive()
        return account

    async def CheckAccountCollision(
        self, request: pb.CheckAccountCollisionRequest, call: Call
    ) -> dict[str, Any]:
        account = Account()
        names = ["display_name", "kind", "legal_name", "aliases", "tax_id", "phones", "emails", "website"]
        mapper(Account).assign(account, request.account, names, new=True, prefix="account")
        account.normalise()
        hits = (await find_hits(account, account.identity(), call))[:MASKED_HITS]
        ids = [hit.account.id for hit in hits]
        visible = set(
            await call.db.scalars(
                select(Account.id).where(Account.id.in_(ids), predicate(Account, call.caller))
            )
        )
        answer = []
        for hit in hits:
            masked = pb.CollisionHit(
                level=hit.match.level.value,
                matched_by=sorted(hit.match.kinds),
                department=hit.account.department,
            )
            if hit.account.id in visible:
                masked.account, masked.display_name = hit.account.name, hit.account.display_name
            answer.append(masked)
        return {"hits": answer}

    async def GetAccountOverview(self, request: Any, call: Call) -> pb.AccountOverview:
        return await overview(await call.load(Account, request.name, lock=False), call)

    async def GetAccountHierarchy(self, request: Any, call: Call) -> pb.AccountHierarchy:
        account = await call.load(Account, request.name, lock=False)
        return await hierarchy(account, read_date(request.date) or call.now.date(), call)

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

    async def ApplyProfileChange(self, request: Any, call: Call) -> ProfileChange:
        change = await call.load(ProfileChange, request)
        await change.apply(call)
        return change

    async def RejectProfileChange(self, request: pb.RejectProfileChangeRequest, call: Call) -> ProfileChange:
        change = await call.load(ProfileChange, request)
        change.reject(request.reason, call)
        return change

    async def ConfirmProfileChange(
        self, request: pb.ConfirmProfileChangeRequest, call: Call
    ) -> ProfileChange:
        change = await call.load(ProfileChange, request)
        await change.confirm(request.address, request.code, call)
        return change

    async def ResendProfileChange(self, request: Any, call: Call) -> ProfileChange:
        change = await call.load(ProfileChange, request)
        change.resend(call)
        return change

    async def GradeCreditProfile(self, request: pb.GradeCreditProfileRequest, call: Call) -> CreditProfile:
        profile = await call.load(CreditProfile, request)
        await profile.give_grade(request, call)
        return profile

    async def RaiseCreditProfile(self, request: pb.RaiseCreditProfileRequest, call: Call) -> CreditProfile:
        profile = await call.load(CreditProfile, request)
        await call.check_references(request, "", ["evidence"])
        await profile.raise_limit(request, call)
        return profile

    async def HoldCreditProfile(self, request: pb.HoldCreditProfileRequest, call: Call) -> CreditProfile:
        profile = await call.load(CreditProfile, request)
        profile.hold(request.reason, call)
        return profile

    async def ReleaseCreditProfile(self, request: Any, call: Call) -> CreditProfile:
        profile = await call.load(CreditProfile, request)
        profile.release(call)
        return profile

    async def CheckCreditProfile(self, request: pb.CheckCreditProfileRequest, call: Call) -> CreditProfile:
        profile = await call.load(CreditProfile, request)
        await check_register(profile, request, call)
        return profile

    async def GetCreditCoverage(self, request: Any, call: Call) -> pb.CreditCoverage:
        return await coverage(call)

    async def ActivateCarePlan(self, request: Any, call: Call) -> CarePlan:
        plan = await call.load(CarePlan, request)
        await plan.activate(call)
        return plan

    async def PauseCarePlan(self, request: Any, call: Call) -> CarePlan:
        plan = await call.load(CarePlan, request)
        plan.pause()
        return plan

    async def EndCarePlan(self, request: Any, call: Call) -> CarePlan:
        plan = await call.load(CarePlan, request)
        plan.end()
        return plan

    async def CompleteCareOccurrence(
        self, request: pb.CompleteCareOccurrenceRequest, call: Call
    ) -> CareOccurrence:
        occurrence = await call.load(CareOccurrence, request)
        occurrence.complete(request.result, request.satisfaction)
        return occurrence

    async def SkipCareOccurrence(self, request: pb.SkipCareOccurrenceRequest, call: Call) -> CareOccurrence:
        occurrence = await call.load(CareOccurrence, request)
        occurrence.skip(request.reason)
        return occurrence

    async def LeaveContact(self, request: pb.LeaveContactRequest, call: Call) -> Contact:
        contact = await call.load(Contact, request)
        await call.check_references(request, "", ["account", "to_account"])
        contact.leave(request.account, read_date(request.date) or call.now.date(), request.to_account, call)
        return contact

    async def ExportContactVcard(self, request: pb.ExportContactVcardRequest, call: Call) -> dict[str, Any]:
        return await card_of(request.name, request.version, call)

    async def ImportContactVcards(self, request: pb.ImportContactVcardsRequest, call: Call) -> dict[str, Any]:
        return await from_cards(request, call)

    async def EndAccountRelation(self, request: pb.EndAccountRelationRequest, call: Call) -> AccountRelation:
        relation = await call.load(AccountRelation, request)
        relation.end(read_date(request.date) or call.now.date(), call)
        return relation

    async def AmendInteraction(self, request: pb.AmendInteractionRequest, call: Call) -> Interaction:
        interaction = await call.load(Interaction, request)
        interaction.amend(request.text, call)
        return interaction

    async def ForwardInteraction(self, request: pb.ForwardInteractionRequest, call: Call) -> Interaction:
        interaction = await call.load(Interaction, request)
        await call.check_references(request, "", ["departments"])
        interaction.forward(list(request.departments), pb.Interaction.ForwardKind.Name(request.kind), call)
        return interaction

    async def CommentInteraction(self, request: pb.CommentInteractionRequest, call: Call) -> Interaction:
        interaction = await call.load(Interaction, request)
        interaction.comment(request.text, call)
        return interaction

    async def CheckImport(self, request: Any, call: Call) -> Import:
        found = await call.load(Import, request)
        await found.check(call)
        return found

    async def RunImport(self, request: pb.RunImportRequest, call: Call) -> Import:
        found = await call.load(Import, request)
        await found.run(request.skip_errors, call)
        return found

    async def PauseImport(self, request: Any, call: Call) -> Import:
        found = await call.load(Import, request)
        await found.pause(call)
        return found

    async def ResumeImport(self, request: Any, call: Call) -> Import:
        found = await call.load(Import, request)
        await found.resume(call)
        return found

    async def RevertImport(self, request: Any, call: Call) -> Import:
        found = await call.load(Import, request)
        await found.revert(call)
        return found
