"""What workspace tells all services by the configuration bucket: it is the bucket's only writer.

Every change publishes what it concerns, read from the tables and not from the fact, so that late and doubled facts
do no harm. A reconciliation compares bucket and tables and mends what differs.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

from crm.workspace.v1 import pb
from crmkit.amounts import plain
from crmkit.call import Call
from crmkit.company import today
from crmkit.resource import Resource, parse_name
from sqlalchemy import ColumnElement, Text, cast, select, true

from workspace.model.api_key import ApiKey
from workspace.model.currency_rate import CurrencyRate
from workspace.model.custom_field import CustomField
from workspace.model.department import Department
from workspace.model.dictionary import Dictionary, validity
from workspace.model.employee import Employee
from workspace.model.number_rule import NumberRule
from workspace.model.partner import Partner, rests
from workspace.model.policy import ApprovalPolicy
from workspace.model.role import Role, level
from workspace.model.session import Session

# Longer than the gateway keeps any session.
REMEMBERED = timedelta(hours=11)

Value = Callable[[Sequence[Any], Call], Awaitable[dict[str, Any] | None]]


@dataclass(frozen=True)
class Family:
    """Entries made of the rows that share one attribute; None where there is nothing to tell."""

    prefix: str
    model: type[Resource]
    group: str
    value: Value
    # Which rows can have an entry at all, where that is few of them.
    which: Callable[[Call], Any] = lambda call: true()

    def key(self, group: Any) -> str:
        """The entry's key."""
        return f"{self.prefix}{group}"

    async def publish(self, group: Any, call: Call) -> None:
        """Puts the entry as the tables have it now, or takes it out."""
        column: Any = getattr(self.model, self.group)
        # What this call has read before may be of before the change that somebody else has told already.
        fresh = select(self.model).where(column == group).execution_options(populate_existing=True)

        async def read() -> dict[str, Any] | None:
            async with call.everybody():
                rows = list(await call.db.scalars(fresh))
            return await self.value(rows, call) if rows else None

        await call.running.config.revise(self.key(group), read)


async def publish_changed(
    name: str, resource: dict[str, Any], call: Call, before: Mapping[str, Any] | None = None
) -> None:
    """Publishes what a changed record concerns; `resource` is the record as the fact told it, `before` what it changed."""
    collection = name.partition("/")[0]
    for family in FAMILIES:
        if family.model.described.collection == collection:
            group = parse_name(name, collection) if family.group == "id" else resource[_json(family)]
            await family.publish(group, call)
    if collection == "roles":
        # Whoever has the role by position, and whoever had it.
        positions = [*resource.get("positions", []), *(before or {}).get("positions", [])]
        holders = select(Employee.id).where(Employee.position.in_(positions))
        for key in list(await call.db.scalars(holders)) if positions else ():
            await _EMPLOYEE.publish(key, call)
    if collection == "employees":
        # The keys of who has lost access work no more.
        await _publish_keys(ApiKey.owner == name, call)
    if collection == "partners":
        # Its people and its keys come in as long as it does not rest.
        account = resource["account"]
        for person in list(await call.db.scalars(select(Employee.id).where(Employee.account == account))):
            await _EMPLOYEE.publish(person, call)
        await _publish_keys(ApiKey.account == account, call)


async def reconcile(call: Call) -> int:
    """Mends every entry that differs from the tables; returns how many there were."""
    wanted: dict[str, tuple[Family, Any]] = {}
    different = 0
    for family in FAMILIES:
        column: Any = getattr(family.model, family.group)
        groups: dict[Any, list[Any]] = {}
        for row in await call.db.scalars(select(family.model).where(family.which(call)).order_by(column)):
            groups.setdefault(getattr(row, family.group), []).append(row)
        for group, rows in groups.items():
            value = await family.value(rows, call)
            if value is not None:
                wanted[family.key(group)] = (family, group)
            if value != call.config(family.key(group)):
                await family.publish(group, call)
                different += 1
    for prefix in {family.prefix for family in FAMILIES}:
        for rest in call.running.config.prefix(prefix):
            if prefix + rest not in wanted and await _forgotten(prefix, rest, call):
                await call.running.config.delete(prefix + rest)
                different += 1
    return different


async def _forgotten(prefix: str, rest: str, call: Call) -> bool:
    """Asks the tables again: whoever was hired since they were read is published and must not be taken out."""
    for family in FAMILIES:
        column: Any = getattr(family.model, family.group)
        rows = select(family.model).where(cast(column, Text) == rest)
        if family.prefix == prefix and (found := list(await call.db.scalars(rows))):
            return await family.value(found, call) is None
    return True


async def people_told(call: Call) -> str:
    """Why workspace is not ready: whom the services do not know yet, they refuse."""
    for prefix, key, model in (("role.", Role.code, Role), ("employee.", Employee.id, Employee)):
        told = call.running.config.prefix(prefix)
        for stored in await call.db.scalars(select(key).where(model.state == "ACTIVE")):
            if str(stored) not in told:
                return f"the services do not know {prefix}{stored} yet"
    return ""


async def _role(rows: Sequence[Role], call: Call) -> dict[str, Any] | None:
    role = rows[0]
    if role.state != "ACTIVE":
        return None
    label = {"zh": role.display_name, "en": role.english_name or role.display_name}
    grants = [
        {
            "collection": grant.collection,
            "action": pb.Role.Action.Name(grant.action) if grant.action else "",
            "level": level(grant),
            "departments": list(grant.departments),
            "rule": grant.rule,
        }
        for grant in role.grants
    ]
    entry: dict[str, Any] = {"permissions": list(role.permissions), "scope": role.scope, "label": label}
    if role.portal:
        entry["portal"] = True
    if role.second_factor:
        entry["secondFactor"] = True
    if role.ip_ranges:
        entry["networks"] = list(role.ip_ranges)
    if role.fields:
        entry["fields"] = [
            {
                "collection": taken.collection,
                "field": taken.field,
                "level": pb.Role.FieldLevel.Name(taken.level),
            }
            for taken in role.fields
        ]
    return {**entry, "grants": grants} if grants else entry


async def _department(rows: Sequence[Department], call: Call) -> dict[str, Any]:
    department = rows[0]
    return {
        "parent": department.parent or None,
        "displayName": department.display_name,
        "kind": department.kind,
        "legalEntity": department.legal_entity,
        "code": department.code,
    }


async def _employee(rows: Sequence[Employee], call: Call) -> dict[str, Any]:
    employee = rows[0]
    frozen = employee.state == "FROZEN" or await rests(employee.account, call)
    return {
        "department": employee.department,
        "departments": list(employee.posts),
        "disabled": frozen or employee.state != "ACTIVE",
        **({"frozen": True} if frozen else {}),
        **({"emergency": True} if employee.emergency else {}),
        "roles": await _roles_of(employee, call),
        "displayName": employee.display_name,
        "superior": employee.superior or None,
        "locale": employee.locale,
        **({"account": employee.account} if employee.account else {}),
        **({"signedOut": employee.sessions_end_time.timestamp()} if employee.sessions_end_time else {}),
    }


async def _roles_of(employee: Employee, call: Call) -> list[str]:
    """What was given and counts now, and what the position brings, less the roles that want a certificate.

    The reconciliation keeps periods, and the last days of certificates.
    """
    held = employee.held(call.now)
    if employee.position:
        brought = select(Role.code).where(
            Role.state == "ACTIVE", Role.positions.contains([employee.position])
        )
        held += list(await call.db.scalars(brought.order_by(Role.code)))
    wanting = select(Role.code, Role.requires_certificate).where(
        Role.code.in_(held), Role.requires_certificate != ""
    )
    resting = {
        code for code, item in await call.db.execute(wanting) if not employee.certified(item, today(call))
    }
    return [code for code in dict.fromkeys(held) if code not in resting]


async def _dictionary(rows: Sequence[Dictionary], call: Call) -> dict[str, Any] | None:
    dictionary = rows[0]
    entries = [
        {
            "key": entry.key,
            "label": {"zh": entry.label.zh or entry.label.en, "en": entry.label.en or entry.label.zh},
            "parent": entry.parent,
            "retired": entry.retired,
            "default": entry.default,
            "colour": entry.colour,
            "externalCode": entry.external_code,
            **({"value": entry.value} if entry.value else {}),
            **({"departments": list(entry.departments)} if entry.departments else {}),
            **({"mergedInto": entry.merged_into} if entry.merged_into else {}),
            **{key: day.isoformat() for key, day in validity(entry).items() if day},
        }
        for entry in dictionary.entries
        if entry.published
    ]
    label = {"zh": dictionary.display_name, "en": dictionary.english_name or dictionary.display_name}
    return {"label": label, "entries": entries} if dictionary.publish_time else None


async def _rates(rows: Sequence[CurrencyRate], call: Call) -> dict[str, Any] | None:
    """The rates of a pair, each with the day from which it counts, the oldest first."""
    return {"rates": sorted([str(row.rate_date), plain(row.rate or Decimal(0))] for row in rows)}


async def _number_rule(rows: Sequence[NumberRule], call: Call) -> dict[str, Any] | None:
    """The rule of all records, and before it those of some, in their order."""
    active = sorted((rule for rule in rows if rule.state == "ACTIVE"), key=lambda rule: rule.priority)
    told = [
        {
            "pattern": rule.pattern, "gapFree": rule.gap_free, "reset": rule.reset, "start": rule.start,
            "timeZone": rule.time_zone, "condition": rule.condition, "assignOn": rule.assign_on,
        }
        for rule in active
    ]  # fmt: skip
    of_all = next((rule for rule in told if not rule["condition"]), {})
    return {**of_all, "rules": [rule for rule in told if rule["condition"]]} if told else None


async def _custom_fields(rows: Sequence[CustomField], call: Call) -> dict[str, Any] | None:
    fields = [
        {**field.told(), "default": field.default(call)}
        for field in sorted(rows, key=lambda field: (field.position, field.id))
        if field.state not in {"DRAFT", "PURGED"}
    ]
    return {"fields": fields} if fields else None


async def _policy(rows: Sequence[ApprovalPolicy], call: Call) -> dict[str, Any] | None:
    policy = rows[0]
    if policy.state != "ACTIVE":
        return None
    return policy.entry()


async def _session(rows: Sequence[Session], call: Call) -> dict[str, Any] | None:
    """Why a session counts no more, as long as a browser may still come with it."""
    session = rows[0]
    lately = session.end_time is not None and session.end_time > call.now - REMEMBERED
    return {"reason": session.end_reason} if session.state == "ENDED" and lately else None


async def _key(rows: Sequence[ApiKey], call: Call) -> dict[str, Any]:
    """What the gateway checks a key against, under the id in the key itself."""
    key = rows[0]
    return {
        **await _key_by_name(rows, call),
        "name": key.name,
        "hash": key.secret_hash,
        "permissions": list(key.permissions),
        "scope": key.scope,
        "account": key.account,
        "expires": key.expire_time.astimezone(UTC).isoformat() if key.expire_time else "",
        "cidrs": list(key.cidrs),
        "rate": key.rate,
    }


async def _key_by_name(rows: Sequence[ApiKey], call: Call) -> dict[str, Any]:
    """What services look up by the name in the gateway's token."""
    key = rows[0]
    active = not await rests(key.account, call)
    if key.owner and active:
        # From the table: the entry of an owner who has just lost access may still be on its way.
        owner = await call.named(Employee, key.owner)
        active = owner is not None and owner.state == "ACTIVE"
    # What the owner's roles take from fields and rows binds the key too, as it is at each call.
    return {
        "owner": key.owner,
        "department": key.department,
        "disabled": key.state != "ACTIVE" or not active,
    }


async def _publish_keys(which: ColumnElement[bool], call: Call) -> None:
    for key, in_key in list(await call.db.execute(select(ApiKey.id, ApiKey.key_id).where(which))):
        await _KEY_BY_NAME.publish(key, call)
        await _KEY_BY_ID.publish(in_key, call)


def _json(family: Family) -> str:
    return family.model.described.fields[family.group].json_name


_KEY_BY_ID = Family("apiKey.", ApiKey, "key_id", _key)
_KEY_BY_NAME = Family("apiKey.", ApiKey, "id", _key_by_name)
_EMPLOYEE = Family("employee.", Employee, "id", _employee)
FAMILIES = (
    Family("role.", Role, "code", _role),
    Family("department.", Department, "id", _department),
    _EMPLOYEE,
    Family("dictionary.", Dictionary, "key", _dictionary),
    Family("currencyRate.", CurrencyRate, "pair", _rates),
    Family("numberRule.", NumberRule, "collection", _number_rule),
    Family("customField.", CustomField, "collection", _custom_fields),
    Family("approvalPolicy.", ApprovalPolicy, "id", _policy),
    _KEY_BY_ID,
    _KEY_BY_NAME,
    Family(
        "session.", Session, "id", _session,
        lambda call: (Session.state == "ENDED") & (Session.end_time > call.now - REMEMBERED),
    ),
)  # fmt: skip
COLLECTIONS = frozenset(
    [*(family.model.described.collection for family in FAMILIES), Partner.described.collection]
)
