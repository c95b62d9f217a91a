"""The identity provider as workspace needs it: five calls, each of which may be made twice and then changes nothing.

`keycloak` speaks to Keycloak, `dev` to the development issuer of local runs; one test body holds both to this page.
What the provider says no to is `ProviderRefused`; everything else that goes wrong is worth another try.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from crmkit.settings import Settings


class ProviderRefused(Exception):
    """The provider does not take what it was given, however often it is asked; the text says why."""


class ProviderAway(Exception):
    """The provider does not answer, or does not know yet what it will soon be told."""


@dataclass(frozen=True)
class Unit:
    """A department, which is a group at the provider."""

    name: str
    title: str


@dataclass(frozen=True)
class Account:
    """What the provider is to have of one person. `units` leads from the company down to the person's department."""

    username: str
    employee: str
    title: str
    kind: str = "staff"
    email: str = ""
    locale: str = "zh-CN"
    account: str = ""
    units: tuple[Unit, ...] = ()
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Composite:
    """A role: what it is called, how far it reaches, and of which permissions it is composed."""

    code: str
    title: str
    scope: str = "OWN"
    permissions: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Lockout:
    """Somebody whom the provider lets in no more for a while."""

    username: str
    address: str
    time: datetime


@dataclass(frozen=True)
class Changes:
    """What has come to pass at the provider: who is in which of the groups now, and who was locked out since."""

    members: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    lockouts: tuple[Lockout, ...] = ()


class Provider(Protocol):
    """The five calls."""

    async def ensure_user(self, account: Account, managed: Collection[str]) -> str:
        """Makes the account so, with exactly these of the managed roles, and lets it sign in; returns its subject.

        A new account can be used only once it is whole. One of that name that belongs to another employee is refused,
        unless it is switched off: then it goes, with its password, and a new one comes.
        """
        ...

    async def ensure_role(self, role: Composite) -> None:
        """Makes the role, composed of exactly these permissions."""
        ...

    async def set_enabled(self, username: str, employee: str, enabled: bool) -> None:
        """Lets the employee's account sign in or not; where it may not, what was open ends. Unknown ones are passed over."""
        ...

    async def end_sessions(self, username: str, session: str = "") -> None:
        """Ends one session, or all of the account; none of them gives a token any more. What has ended is passed over."""
        ...

    async def list_changes(self, since: datetime, groups: Collection[str] = ()) -> Changes:
        """The members of groups (by path, "/company/sales") and roles (by name), by user name, and the newest lockouts."""
        ...


@asynccontextmanager
async def provider(settings: Settings) -> AsyncGenerator[Provider]:
    """The provider of the settings; only where `settings.keeps_accounts`."""
    if settings.keycloak_url:
        from workspace.providers.keycloak import Keycloak

        async with Keycloak.at(settings) as keycloak:
            yield keycloak
    else:
        from workspace.providers.dev import DevIssuer

        async with DevIssuer.at(settings) as issuer:
            yield issuer
