"""The whole platform, once for all stories: on the dev issuer, or on Keycloak with `IDENTITY=keycloak`."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import httpx
import pytest
from local_platform.launcher import Platform, Running
from local_platform.layout import STATE
from local_platform.secret import Secrets
from local_platform.signin import open_session, sign_in

from tests.e2e.people import Person

IDENTITY = os.environ.get("IDENTITY", "dev")
# Keycloak is fetched and built, and takes the realm with all permissions in: 220 s on a machine that does more.
START_SECONDS = 900 if IDENTITY == "keycloak" else 300


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Every app as its own process, with state of its own; or the one that CRM_URL, OIDC_ISSUER and CRM_DATABASE name."""
    if url := os.environ.get("CRM_URL"):
        yield Running(url, os.environ["OIDC_ISSUER"], os.environ.get("CRM_DATABASE", ""))
        return
    state: Path = tmp_path_factory.mktemp("platform")
    os.environ.setdefault("PORT_OFFSET", str(2005 + os.getpid() % 1000 * 10))
    started: Queue[Running | BaseException] = Queue()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        try:
            async with Platform(identity=IDENTITY, state=state).running() as running:
                started.put(running)
                await stop.wait()
        except BaseException as failure:
            started.put(failure)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        found = started.get(timeout=START_SECONDS)
        if isinstance(found, BaseException):
            raise found
        yield found
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()


class Tokens:
    """Access tokens of the demo company's people, fetched as a browser would and kept while they last."""

    def __init__(self, running: Running, secrets: Path) -> None:
        self._running, self._secrets = running, Secrets(secrets)
        self._kept: dict[str, tuple[float, str]] = {}

    def of(self, username: str) -> str:
        """A token with at least a minute to live."""
        until, token = self._kept.get(username, (0.0, ""))
        if until < time.monotonic():
            redirect = f"{self._running.url}/session/callback"
            asked = sign_in(
                self._running.issuer, username, redirect, self._secrets, second_factor=username == "admin"
            )
            token = asyncio.run(asked).access_token
            self._kept[username] = (time.monotonic() + 200, token)
        return token


@pytest.fixture(scope="session")
def person(platform: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Person]]:
    """Signs somebody of the demo company in: `person("sales1")`."""
    # On telephones: whoever signs in on a computer meanwhile ends no session of theirs.
    with httpx.Client(base_url=platform.url, timeout=15, headers={"user-agent": "Guanxi (Android)"}) as http:
        state = next(tmp_path_factory.getbasetemp().glob("platform*"), STATE)
        tokens = Tokens(platform, state / "secrets.json")

        def signed_in(username: str, locale: str = "zh-CN") -> Person:
            return Person(http, lambda: tokens.of(username), locale)

        yield signed_in


@pytest.fixture
def menu(platform: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], set[str]]]:
    """What the web client makes the menu of for the service agent: the permissions of a browser's session."""
    state = next(tmp_path_factory.getbasetemp().glob("platform*"), STATE)
    opened = open_session(platform.url, "agent", Secrets(state / "secrets.json"))
    with httpx.Client(base_url=platform.url, timeout=15, cookies=asyncio.run(opened)) as browser:

        def permissions() -> set[str]:
            session = browser.get("/session").json()
            assert session["signedIn"]
            return set(session["permissions"])

        yield permissions
