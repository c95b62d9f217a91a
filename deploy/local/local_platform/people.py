"""The demo company of `people.yaml`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from local_platform.layout import PEOPLE
from local_platform.secret import Secrets


@dataclass(frozen=True)
class Department:
    """A department by resource name; `parent` is empty for the company itself."""

    name: str
    parent: str | None
    kind: str
    code: str
    zh: str
    en: str


@dataclass(frozen=True)
class Person:
    """Somebody who can sign in; references are resource names."""

    username: str
    zh: str
    en: str
    locale: str
    roles: tuple[str, ...]
    employee: str | None
    department: str | None
    superior: str | None
    account: str | None
    contact: str | None
    # The departments as groups, by path.
    groups: tuple[str, ...] = ()
    # What an account says of itself that was made for workspace.
    known_as: str = ""
    said_kind: str = ""

    @property
    def kind(self) -> str:
        """Staff, partner, customer or service: what bounds the person whatever the roles say."""
        outside = "partner" if self.employee else "customer"
        return self.said_kind or (outside if self.account else "staff")

    @property
    def display_name(self) -> str:
        return self.en if self.locale == "en" else self.zh

    @property
    def subject(self) -> str:
        """The `sub` of the person's tokens, the same at every issuer of one installation."""
        return self.known_as or (self.employee or self.contact or self.username).rpartition("/")[2]

    def claims(self) -> dict[str, Any]:
        """Return what a token says about the person, as docs/kit.md lists it."""
        known = {"employee": self.employee, "account": self.account, "contact": self.contact}
        return {
            "preferred_username": self.username,
            "name": self.display_name,
            "locale": self.locale,
            "roles": list(self.roles),
            "kind": self.kind,
            **({"groups": list(self.groups)} if self.groups else {}),
            **{claim: name for claim, name in known.items() if name},
        }


@dataclass(frozen=True)
class Company:
    """All departments, parents first, and all people by username."""

    departments: tuple[Department, ...]
    people: dict[str, Person]


def load(path: Path = PEOPLE) -> Company:
    """Read the company; an unknown code or username in it is a KeyError."""
    document = yaml.safe_load(path.read_text())
    department = {entry["code"]: f"departments/{entry['id']}" for entry in document["departments"]}
    employee = {entry["username"]: _named("employees", entry.get("employee")) for entry in document["people"]}
    by_code = {entry["code"]: entry for entry in document["departments"]}

    def group(code: str | None) -> str:
        return f"{group(by_code[code]['parent'])}/{by_code[code]['name']['zh']}" if code else ""

    return Company(
        departments=tuple(
            Department(
                name=department[entry["code"]],
                parent=entry["parent"] and department[entry["parent"]],
                kind=entry["kind"],
                code=entry["code"],
                zh=entry["name"]["zh"],
                en=entry["name"]["en"],
            )
            for entry in document["departments"]
        ),
        people={
            entry["username"]: Person(
                username=entry["username"],
                zh=entry["name"]["zh"],
                en=entry["name"]["en"],
                locale=entry["locale"],
                roles=tuple(entry["roles"]),
                employee=employee[entry["username"]],
                department=entry.get("department") and department[entry["department"]],
                superior=entry.get("superior") and employee[entry["superior"]],
                account=_named("accounts", entry.get("account")),
                contact=_named("contacts", entry.get("contact")),
                groups=(group(entry["department"]),) if entry.get("department") else (),
            )
            for entry in document["people"]
        },
    )


def password(person: Person, secrets: Secrets) -> str:
    """Return the generated password of a demo person for a local Keycloak."""
    return secrets.get(f"demo.{person.username}")[:16]


def _named(collection: str, id: str | None) -> str | None:
    return f"{collection}/{id}" if id else None
