"""The methods of backups that concern more than the one backup."""

from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.mapping import to_timestamp
from crmkit.standard import Standard

from workspace import vaults
from workspace.model.backup import Backup, health


class BackupMethods:
    """Backups of the installation, and the agent that makes them."""

    backups = Standard(Backup)

    async def StartBackup(self, request: Any, call: Call) -> Backup:
        return await Backup.start(call)

    async def ReportBackups(self, request: pb.ReportBackupsRequest, call: Call) -> pb.ReportBackupsResponse:
        return await vaults.report(request, call)

    async def GetBackupHealth(self, request: Any, call: Call) -> pb.BackupHealth:
        found = await health(call)
        agent = found["agent"]
        instants = {
            "proof_time": found["proof_time"],
            "backup_time": found["backup_time"],
            "archive_time": agent and agent.archive_time,
            "agent_time": agent and agent.agent_time,
        }
        return pb.BackupHealth(
            light=found["light"],
            days=found["days"],
            proven=found["proven"],
            key_id=agent.key_id if agent else "",
            location=agent.location if agent else "",
            **{name: to_timestamp(value) for name, value in instants.items() if value},
        )
