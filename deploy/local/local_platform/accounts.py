"""Accounts of the dev issuer: the demo company's people, and whom workspace has it keep, over restarts.

Five addresses, as `workspace.providers` tells them, for who has the installation's secret.
"""

import hmac
import json
import sqlite3
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_platform.people import Company, Person
from local_platform.sessions import Sessions


class Taken(Exception):
    """A user name or address is somebody else's."""


class Accounts:
    """Who may sign in, by user name."""

    def __init__(self, path: Path, company: Company, sessions: Sessions) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._company, self._sessions = company, sessions
        self._db = sqlite3.connect(path, isolation_level=None)
        path.chmod(0o600)
        self._db.executescript(
            """
            PRAGMA journal_mode = WAL;
            CREATE TABLE IF NOT EXISTS accounts (
                username TEXT PRIMARY KEY, subject TEXT NOT NULL, employee TEXT NOT NULL, email TEXT NOT NULL,
                enabled INTEGER NOT NULL, told TEXT NOT NULL);
            CREATE TABLE IF NOT EXISTS units (name TEXT PRIMARY KEY, title TEXT NOT NULL, parent TEXT NOT NULL);
            CREATE TABLE IF NOT EXISTS roles (code TEXT PRIMARY KEY, told TEXT NOT NULL);
            """
        )

    def person(self, username: str) -> Person | None:
        """Who signs in by the name; None where nobody may."""
        row = self._db.execute(
            "SELECT told, subject, enabled FROM accounts WHERE username = ?", (username,)
        ).fetchone()
        if row is None:
            return self._company.people.get(username)
        told, subject, enabled = json.loads(row[0]), row[1], row[2]
        return self._person(told, subject) if enabled else None

    def people(self) -> list[Person]:
        """Everybody who may sign in."""
        kept = [row[0] for row in self._db.execute("SELECT username FROM accounts ORDER BY username")]
        names = list(dict.fromkeys([*self._company.people, *kept]))
        return [person for name in names if (person := self.person(name)) is not None]

    def ensure_user(self, account: dict[str, Any], managed: Collection[str]) -> str:
        """Makes the account so; its subject."""
        username, email = account["username"], account["email"]
        if not username:
            raise Taken("an account needs a user name")
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            row = self._db.execute(
                "SELECT subject, employee, enabled, told FROM accounts WHERE username = ?", (username,)
            ).fetchone()
            demo = self._company.people.get(username) if row is None else None
            employee = row[1] if row else (demo.employee or "") if demo else ""
            if employee not in ("", account["employee"]):
                if row is None or row[2]:
                    raise Taken(f"the user name {username} is somebody else's")
                self._sessions.end_all(username)
                row = None
            if (
                email
                and self._db.execute(
                    "SELECT 1 FROM accounts WHERE email = ? AND username <> ?", (email, username)
                ).fetchone()
            ):
                raise Taken(f"the address {email} is somebody else's")
            before = json.loads(row[3])["roles"] if row else list(demo.roles) if demo else []
            kept = [role for role in before if role not in managed]
            told = {
                **account,
                "roles": [*kept, *(role for role in account["roles"] if role in managed)],
                "contact": demo.contact if demo else "",
            }
            parent = ""
            for unit in account["units"]:
                self._db.execute(
                    "INSERT OR REPLACE INTO units VALUES (?, ?, ?)", (unit["name"], unit["title"], parent)
                )
                parent = unit["name"]
            subject = row[0] if row else demo.subject if demo else account["employee"].rpartition("/")[2]
            self._db.execute(
                "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, 1, ?)",
                (username, subject, account["employee"], email, json.dumps(told)),
            )
        return str(subject)

    def ensure_role(self, role: dict[str, Any]) -> None:
        """Keeps the role."""
        self._db.execute("INSERT OR REPLACE INTO roles VALUES (?, ?)", (role["code"], json.dumps(role)))

    def set_enabled(self, username: str, employee: str, enabled: bool) -> None:
        """Lets the account sign in or not."""
        demo = self._company.people.get(username)
        if demo is not None and demo.employee == employee:
            self._keep(demo)
        done = self._db.execute(
            "UPDATE accounts SET enabled = ? WHERE username = ? AND employee = ?",
            (enabled, username, employee),
        )
        if done.rowcount and not enabled:
            self._sessions.end_all(username)

    def members(self, groups: Collection[str]) -> dict[str, list[str]]:
        """Who is in which of the groups (departments, by path) or has which of the roles."""
        found: dict[str, list[str]] = {}
        for person in self.people():
            if mine := [one for one in groups if one in person.groups or one in person.roles]:
                found[person.username] = mine
        return found

    def close(self) -> None:
        self._db.close()

    def _path(self, unit: str) -> str:
        row = self._db.execute("SELECT title, parent FROM units WHERE name = ?", (unit,)).fetchone()
        return f"{self._path(row[1])}/{row[0]}" if row else ""

    def _keep(self, demo: Person) -> None:
        told = {
            "username": demo.username, "employee": demo.employee or "", "title": demo.display_name,
            "kind": demo.kind, "locale": demo.locale, "account": demo.account or "", "roles": [*demo.roles],
            "contact": demo.contact or "", "groups": [*demo.groups],
        }  # fmt: skip
        self._db.execute(
            "INSERT OR IGNORE INTO accounts VALUES (?, ?, ?, '', 1, ?)",
            (demo.username, demo.subject, demo.employee or "", json.dumps(told)),
        )

    def _person(self, told: dict[str, Any], subject: str) -> Person:
        path = self._path(told["units"][-1]["name"]) if told.get("units") else ""
        demo = self._company.people.get(told["username"])
        title, english = told["title"], told["locale"] == "en"
        return Person(
            username=told["username"],
            zh=demo.zh if demo and english else title,
            en=demo.en if demo and not english else title,
            locale=told["locale"],
            roles=tuple(told["roles"]),
            employee=told["employee"] or None,
            department=None,
            superior=None,
            account=told["account"] or None,
            contact=told["contact"] or None,
            groups=(path,) if path else tuple(told.get("groups", ())),
            known_as=subject,
            said_kind=told["kind"],
        )


def routes(accounts: Accounts, sessions: Sessions, secret: str) -> list[Route]:
    """The five calls; without a secret there are none."""

    def call(name: str, work: Callable[[dict[str, Any]], dict[str, Any]]) -> Route:
        async def answer(request: Request) -> Response:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme != "Bearer" or not hmac.compare_digest(given.encode(), secret.encode()):
                return JSONResponse({"error": "the secret is wrong"}, 401)
            try:
                return JSONResponse(work(await request.json()))
            except Taken as taken:
                return JSONResponse({"error": str(taken)}, 409)

        endpoint: Callable[[Request], Awaitable[Response]] = answer
        return Route(f"/accounts/{name}", endpoint, methods=["POST"])

    def end_sessions(body: dict[str, Any]) -> dict[str, Any]:
        if body["session"]:
            sessions.end(body["session"])
        else:
            sessions.end_all(body["username"])
        return {}

    def ensure_role(body: dict[str, Any]) -> dict[str, Any]:
        accounts.ensure_role(body["role"])
        return {}

    def set_enabled(body: dict[str, Any]) -> dict[str, Any]:
        accounts.set_enabled(body["username"], body["employee"], body["enabled"])
        return {}

    if not secret:
        return []
    return [
        call(
            "ensure-user",
            lambda body: {"subject": accounts.ensure_user(body["account"], set(body["managed"]))},
        ),
        call("ensure-role", ensure_role),
        call("set-enabled", set_enabled),
        call("end-sessions", end_sessions),
        call("list-changes", lambda body: {"members": accounts.members(body["groups"])}),
    ]
