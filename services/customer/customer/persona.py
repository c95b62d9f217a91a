"""The portrait of a customer: what was said, seen and concluded, the strongest first."""

from collections import defaultdict
from datetime import UTC, datetime, time, timedelta
from typing import Any

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.errors import NotFound
from crmkit.mapping import to_timestamp
from crmkit.scope import predicate
from sqlalchemy import select

from customer.model.account import Account
from customer.model.consent import profiling_allowed
from customer.model.contact import Contact
from customer.model.figure import Figure
from customer.model.interaction import Interaction
from customer.model.trait import Trait
from customer.overview import openable

FADES = timedelta(days=180)
FEW = 3
_ORDER = ("DECLARED", "OBSERVED", "INFERRED")
SENSITIVE = "customer.contacts.read_sensitive"


async def persona(account: Account, contact_name: str, call: Call) -> pb.Persona:
    """The portrait of the account, or of one of its people, from what the caller may see."""
    contact = await call.load(Contact, contact_name, lock=False) if contact_name else None
    if contact is not None and contact.account != account.name:
        raise NotFound()
    person = contact is not None or account.kind == "INDIVIDUAL"
    answer = pb.Persona(
        profiling_allowed=not person or await profiling_allowed(contact_name or account.name, call)
    )
    statement = select(Trait).where(
        Trait.account == account.name, Trait.contact == contact_name, predicate(Trait, call.caller)
    )
    lines = [_line(trait, call) for trait in await call.db.scalars(statement)]
    lines += _declared(contact or account, call)
    lines += await _observed(account, contact_name, call)
    by_key: dict[str, list[Any]] = defaultdict(list)
    for line in lines:
        inferred = pb.Trait.Origin.Name(line.origin) == "INFERRED"
        if answer.profiling_allowed or not inferred:
            by_key[line.key].append(line)
    for key in sorted(by_key):
        best, *others = sorted(by_key[key], key=_strength)
        best.contradictions.extend(each for each in others if each.value != best.value and not each.faded)
        answer.lines.append(best)
    return answer


def _strength(line: Any) -> tuple[bool, int, float]:
    return line.faded, _ORDER.index(pb.Trait.Origin.Name(line.origin)), -line.time.seconds


def _line(trait: Trait, call: Call) -> Any:
    assert trait.time is not None
    return pb.Persona.Line(
        key=trait.key, value=trait.value, origin=trait.origin or None, time=to_timestamp(trait.time),
        evidence=trait.evidence, trait=trait.name,
        faded=trait.origin == "INFERRED" and call.now - trait.time > FADES,
    )  # fmt: skip


def _declared(record: Any, call: Call) -> list[Any]:
    """What the record itself says of preferences, needs and background."""
    if isinstance(record, Contact) and not call.caller.may(SENSITIVE):
        return []
    names = (
        ("preferences", "hobbies", "worries")
        if isinstance(record, Contact)
        else ("preferences", "needs", "background", "hobbies")
    )
    evidence = [pb.Trait.Evidence(ref=record.name)]
    moment = to_timestamp(record.update_time)
    return [
        pb.Persona.Line(
            key=name, value=getattr(record, name), origin="DECLARED", time=moment, evidence=evidence
        )
        for name in names
        if getattr(record, name)
    ]


async def _observed(account: Account, contact: str, call: Call) -> list[Any]:
    """Habits that the records show: the usual channel, and how often something is ordered."""
    spoken = select(Interaction.id, Interaction.channel, Interaction.start_time).where(
        Interaction.account == account.name, predicate(Interaction, call.caller)
    )
    if contact:
        spoken = spoken.where(Interaction.contacts.contains([contact]))
    rows = (await call.db.execute(spoken.order_by(Interaction.start_time.desc()).limit(100))).all()
    by_channel: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_channel[row[1]].append(row)
    found: list[Any] = []
    usual = max(by_channel, key=lambda channel: len(by_channel[channel]), default="")
    if usual and len(by_channel[usual]) >= FEW and 2 * len(by_channel[usual]) > len(rows):
        evidence = [pb.Trait.Evidence(ref=f"interactions/{row[0]}") for row in by_channel[usual][:10]]
        moment = to_timestamp(by_channel[usual][0][2])
        found.append(
            pb.Persona.Line(key="channel", value=usual, origin="OBSERVED", time=moment, evidence=evidence)
        )
    if contact:
        return found
    ordered = select(Figure.day, Figure.source).where(
        Figure.account == account.name, Figure.collection == "orders", Figure.state == "COMPLETED", openable(call.caller),
    )  # fmt: skip
    found_orders = await call.db.execute(ordered.order_by(Figure.day, Figure.source))
    orders = [(day, source) for day, source in found_orders if day is not None]
    days = [day for day, _ in orders]
    if len(days) >= FEW:
        between = round((days[-1] - days[0]).days / (len(days) - 1))
        evidence = [pb.Trait.Evidence(ref=source) for _, source in orders[-10:]]
        moment = to_timestamp(datetime.combine(days[-1], time(), UTC))
        found.append(
            pb.Persona.Line(
                key="orderEveryDays", value=str(between), origin="OBSERVED", time=moment, evidence=evidence
            )
        )
    return found
