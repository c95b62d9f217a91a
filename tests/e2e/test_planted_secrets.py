"""Secrets are planted all over the platform, and then looked for wherever anything of it is kept."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from crmkit.map import APPS, POSTGRES_PORT, moved
from local_platform import backup, servers
from local_platform.backup import Vault
from local_platform.launcher import Running
from local_platform.secret import Secrets

from tests.e2e.people import Person, Refusal, eventually

DATABASES = [app.name for app in APPS if app.database]


@pytest.fixture
def state(platform: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the platform keeps on disk."""
    if os.environ.get("CRM_URL"):
        pytest.skip("what a platform elsewhere keeps is not here")
    return next(tmp_path_factory.getbasetemp().glob("platform*"))


@pytest.mark.capability("a.security")
def test_no_answer_log_fact_row_or_backup_holds_a_secret_in_clear(
    person: Callable[..., Person], state: Path, tmp_path: Path
) -> None:
    me, admin, mark = person("sales1"), person("admin"), uuid4().hex[:10]
    planted = {
        what: f"Planted-{what}-{uuid4().hex}"
        for what in ("mail", "changed", "dav", "held", "share", "wrong", "refused")
    }
    answers: list[str] = []

    def heard(who: Person, method: str, path: str, **options: Any) -> Any:
        answer = who.ask(method, path, **options)
        answers.append(answer.text)
        return answer.json() if answer.content else None

    def shown(answer: dict[str, Any], name: str) -> str:
        """The secret that this one answer shows, and no other."""
        answers[-1] = answers[-1].replace(answer[name], "")
        return answer[name]

    box = {"displayName": "密", "imapHost": "127.0.0.1", "imapPort": 1, "smtpHost": "127.0.0.1", "smtpPort": 1,
           "imapSecurity": "PLAIN", "smtpSecurity": "PLAIN"}  # fmt: skip
    made = heard(
        me,
        "POST",
        "/v1/mailAccounts",
        json={**box, "address": f"{mark}@a.example", "password": planted["mail"]},
    )
    heard(me, "PATCH", f"/v1/{made['name']}", json={"password": planted["changed"]})
    heard(me, "POST", f"/v1/{made['name']}:fetch", json={})
    dav = {
        "displayName": "历",
        "url": f"https://127.0.0.1:1/{mark}/",
        "userName": "me",
        "password": planted["dav"],
    }
    heard(me, "POST", "/v1/calendarAccounts", json=dav)
    for body in ({"password": planted["refused"] * 100}, {"address": "x", "password": planted["wrong"]}):
        heard(me, "POST", "/v1/mailAccounts", json={**box, **body})
    held(
        me,
        admin,
        person("manager"),
        {**box, "address": f"held-{mark}@a.example", "password": planted["held"]},
    )

    asked = {"displayName": f"密{mark}", "permissions": ["workspace.tasks.read"], "scope": "OWN"}
    key = heard(admin, "POST", "/v1/apiKeys", json=asked)
    planted["key"] = shown(key, "secret")[-52:-9]
    feed = heard(me, "POST", "/v1/calendarFeeds", json={"displayName": mark})
    planted["feed"] = shown(feed, "path")[-40:-4]
    headers = {"X-File-Name": "offer.txt", "Content-Type": "text/plain"}
    file = me.take("POST", "/v1/files", content=mark.encode(), headers=headers)
    share = {"displayName": "给王总", "file": file["name"], "password": planted["share"]}
    planted["link"] = shown(heard(me, "POST", "/v1/fileShares", json=share), "path")[-40:]
    # Of somebody who is not signed in.
    planted["basket"] = me.http.post("/v1/shop:open", json={"shopping": {}}).json()["token"]
    for path in ("apiKeys", "calendarFeeds", "fileShares", "mailAccounts", "calendarAccounts"):
        heard(admin if path == "apiKeys" else me, "GET", f"/v1/{path}?pageSize=50")
    planted["token"] = me.token().rpartition(".")[2]
    planted["installation"] = Secrets(state / "secrets.json").get("platform")
    assert all(len(one) > 20 for one in planted.values()), {what: len(one) for what, one in planted.items()}

    about = f'resource = "{key["name"]}"'
    eventually(lambda: admin.list("auditEntries", filter=about), "the audit has the key")
    heard(admin, "GET", "/v1/auditEntries?pageSize=200")
    kept = {"answers": "\n".join(answers).encode(), **dict(everything(state, tmp_path))}
    assert {"logs/gateway.log", "dump of workspace", "dump of sales"} <= set(kept)
    assert any(name.startswith("nats/") for name in kept) and any(name.startswith("backup/") for name in kept)
    # The search finds what is there: the address of the mailbox, in the dump and in the facts.
    found = {
        name.partition("/")[0] for name, content in kept.items() if f"{mark}@a.example".encode() in content
    }
    assert {"dump of workspace", "nats"} <= found
    leaks = [
        (what, name) for what, one in planted.items() for name, text in kept.items() if one.encode() in text
    ]
    assert not leaks


def held(me: Person, admin: Person, manager: Person, box: dict[str, Any]) -> None:
    """A request with a password waits for its approval, and works with the password afterwards."""
    decider = admin.list("employees", filter='username = "manager"')[0]["name"]
    policy = {"displayName": "邮箱须审批", "action": "workspace.mailAccounts.create", "condition": f'address = "{box["address"]}"',
              "approvers": [decider]}  # fmt: skip
    policy = admin.create("approvalPolicies", **policy)
    admin.take("POST", f"/v1/{policy['name']}:activate", json={})
    try:

        def waits() -> Any:
            try:
                made = me.create("mailAccounts", **box)
            except Refusal as refused:
                assert refused.reason == "HELD_FOR_APPROVAL", refused
                return True
            if made.get("pendingApproval"):
                return made
            # The policy was not known yet.
            me.take("DELETE", f"/v1/{made['name']}")
            return None

        eventually(waits, "the mailbox waits")

        def asked() -> Any:
            page = manager.take(
                "GET", '/v1/approvals?filter=action="workspace.mailAccounts.create" AND state="PENDING"'
            )
            return page.get("approvals")

        [approval] = eventually(asked, "the manager is asked")
        assert box["address"] in json.dumps(approval, ensure_ascii=False)
        manager.take("POST", f"/v1/{approval['name']}:approve", json={"digest": approval["digest"]})

        def works() -> Any:
            page = me.take("GET", f'/v1/mailAccounts?filter=address="{box["address"]}"')
            return [one for one in page.get("mailAccounts", []) if one.get("passwordTime")]

        eventually(works, "the mailbox has its password")
    finally:
        admin.take("POST", f"/v1/{policy['name']}:retire", json={})


def everything(state: Path, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """What lies on the disk of the platform, a dump of every database, and what a backup has, opened by its key."""
    for folder in ("logs", "nats", "files"):
        for path in (state / folder).rglob("*"):
            if path.is_file():
                yield str(path.relative_to(state)), path.read_bytes()
    password = (state / "postgres" / "password").read_text().strip()
    url = f"postgresql://postgres:{password}@{servers.HOST}:{moved(POSTGRES_PORT)}"
    for name in DATABASES:
        command = [servers.postgres_binaries() / "pg_dump", "--dbname", f"{url}/{name}"]
        yield f"dump of {name}", subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
    vault, key = Vault(scratch / "vault"), scratch / "private.key"
    vault.make_key(key)
    folder = asyncio.run(backup.create(url, state / "files", vault))
    for part in folder.iterdir():
        yield f"backup/{part.name}", part.read_bytes()
    backup.unpack(folder, key, vault, scratch / "opened")
    for path in (scratch / "opened").rglob("*"):
        if path.is_file():
            yield f"opened/{path.relative_to(scratch)}", path.read_bytes()
