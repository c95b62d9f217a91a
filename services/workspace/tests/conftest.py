import email
import email.policy
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.controller import Controller
from crmkit.auth import Scope, system
from crmkit.testing import Parts, Refused, Service, free_port
from local_platform.layout import PEOPLE
from workspace.app import app
from workspace.model.employee import Employee
from workspace.model.role import Role


class Postbox:
    """A mail server: what it was given, and what it shall answer."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.answer = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.answer:
            return self.answer
        self.got.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"

    def of(self, address: str) -> list[Any]:
        """The mails to an address, oldest first."""
        return [message for message in list(self.got) if message["To"] == address]


@pytest.fixture(scope="session")
def postbox() -> Iterator[Postbox]:
    """A real SMTP server of this process."""
    box = Postbox()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    box.url = f"smtp://127.0.0.1:{server.port}"  # pyright: ignore[reportAttributeAccessIssue]
    yield box
    server.stop()


@pytest.fixture
def dovecot() -> Iterator[tuple[str, Path]]:
    """Debian's IMAP server with one mailbox; its address and the folder into which mail is delivered."""
    if shutil.which("dovecot") is None or os.getuid() != 0:
        pytest.skip(
            "dovecot is not installed"
        )  # reason: the logic is proved without it; this proves the protocol
    home, port = Path(tempfile.mkdtemp(prefix="dovecot")), free_port()
    home.chmod(0o755)
    inbox = home / "mail" / "calendar"
    for folder in ("new", "cur", "tmp"):
        (inbox / folder).mkdir(parents=True)
    for path in [home / "mail", *(home / "mail").rglob("*")]:
        os.chown(path, 65534, 65534)
    (home / "dovecot.conf").write_text(f"""
protocols = imap
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/log
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:{home}/mail/%u
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home={home}/mail/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
""")
    server = subprocess.Popen(["dovecot", "-F", "-c", str(home / "dovecot.conf")])
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"imap://calendar:secret@127.0.0.1:{port}", inbox / "new"
    server.terminate()
    server.wait(10)
    shutil.rmtree(home, ignore_errors=True)


class Adapter:
    """The other side of text messages, push and chat robots: what it was given, and what it answers on a path."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any], Any]] = []
        self.answers: dict[str, int] = {}
        adapter = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                adapter.got.append((self.path, body, self.headers))
                self.send_response(adapter.answers.get(self.path, 200))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def of(self, path: str, title: str) -> list[Any]:
        """What was given on a path that has the title in it."""
        return [
            body
            for where, body, _ in list(self.got)
            if where == path and title in json.dumps(body, ensure_ascii=False)
        ]


@pytest.fixture(scope="session")
def adapter() -> Iterator[Adapter]:
    """A real HTTP server of this process."""
    made = Adapter()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture(scope="session")
async def workspace(parts: Parts, postbox: Any, adapter: Adapter) -> AsyncIterator[Service]:
    """The workspace service on real parts, with the demo company and the people of the conformance suite."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEED_COMPANY", str(PEOPLE))
        environment.setenv("SMTP_URL", postbox.url)
        environment.setenv("MAIL_FROM", "calendar@guanxi.example")
        for name, path in (("SMS_URL", "sms"), ("PUSH_URL", "push"), ("CHAT_BOT_URL", "bot")):
            environment.setenv(name, f"{adapter.url}/{path}")
        async with parts.service(app()) as service:
            await _employ_the_testers(service)
            yield service


@pytest.fixture
def office(workspace: Service) -> "Office":
    """What several tests do."""
    return Office(workspace)


class Office:
    """Hires people, reads their notifications, expects refusals."""

    def __init__(self, workspace: Service) -> None:
        self.workspace = workspace

    async def refusal(self, call: Any) -> str:
        """The reason why the call is refused."""
        with pytest.raises(Refused) as refused:
            await call
        return refused.value.reason

    async def hire(self, username: str, roles: list[str], **fields: Any) -> Any:
        """A new employee in the department of sales1, once all services know the employee."""
        department = self.workspace.person("sales1").department
        body = {
            "displayName": username,
            "username": username,
            "department": department,
            "roles": roles,
            **fields,
        }
        made = await self.workspace.admin.CreateEmployee(employee=body)
        await self.known(made)
        return made

    async def known(self, employee: Any) -> None:
        """Waits until all services know the employee."""
        key = f"employee.{employee.name.partition('/')[2]}"
        await self.workspace.eventually(lambda: self.workspace.running.config.get(key), 120)

    async def client_of(self, employee: Any, **claims: Any) -> Any:
        """A client that calls as a new employee."""
        await self.known(employee)
        claims = {"employee": employee.name, "sub": employee.subject, "roles": [], **claims}
        return self.workspace.client("sales1", **claims)

    async def notices(self, client: Any, target: str) -> list[Any]:
        """The caller's notifications about a record, once there are any."""

        async def found() -> list[Any]:
            return list((await client.ListNotifications(filter=f'target = "{target}"')).notifications)

        return await self.workspace.eventually(found)


async def _employ_the_testers(service: Service) -> None:
    """Workspace takes people out of the bucket whom it does not know."""
    running = service.running
    async with running.call("test", system("workspace")) as call:
        for scope in (one for one in Scope if one is not Scope.DEPARTMENTS):
            # Every permission there is, without being an administrator.
            role = {"permissions": ["*.*"], "scope": scope.value, "display_name": scope.value}
            await call.add(Role(code=f"everything_{scope.lower()}", **role))
        await call.flush()
        for username in ("everything", "everything2", "stranger", "nobody"):
            person = service.person(username)
            assert person.employee
            identity = UUID(person.employee.partition("/")[2])
            await call.add(
                Employee(
                    id=identity,
                    display_name=username,
                    department=person.department,
                    roles=list(person.roles),
                    state="ACTIVE",
                )
            )
    await service.eventually(lambda: "locale" in (running.config.get(f"employee.{identity}") or {}))
