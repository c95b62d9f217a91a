"""The people of an account: reporting lines, parts in a decision, and how well we know them."""

from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.errors import PermissionDenied
from crmkit.mapping import read_date, to_date, to_timestamp
from crmkit.scope import predicate
from sqlalchemy import func, or_, select

from customer.model.account import Account
from customer.model.contact import Contact, at_account
from customer.model.interaction import Interaction

COVERED = timedelta(days=90)
KEY_ROLES = ("DECIDER", "INFLUENCER")
SENSITIVE = "customer.contacts.read_sensitive"
MOST = 1000


async def org_chart(account: Account, call: Call) -> pb.AccountOrgChart:
    """The chart of those contacts that the caller sees. What we think of people is not for themselves to read."""
    if call.caller.account:
        raise PermissionDenied("PERMISSION_DENIED", permission="customer.contacts.read")
    statement = (
        select(Contact)
        .where(
            or_(Contact.account == account.name, at_account(account.name)),
            Contact.state.in_(["ACTIVE", "LEFT"]),
            predicate(Contact, call.caller),
        )
        .order_by(Contact.display_name, Contact.id)
        .limit(MOST)
    )
    contacts = {contact.name: contact for contact in await call.db.scalars(statement)}
    spoken = await _spoken(account.name, call)
    chart = pb.AccountOrgChart()
    people: dict[str, Any] = {}
    for name, contact in contacts.items():
        last = spoken.get(name)
        person = people[name] = _person(contact, account.name, last, call)
        person.covered = last is not None and call.now - last <= COVERED
        if contact.reports_to in contacts:
            person.reports_to = contact.reports_to
    chart.people.extend(_superiors_first(people))
    key = [
        p
        for p in people.values()
        if not p.left and pb.Contact.DecisionRole.Name(p.decision_role) in KEY_ROLES
    ]
    chart.key_people, chart.covered_people = len(key), sum(p.covered for p in key)
    if key:
        share = Decimal(100 * chart.covered_people) / len(key)
        chart.coverage_percent = str(share.quantize(Decimal("0.1"), ROUND_HALF_UP))
    chart.gaps.extend(_gaps(key))
    return chart


def _person(contact: Contact, account: str, last: datetime | None, call: Call) -> Any:
    at = [a for a in contact.affiliations if a.account == account]
    current = next((a for a in at if not read_date(a.to_date)), None)
    latest = current or (at[-1] if at else None)
    person = pb.AccountOrgChart.Person(
        contact=contact.name, display_name=contact.display_name, counterpart=contact.counterpart,
        decision_role=contact.decision_role or None, left=current is None or contact.state == "LEFT",
        title=(latest.title if latest else "") or (contact.title if contact.account == account else ""),
        department=latest.department if latest else "", etag=contact.etag,
    )  # fmt: skip
    if person.left and latest is not None and (day := read_date(latest.to_date)):
        person.left_date.CopyFrom(to_date(day))
    if last is not None:
        person.last_interaction_time.CopyFrom(to_timestamp(last))
    if call.caller.may(SENSITIVE):
        person.attitude, person.worries, person.preferences = (
            contact.attitude,
            contact.worries,
            contact.preferences,
        )
    return person


async def _spoken(account: str, call: Call) -> dict[str, datetime]:
    """When somebody of ours last spoke with each person, by the interactions that the caller sees."""
    one = func.unnest(Interaction.contacts).label("contact")
    moments = (
        select(one, Interaction.start_time)
        .where(Interaction.account == account, predicate(Interaction, call.caller))
        .subquery()
    )
    found = await call.db.execute(
        select(moments.c.contact, func.max(moments.c.start_time)).group_by(moments.c.contact)
    )
    return {row[0]: row[1] for row in found}


def _superiors_first(people: dict[str, Any]) -> list[Any]:
    below: dict[str, list[str]] = {}
    for name, person in people.items():
        below.setdefault(person.reports_to, []).append(name)
    ordered, waiting = list[Any](), list(below.get("", []))
    while waiting:
        name = waiting.pop(0)
        ordered.append(people[name])
        waiting += below.get(name, [])
    return ordered


def _gaps(key: list[Any]) -> list[Any]:
    found: list[Any] = []
    for role, kind in (("DECIDER", "NO_DECIDER"), ("INFLUENCER", "NO_INFLUENCER")):
        if not any(pb.Contact.DecisionRole.Name(person.decision_role) == role for person in key):
            found.append(pb.AccountOrgChart.Gap(kind=kind))
    for person in key:
        if not person.counterpart:
            found.append(pb.AccountOrgChart.Gap(kind="NO_COUNTERPART", contact=person.contact))
        if not person.covered:
            found.append(pb.AccountOrgChart.Gap(kind="NOT_COVERED", contact=person.contact))
    return found
