"""The operator's agent: it tells workspace what lies in the vault and does what it is asked.

    vault, outcomes → POST /v1/backups:report → create, drill: here and now; restore: once the launcher has stopped

On one machine the launcher runs it; elsewhere `python -m local_platform.agent [--once]` does, with CRM_URL, DATABASE_URL
(who may replicate), SECRET_KEY and BACKUP_STATE in the environment. It calls with an API key that may do nothing else
(BACKUP_API_KEY, or `agent.key` in the vault). The private key (`BACKUP_KEY` names its file) is handed to it for drills
and restores; without it both are refused with BACKUP_KEY_MISSING. Every asking is done once: what came of it is
remembered beside the vault, which no restore touches.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from local_platform import backup
from local_platform.backup import BackupRefused, Vault
from local_platform.layout import STATE
from local_platform.secret import Secrets
from local_platform.signin import sign_in

PAUSE_SECONDS = 15
OUTCOMES_KEPT = 50
# A new key takes a moment until the gateway knows it.
KNOWN_WITHIN_SECONDS = 60
# How much one run of a schedule does: make, drill, and tell of both.
ASKED_AT_ONCE = 4
# Who runs the services elsewhere stops them himself.
BY_HAND = (
    "RESTORE_BY_HAND: stop the services and follow the recovery steps; the agent does not stop a cluster"
)
# Whatever goes wrong here is told to workspace; the platform beside it goes on.
BROKEN = Exception


@dataclass(frozen=True)
class Restore:
    """A restore that two people want."""

    ask: str
    number: str
    confirmed_by: tuple[str, ...]
    until: datetime | None


class Agent:
    """Reports and works, one thing at a time."""

    def __init__(self, url: str, issuer: str, state: Path, pause: float = PAUSE_SECONDS) -> None:
        self.url, self.issuer, self.state, self.pause = url, issuer, state, pause
        self.vault = Vault(state / "backups")
        key = os.environ.get("BACKUP_KEY", "")
        self.private_key = Path(key) if key else None
        self._outcomes = self.vault.folder / "outcomes.json"
        self._credential = self.vault.folder / "agent.key"

    async def run(self) -> Restore:
        """Works until a restore is wanted, which it gives back: whoever runs the services has to stop them for it."""
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as http, asyncio.TaskGroup() as group:
            working: asyncio.Task[None] | None = None
            doing = ""
            trouble = ""
            while True:
                if working is not None and working.done():
                    working, doing = None, ""
                try:
                    asked = await self.report(http, doing)
                    fresh = working is None and asked.get("work") and not self._known(asked["askId"])
                    if fresh and asked["work"] == "RESTORE":
                        if restore := await self._wanted(http, asked):
                            return restore
                    elif fresh:
                        doing = asked["askId"]
                        working = group.create_task(self.work(asked))
                        continue
                    trouble = ""
                except BROKEN as error:
                    # The gateway may be away for a while; what has come of the work waits.
                    if str(error) != trouble:
                        trouble = str(error)
                        print(f"the backup agent cannot report: {trouble}", file=sys.stderr, flush=True)
                await asyncio.sleep(self.pause)

    async def once(self) -> None:
        """Reports, does what is wanted at this moment, and tells what has come of it: what a schedule runs."""
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as http:
            for _ in range(ASKED_AT_ONCE):
                asked = await self.report(http)
                if not asked.get("work") or self._known(asked["askId"]):
                    return
                if asked["work"] == "RESTORE":
                    await self._wanted(http, asked)
                    continue
                await self.report(http, asked["askId"])
                await self.work(asked)

    async def report(self, http: httpx.AsyncClient, doing: str = "") -> dict[str, Any]:
        """Tells everything there is to tell; gives what workspace wants done."""
        archived = self.vault.archived_until
        body = {
            "entries": await asyncio.to_thread(self._entries),
            "outcomes": self._remembered(),
            "doing": doing,
            "keyId": self.vault.key_id if (self.vault.folder / "recipient").exists() else "",
            "location": self.vault.folder.absolute().as_uri(),
            **({"archiveTime": archived.isoformat()} if archived else {}),
        }
        headers = {"Authorization": f"ApiKey {await self._api_key()}"}
        answer = await http.post("/v1/backups:report", json=body, headers=headers)
        if (
            answer.status_code == 401
            and self._credential.exists()
            and time.time() - self._credential.stat().st_mtime > KNOWN_WITHIN_SECONDS
        ):
            # A restored database may not know the key; the next report comes with a new one.
            self._credential.unlink()
        return answer.raise_for_status().json()

    async def work(self, asked: dict[str, Any]) -> None:
        """Makes or drills, and remembers what came of it."""
        problem = ""
        try:
            if asked["work"] == "CREATE":
                problem = await self._command("create", asked["number"], "--asked", asked["askId"])
            else:
                problem = await self._drill(asked["number"])
        except BROKEN as error:
            problem = said(error)
        if problem and not problem.startswith(("BACKUP_", "DRILL_")):
            problem = f"BACKUP_FAILED: {problem}"
        self._remember(asked["askId"], problem)

    def restore(self, wanted: Restore) -> str:
        """Puts the backup in place while nothing runs; what is wrong, or nothing where it went well."""
        problem = ""
        try:
            folder = self.vault.folder / wanted.number
            backup.restore(
                folder, self._private(), self.vault, self.state, list(wanted.confirmed_by), wanted.until
            )
        except BROKEN as error:
            problem = said(error)
        self._remember(wanted.ask, problem)
        return problem

    async def _wanted(self, http: httpx.AsyncClient, asked: dict[str, Any]) -> Restore | None:
        """The restore, if it can be done and is still wanted when everything was looked at."""
        try:
            if os.environ.get("DATABASE_URL"):
                raise BackupRefused(BY_HAND)
            manifest = await asyncio.to_thread(backup.verify, self.vault.folder / asked["number"])
            backup.read_identity(self._private(), manifest["keyId"])
        except BROKEN as error:
            self._remember(asked["askId"], said(error))
            return None
        if (await self.report(http, asked["askId"])).get("askId") != asked["askId"]:
            return None
        until = datetime.fromisoformat(asked["untilTime"]) if asked.get("untilTime") else None
        return Restore(asked["askId"], asked["number"], tuple(asked.get("confirmedBy", ())), until)

    async def _drill(self, number: str) -> str:
        proof = self.vault.folder / number / "proof.json"
        before = proof.read_text() if proof.exists() else ""
        problem = await self._command("drill", number, "--key", str(self._private()))
        # What a drill finds wrong stands in the proof.
        if proof.exists() and proof.read_text() != before:
            return ""
        return problem if problem.startswith("BACKUP_") else f"DRILL_FAILED: {problem}"[:500]

    async def _command(self, *arguments: str) -> str:
        """Runs the command as a process of its own, behind whoever works; its last words where it has failed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "local_platform.backup", *arguments,
            "--state", str(self.state), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            _, errors = await process.communicate()
        except asyncio.CancelledError:
            # The drill stops its servers, as at Ctrl-C.
            process.terminate()
            await process.wait()
            raise
        # Several errors at once end in a line that has no word.
        lines = [
            line.strip(" |") for line in errors.decode(errors="replace").splitlines() if line.strip(" |+-")
        ]
        return (lines or ["it ended without a word"])[-1] if process.returncode else ""

    def _private(self) -> Path:
        if self.private_key is None or not self.private_key.is_file():
            raise BackupRefused("BACKUP_KEY_MISSING: BACKUP_KEY names no file of the private key")
        return self.private_key

    def _entries(self) -> list[dict[str, Any]]:
        """Every backup in the vault, as workspace takes it."""
        found: list[dict[str, Any]] = []
        for file in sorted(self.vault.folder.glob("BK*/manifest.json")):
            try:
                found.append(_entry(file))
            except (OSError, ValueError, KeyError):
                # A manifest that cannot be read is no backup; the record says that it is gone.
                continue
        return found

    def _remembered(self) -> list[dict[str, Any]]:
        return json.loads(self._outcomes.read_text()) if self._outcomes.exists() else []

    def _known(self, ask: str) -> bool:
        return any(one["askId"] == ask for one in self._remembered())

    def _remember(self, ask: str, problem: str) -> None:
        outcome = {"askId": ask, "problem": problem[:1000], "time": datetime.now(UTC).isoformat()}
        self.vault.folder.mkdir(parents=True, exist_ok=True)
        draft = self._outcomes.with_suffix(".draft")
        draft.write_text(json.dumps([*self._remembered(), outcome][-OUTCOMES_KEPT:], ensure_ascii=False))
        draft.replace(self._outcomes)

    async def _api_key(self) -> str:
        """The key of the agent; where there is none it is made as the administrator would, at the dev issuer alone."""
        if given := os.environ.get("BACKUP_API_KEY"):
            return given
        if self._credential.exists():
            return self._credential.read_text().strip()
        if not self.issuer:
            raise BackupRefused(
                f"make an API key for workspace.backups.report and write it to {self._credential}"
            )
        secrets = Secrets(self.state / "secrets.json")
        back = f"{self.url}/session/callback"
        tokens = await sign_in(self.issuer, "admin", back, secrets, second_factor=True)
        body = {
            "displayName": "Backup agent",
            "permissions": ["workspace.backups.report"],
            "scope": "OWN",
            "cidrs": ["127.0.0.0/8"],
        }
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as http:
            headers = {"Authorization": f"Bearer {tokens.access_token}"}
            made = (await http.post("/v1/apiKeys", json=body, headers=headers)).raise_for_status().json()
        self.vault.folder.mkdir(parents=True, exist_ok=True)
        self._credential.unlink(missing_ok=True)
        with os.fdopen(os.open(self._credential, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made["secret"])
        return made["secret"]


def said(error: BaseException) -> str:
    """A reason and a detail."""
    text = str(error) or type(error).__name__
    return text if isinstance(error, BackupRefused) else f"BACKUP_FAILED: {text}"


def _entry(file: Path) -> dict[str, Any]:
    manifest = json.loads(file.read_text())
    entry: dict[str, Any] = {
        "number": manifest["number"],
        "askId": manifest["askId"],
        "startTime": manifest["start"],
        "finishTime": manifest["finish"],
        "size": str(manifest["size"]),
        "files": len(manifest["files"]),
        "auditSeq": manifest["auditSeq"],
        "keyId": manifest["keyId"],
        "digest": backup.part_hash(file),
        "databases": [
            {"database": name, "tables": len(tables), "rows": sum(one["rows"] for one in tables.values())}
            for name, tables in manifest["databases"].items()
        ],
    }
    if (file.parent / "proof.json").exists():
        proof = json.loads((file.parent / "proof.json").read_text())
        entry["proof"] = {
            "time": proof["verifiedTime"],
            "restoredSeconds": round(proof["restoredSeconds"]),
            "provenSeconds": round(proof["provenSeconds"]),
            "wrong": [one[:500] for one in proof["wrong"][:20]],
        }
    return entry


def main() -> None:
    """The agent where no launcher runs it."""
    parser = argparse.ArgumentParser(prog="python -m local_platform.agent")
    parser.add_argument("--once", action="store_true", help="do what is wanted now, and end")
    given = parser.parse_args()
    state = Path(os.environ.get("BACKUP_STATE", STATE))
    if not os.environ.get("DATABASE_URL"):
        sys.exit("DATABASE_URL: the server of whose databases backups are made")
    agent = Agent(os.environ["CRM_URL"], "", state)
    # A restore is never given back here: the server is not this machine's own.
    asyncio.run(agent.once() if given.once else agent.run())


if __name__ == "__main__":
    main()
