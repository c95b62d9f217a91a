"""Files are read by those who may read the record, and the field, on which they hang."""

from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Client, Refused, Service


class Files:
    """Uploads, and records of other services that name files."""

    def __init__(self, workspace: Service, office: Any) -> None:
        self.workspace, self.office, self.mark = workspace, office, uuid4().hex[:8]

    async def upload(self, who: Client, **fields: Any) -> Any:
        body = {"displayName": f"{self.mark}.pdf", "size": "9", "sha256": uuid4().hex * 2}
        return await who.CreateFile(file={**body, **fields})

    async def tell(
        self, name: str, owner: str, version: int, action: str = "UPDATED", more: Any = None, **fields: Any
    ) -> None:
        """What the service of the record says of it."""
        person = self.workspace.person(owner)
        resource = {
            "name": name,
            "owner": person.employee,
            "department": person.department,
            "etag": str(version),
        }
        payload = {"name": name, "action": action, "resource": {**resource, **fields}, **(more or {})}
        await self.workspace.tell("crm.customer.v1.ResourceChanged", payload, name, version)

    async def readers(self, file: Any, people: dict[str, Client]) -> set[str]:
        """Who of these reads it; list and get say the same."""
        found: set[str] = set()
        for who, client in people.items():
            listed = (await client.ListFiles(filter=f'name = "{file.name}"')).files
            searched = (await client.ListFiles(q=self.mark)).files
            try:
                await client.GetFile(name=file.name)
                found.add(who)
            except Exception as refused:
                assert getattr(refused, "reason", "") == "NOT_FOUND", refused
            assert bool(listed) == (file.name in [one.name for one in searched]) == (who in found), who
        return found

    async def become(self, file: Any, people: dict[str, Client], readers: set[str]) -> None:
        async def are() -> bool:
            found = [await client.ListFiles(filter=f'name = "{file.name}"') for client in people.values()]
            return {who for who, page in zip(people, found, strict=True) if page.files} == readers

        await self.workspace.eventually(are, 30)
        assert await self.readers(file, people) == readers


@pytest.fixture
def files(workspace: Service, office: Any) -> Files:
    return Files(workspace, office)


@pytest.mark.capability("w.share")
async def test_a_file_is_read_by_exactly_those_who_read_the_record_and_field_it_hangs_on(
    workspace: Service, office: Any, files: Files
) -> None:
    people = {who: workspace.client(who) for who in ("sales1", "sales2", "manager")}
    hidden = f"blind_{files.mark}"
    role = {
        "code": hidden, "displayName": hidden, "scope": "ALL",
        "permissions": ["customer.interactions.read", "workspace.files.read"],
    }  # fmt: skip
    open_role = f"seeing_{files.mark}"
    await workspace.admin.CreateRole(role={**role, "code": open_role})
    fields = [{"collection": "customer.interactions", "field": "files", "level": "HIDDEN"}]
    await workspace.admin.CreateRole(role={**role, "fields": fields})
    for who, code in (("blind", hidden), ("seeing", open_role)):
        person = await office.hire(f"{who}.{files.mark}", [code])
        people[who] = await office.client_of(person)
    file = await files.upload(people["sales1"])
    # Nobody's record yet: the own scope of its owner says who reads it.
    assert await files.readers(file, people) == {"sales1", "manager", "blind", "seeing"}
    talk = f"interactions/{uuid4()}"
    await files.tell(talk, "sales2", 1, "CREATED", files=[file.name])
    await files.become(file, people, {"sales2", "seeing"})
    # The record goes to somebody else, and the file with it; what is told late changes nothing.
    await files.tell(talk, "sales1", 3, files=[file.name])
    await files.become(file, people, {"sales1", "manager", "seeing"})
    await files.tell(talk, "sales2", 2, files=[file.name])
    # A second record opens it to its own readers, by what only some may read.
    account = f"accounts/{uuid4()}"
    part = {"permission": "customer.accounts.read_secret", "resource": {"licence": file.name}}
    await files.tell(account, "sales2", 1, "CREATED", {"guarded": [part]})
    another = f"interactions/{uuid4()}"
    await files.tell(another, "sales2", 1, "CREATED", files=[file.name])
    await files.become(file, people, {"sales1", "sales2", "manager", "seeing"})
    await files.tell(another, "sales2", 2, files=[])
    await files.become(file, people, {"sales1", "manager", "seeing"})
    # Whoever says himself on which record a file hangs opens no field that is hidden.
    await people["sales1"].UpdateFile(file={"name": file.name, "attachedTo": [talk]}, updateMask="attachedTo")
    assert await files.readers(file, people) == {"sales1", "manager", "seeing"}
    await files.tell(talk, "sales1", 4, files=[])
    await files.become(file, people, {"sales1", "manager", "seeing", "blind"})
    await files.tell(talk, "sales2", 5, files=[])
    await files.become(file, people, {"sales2", "seeing", "blind"})


async def test_a_file_of_a_record_that_is_not_known_yet_is_its_uploaders_and_customers_read_what_is_theirs(
    workspace: Service, office: Any, files: Files
) -> None:
    people = {who: workspace.client(who) for who in ("sales1", "sales2", "manager")}
    ticket, account = f"tickets/{uuid4()}", f"accounts/{uuid4()}"
    file = await files.upload(people["sales1"], attachedTo=[ticket])
    assert await files.readers(file, people) == {"sales1"}
    person = workspace.person("sales2")
    resource = {"name": ticket, "owner": person.employee, "department": person.department, "account": account}
    told = {"name": ticket, "action": "CREATED", "resource": {**resource, "etag": "1"}}
    await workspace.tell("crm.servicedesk.v1.ResourceChanged", told, ticket, 1)

    # Managers of sales read the tickets of everybody.
    may = workspace.running.directory.acting(person.employee).may("servicedesk.tickets.read")
    await files.become(file, people, {"manager", "sales2"} if may else {"manager"})
    for whose, seen in ((account, True), (f"accounts/{uuid4()}", False)):
        portal = workspace.client("customer", account=whose)
        assert bool((await portal.ListFiles(filter=f'name = "{file.name}"')).files) == seen


async def test_a_customer_hangs_a_file_on_what_is_the_customers_own_and_on_nothing_else(
    workspace: Service, office: Any, files: Files
) -> None:
    people = {who: workspace.client(who) for who in ("finance", "sales1")}
    invoice, account, unknown = f"invoices/{uuid4()}", f"accounts/{uuid4()}", f"invoices/{uuid4()}"
    resource = {"name": invoice, "account": account, "etag": "1"}
    told = {"name": invoice, "action": "CREATED", "resource": resource}
    await workspace.tell("crm.billing.v1.ResourceChanged", told, invoice, 1)

    proof = await files.upload(workspace.client("customer", account=account), attachedTo=[invoice])
    assert proof.account == account
    await files.become(proof, people, {"finance"})
    stranger = workspace.client("customer", account=f"accounts/{uuid4()}")
    for portal, name in ((stranger, invoice), (workspace.client("customer", account=account), unknown)):
        with pytest.raises(Refused) as refused:
            await files.upload(portal, attachedTo=[name])
        assert refused.value.reason == "UNKNOWN_REFERENCE"
