"""What a new database begins with: the shipped roles and dictionaries and, where one is named, a company.

Nobody has any permission before the roles are published; so seeding is the first thing that a start does, and what
it adds is published like every other change.
"""

from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from crm.options.v1 import options_pb2 as options
from crm.workspace.v1 import pb
from crmkit.call import Call
from google.protobuf import json_format
from sqlalchemy import select, text

from workspace.model.department import Department
from workspace.model.dictionary import Dictionary
from workspace.model.employee import Employee
from workspace.model.role import Role

DATA = Path(__file__).parent
# The role that nobody may edit away.
FIXED = ("administrator",)


async def seed(call: Call) -> None:
    """Adds what is missing; two processes that start at once do it once."""
    await call.db.execute(text("SELECT pg_advisory_xact_lock(hashtext('workspace.seed'))"))
    await _roles(call)
    await _dictionaries(call)
    if path := call.running.settings.seed_company:
        await _company(yaml.safe_load(path.read_text()), call)


async def _roles(call: Call) -> None:
    shipped: dict[str, Any] = yaml.safe_load((DATA / "roles.yaml").read_text())
    known = {role.code: role for role in await call.db.scalars(select(Role))}
    for code, role in shipped.items():
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
            pb.Dictionary.Entry(key=entry, label=options.Text(zh=zh, en=en))
            for entry, (zh, en) in dictionary["entries"].items()
        ]
        zh, en = dictionary["label"]
        row = Dictionary(key=key, display_name=zh, english_name=en, kind="SYSTEM", entries=entries)
        row.publish(call)
        await call.add(row)
    await call.flush()


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
