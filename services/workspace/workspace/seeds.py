"""What a new database begins with: the shipped roles and dictionaries and, where one is named, a company.

Nobody has any permission before the roles are published; so seeding is the first thing that a start does, and what
it adds is published like every other change.
"""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import yaml
from crm.options.v1 import options_pb2 as options
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.mapping import mapper
from google.protobuf import json_format
from sqlalchemy import select

from workspace.divisions import divisions
from workspace.model.department import Department
from workspace.model.dictionary import Dictionary
from workspace.model.employee import Employee
from workspace.model.policy import ApprovalPolicy
from workspace.model.role import Role
from workspace.model.usage import UsageRule
from workspace.permissions import shipped

DATA = Path(__file__).parent
# The role that nobody may edit away.
FIXED = ("administrator",)
# The dictionary of the national divisions.
REGIONS = "regions"
# Shipped policies keep their ids, whatever they are called later.
POLICIES = UUID("6f0d3f1e-6d0e-5a43-9d0b-0d8a4a8a2c55")


async def seed(call: Call) -> None:
    """Adds what is missing; two processes that start at once do it once."""
    await call.one_at_a_time(["seed"])
    await _roles(call)
    await _dictionaries(call)
    await _policies(call)
    await _usage_rules(call)
    if path := call.running.settings.seed_company:
        await _company(yaml.safe_load(path.read_text()), call)


async def _roles(call: Call) -> None:
    known = {role.code: role for role in await call.db.scalars(select(Role))}
    for code, role in shipped().items():
        if code not in known:
            await call.add(
                Role(
                    code=code,
                    display_name=role["label"]["zh"],
                    english_name=role["label"]["en"],
                    permissions=role["permissions"],
                    scope=role["scope"],
                    grants=[
                        json_format.ParseDict(grant, pb.Role.Grant()) for grant in role.get("grants", [])
                    ],
                    kind="SYSTEM" if code in FIXED else "USER",
                    portal=role.get("portal", False),
                )
            )
        elif code in FIXED and known[code].permissions != role["permissions"]:
            known[code].permissions = role["permissions"]
    await call.flush()


async def _dictionaries(call: Call) -> None:
    shipped: dict[str, Any] = yaml.safe_load((DATA / "dictionaries.yaml").read_text())
    known = set(await call.db.scalars(select(Dictionary.key)))
    for key, dictionary in shipped.items():
        if key in known:
            continue
        entries = [
            pb.Dictionary.Entry(
                key=entry,
                label=options.Text(zh=zh, en=en),
                parent=parent,
                system=entry in dictionary.get("system", ()),
            )
            for entry, (zh, en, parent) in _with_parents(dictionary["entries"])
        ]
        zh, en = dictionary["label"]
        row = Dictionary(key=key, display_name=zh, english_name=en, kind="SYSTEM", entries=entries)
        row.publish(call)
        await call.add(row)
    if REGIONS not in known:
        entries = list(divisions())
        row = Dictionary(
            key=REGIONS,
            display_name="行政区划",
            english_name="Administrative divisions",
            kind="SYSTEM",
            entries=entries,
        )
        row.publish(call)
        await call.add(row)
    await call.flush()


async def _policies(call: Call) -> None:
    """Policies that come with the platform, in force or as drafts to be switched on."""
    shipped: dict[str, Any] = yaml.safe_load((DATA / "policies.yaml").read_text())
    known = set(await call.db.scalars(select(ApprovalPolicy.id)))
    for key, policy in shipped.items():
        identity, active = uuid5(POLICIES, key), policy.pop("active")
        if identity in known:
            continue
        message = json_format.ParseDict(policy, pb.ApprovalPolicy())
        row = ApprovalPolicy(id=identity)
        mapper(ApprovalPolicy).assign(
            row, message, list(policy_fields(message)), new=True, prefix="approval_policy"
        )
        await call.add(row)
        await call.flush()
        if active:
            await row.keep_edition(call)
            row.state = "ACTIVE"
    await call.flush()


async def _usage_rules(call: Call) -> None:
    """Rules of use that come with the platform, as drafts."""
    shipped: dict[str, Any] = yaml.safe_load((DATA / "usage_rules.yaml").read_text())
    known = set(await call.db.scalars(select(UsageRule.id)))
    for key, rule in shipped.items():
        identity = uuid5(POLICIES, f"usage/{key}")
        if identity not in known:
            message, row = json_format.ParseDict(rule, pb.UsageRule()), UsageRule(id=identity)
            mapper(UsageRule).assign(
                row, message, list(policy_fields(message)), new=True, prefix="usage_rule"
            )
            await call.add(row)
    await call.flush()


def policy_fields(message: Any) -> list[str]:
    """The fields that a shipped policy says."""
    return [field.name for field, _ in message.ListFields()]


def _with_parents(entries: dict[str, list[str]]) -> list[tuple[str, tuple[str, str, str]]]:
    """Key, words and the entry above, which comes third where there is one."""
    return [(key, (said[0], said[1], said[2] if len(said) > 2 else "")) for key, said in entries.items()]


async def _company(document: dict[str, Any], call: Call) -> None:
    """Departments and people with the ids of the file; a database that has departments is left alone."""
    if await call.db.scalar(select(Department.id).limit(1)):
        return
    departments: dict[str, str] = {}
    for entry in document["departments"]:
        department = Department(
            id=UUID(entry["id"]),
            display_name=entry["name"]["zh"],
            english_name=entry["name"]["en"],
            code=entry["code"],
            kind=entry["kind"],
            legal_entity=entry["kind"] == "COMPANY",
            parent=departments.get(entry["parent"] or "", ""),
        )
        await call.add(department)
        await call.flush()
        departments[entry["code"]] = department.name
    people = [entry for entry in document["people"] if entry.get("employee")]
    names = {entry["username"]: f"employees/{entry['employee']}" for entry in people}
    for entry in people:
        english = entry["locale"] == "en"
        await call.add(
            Employee(
                id=UUID(entry["employee"]),
                display_name=entry["name"]["en" if english else "zh"],
                english_name=entry["name"]["en"],
                username=entry["username"],
                department=departments[entry["department"]],
                superior=names.get(entry["superior"] or "", ""),
                roles=list(entry["roles"]),
                kind="PARTNER_USER" if entry.get("account") else "STAFF",
                account=f"accounts/{entry['account']}" if entry.get("account") else "",
                locale=entry["locale"],
                state="ACTIVE",
            )
        )
        await call.flush()
