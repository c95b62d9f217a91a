"""What administrators must know at once."""

from crm.workspace.v1 import events_pb2 as events
from crmkit.auth import Directory
from crmkit.call import Call

from workspace.model.raised_alert import RaisedAlert
from workspace.telling import Manner, notify

# Who may prove the audit is who looks after the platform's safety.
PERMISSION = "workspace.auditEntries.verify"
MOST_TOLD = 50


async def raise_alert(kind: str, subject: str, zh: str, en: str, call: Call, key: str = "") -> None:
    """Tells everybody who may prove the audit, and the world by a fact; once for each `key`, if one is given."""
    key = key or f"{subject}:{call.now.isoformat()}"
    if not await RaisedAlert.first(f"{kind}:{key}", call):
        return
    call.emit(events.SecurityAlertRaised, kind=kind, subject=subject, zh=zh, en=en)
    people = wardens(call.running.directory, call)
    await notify(
        call, people, "security", f"alert:{kind}:{key}", "", zh, en, manner=Manner(importance="CRITICAL")
    )


async def infected(
    people: list[str], sender: str, file: str, signature: str, sha256: str, call: Call, key: str
) -> None:
    """Whose file it was or would have been, and who looks after the platform, are told; once for each key."""
    zh = f"文件“{file}”含有病毒，已隔离：{signature}"
    en = f"The file {file} carries {signature} and was not kept"
    await notify(call, people, "file", f"infected:{key}", "", zh, en)
    who = call.entry(sender).get("displayName") or sender
    zh = f"{who}发来的文件“{file}”含有病毒 {signature}，已隔离（SHA-256 {sha256}）"
    en = f"{who} sent the file {file} with {signature}; it is in quarantine (SHA-256 {sha256})"
    await raise_alert("INFECTED_FILE", sender, zh, en, call, key=key)


def wardens(directory: Directory, call: Call) -> list[str]:
    """The employees who look after the platform's safety."""
    people = (f"employees/{key}" for key in call.running.config.prefix("employee."))
    found = (one for one in people if (caller := directory.explained(one)) and caller.may(PERMISSION))
    return sorted(found)[:MOST_TOLD]
