"""A new person: made by an administrator, known to the identity provider at once, at work, and told of on one page."""

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from local_platform.launcher import Running
from local_platform.people import load
from local_platform.signin import sign_in

from tests.e2e.conftest import IDENTITY
from tests.e2e.people import Person, Refusal, eventually

SignIn = Callable[..., Person]
# Five seconds on a machine that does nothing else; the whole platform runs beside this test.
ACCOUNT_SECONDS = 20


@pytest.mark.capability("a.user")
def test_a_new_person_has_an_account_at_once_works_and_is_told_of_on_one_page(
    person: SignIn, platform: Running
) -> None:
    admin, mark = person("admin"), uuid4().hex[:6]
    department = load().people["sales1"].department
    fields = {
        "displayName": f"欧阳若{mark}", "username": f"new.{mark}", "email": f"new.{mark}@example.com",
        "phone": f"139{int(mark, 16) % 10**8:08}", "department": department, "roles": ["sales_representative"],
    }  # fmt: skip
    made = admin.create("employees", **fields)
    assert made["state"] == "INVITED"
    begun = time.monotonic()
    eventually(lambda: admin.read(made["name"])["state"] == "ACTIVE", "the account is there")
    assert time.monotonic() - begun < ACCOUNT_SECONDS
    with pytest.raises(Refusal) as refused:
        admin.create("employees", displayName="同邮箱", department=department, email=fields["email"])
    assert (refused.value.status, refused.value.reason) == (409, "ALREADY_EXISTS")
    for words in (fields["displayName"], "ouyangruo", made["number"], fields["phone"], fields["username"]):
        named = admin.list("employees", q=words, filter=f'username = "{fields["username"]}"')
        assert [one["name"] for one in named] == [made["name"]], words
    if IDENTITY == "keycloak":
        # The first password is set by a link that Keycloak mails.
        return

    tokens = asyncio.run(sign_in(platform.issuer, fields["username"], f"{platform.url}/session/callback"))
    who = Person(admin.http, lambda: tokens.access_token)
    eventually(lambda: _works(who, mark), "the person works")
    admin.do(admin.read(made["name"]), "delegate", delegate=load().people["manager"].employee, reason="出差")
    eventually(
        lambda: admin.take("GET", f"/v1/{made['name']}:belongings").get("counts"), "what is owned is counted"
    )
    told = admin.read(made["name"])
    assert told["delegations"][0]["delegate"] == load().people["manager"].employee
    held = admin.take("GET", f"/v1/{made['name']}:permissions")
    assert [one["role"] for one in held["roles"]] == ["sales_representative"]
    mine: dict[str, Any] = {"filter": f'owner = "{made["name"]}"'}
    assert (
        admin.list("apiKeys", **mine) == [] == admin.list("devices", **mine) == admin.list("sessions", **mine)
    )
    with pytest.raises(Refusal) as refused:
        admin.take("DELETE", f"/v1/{made['name']}", headers={"If-Match": f'"{told["etag"]}"'})
    assert refused.value.reason == "EMPLOYEE_HAS_HISTORY"
    # Shut out within seconds, whatever token there is.
    admin.do(admin.read(made["name"]), "freeze", reason="测试已经结束")
    eventually(lambda: _frozen(who), "the token of before counts no more")


def _works(who: Person, mark: str) -> bool:
    try:
        who.create("tasks", displayName=f"第一天{mark}")
    except Refusal as refusal:
        # The other services hear of new people within seconds.
        assert refusal.status in (401, 403), refusal
        return False
    return True


def _frozen(who: Person) -> bool:
    try:
        who.list("tasks")
    except Refusal as refusal:
        return refusal.reason == "EMPLOYEE_FROZEN"
    return False
