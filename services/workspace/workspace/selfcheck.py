"""The platform looks at its own safety every night and says green, yellow or red; what is red is told at once.

    database, audit, ways, secrets, scanner, roles, keys, refusals, alerts, backups → one SecurityReport a day

Each check says what it found in both languages, so that the report is read without the manual.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from crm.workspace.v1 import pb
from crmkit import privileges, runs
from crmkit.call import Call
from crmkit.runs import Kind, Run
from crmkit.scanning import Scanner, ScannerAway
from sqlalchemy import func, select, text

from workspace import alerts
from workspace.model import audit_tally
from workspace.model.api_key import ApiKey
from workspace.model.audit import AuditEntry
from workspace.model.audit_proof import AuditProof
from workspace.model.backup import health
from workspace.model.calendar_account import CalendarAccount
from workspace.model.mail_account import MailAccount
from workspace.model.raised_alert import RaisedAlert
from workspace.model.role import Role
from workspace.model.security_report import SecurityReport
from workspace.permissions import expand

RUN = "SecurityReport"
DAY = timedelta(days=1)
PROOF_OLD, PROOF_LOST = timedelta(hours=30), timedelta(hours=54)
ENDS_SOON = timedelta(days=14)
# Refusals are told once for each caller, reason and minute.
MANY_REFUSALS = 50
# Who has one of these changes who may do what, or reads everything.
POWERS = ("workspace.roles.update", "workspace.apiKeys.create", "workspace.employees.assignRole")
GREEN, YELLOW, RED = "GREEN", "YELLOW", "RED"
ORDER = (GREEN, YELLOW, RED)


@dataclass(frozen=True)
class Found:
    """What a check has found."""

    verdict: str
    zh: str
    en: str


FINE = Found(GREEN, "正常", "As it should be")


async def begin(day: date, call: Call) -> None:
    """Queues the report of a day; once, however often it is asked for."""
    about = f"security#{day}"
    known = text("SELECT 1 FROM bulk_runs WHERE kind = :kind AND about = :about")
    if await call.db.scalar(known, {"kind": RUN, "about": about}) is None:
        await runs.start(call, RUN, about, {"day": day.isoformat()}, "system/workspace")


async def work(run: Run) -> None:
    """Asks what is outside before anything is locked, then looks at all else and writes the report."""
    if run.phase == "ENDED":
        return
    scanner = await _scanner(run.running.settings.clamav_url)
    async with run.chunk() as call:
        found = {"scanner": scanner}
        for key, check in CHECKS.items():
            found[key] = await check(call)
        await _write(run.spec["day"], found, call)
        run.next_phase("ENDED")


async def _write(day: str, found: dict[str, Found], call: Call) -> None:
    if await call.find(SecurityReport, SecurityReport.day == day) is not None:
        return
    checks = [
        pb.SecurityReport.Check(key=key, verdict=one.verdict, zh=one.zh[:2000], en=one.en[:2000])
        for key, one in found.items()
    ]
    red = {key: one for key, one in found.items() if one.verdict == RED}
    worst = max((one.verdict for one in found.values()), key=ORDER.index)
    await call.add(SecurityReport(day=day, verdict=worst, checks=checks, reds=len(red)))
    for key, one in red.items():
        zh, en = f"安全自检发现危险（{key}）：{one.zh}", f"The security check found {key} red: {one.en}"
        await alerts.raise_alert("SELF_CHECK", key, zh[:500], en[:500], call, key=f"{day}:{key}")


async def _scanner(url: str) -> Found:
    if not url:
        return Found(
            YELLOW, "未配置病毒扫描（CLAMAV_URL），仅能识别测试文件", "No virus scanner (CLAMAV_URL) is set"
        )
    try:
        await Scanner(url).look(b"clean")
    except ScannerAway:
        return Found(RED, "病毒扫描服务没有响应", "The virus scanner does not answer")
    return FINE


async def _database(call: Call) -> Found:
    tables = [model.__table__.name for model in call.running.app.models]
    found = await privileges.excesses(call.db, tables)
    return Found(RED, f"数据库权限过大：{'; '.join(found)}", "; ".join(found)) if found else FINE


async def _audit(call: Call) -> Found:
    rights = text(
        "SELECT string_agg(DISTINCT what, ', ') FROM (VALUES ('UPDATE'), ('DELETE'), ('TRUNCATE')) AS may (what),"
        " pg_class WHERE has_table_privilege(pg_class.oid, what) AND (relname = 'audit_entries'"
        " OR pg_class.oid IN (SELECT inhrelid FROM pg_inherits JOIN pg_class parent ON parent.oid = inhparent"
        " WHERE parent.relname = 'audit_entries'))"
    )
    if may := await call.db.scalar(rights):
        return Found(RED, f"服务账号可以修改审计日志：{may}", f"The service may change the audit: {may}")
    if missing := await audit_tally.missing(call):
        return Found(RED, f"审计日志缺少 {missing} 条记录", f"The audit lacks {missing} facts")
    last = await AuditProof.latest(call)
    if last is not None and last.first_break:
        return Found(
            RED, f"审计链在第 {last.first_break} 条断裂", f"The audit is broken at {last.first_break}"
        )
    age = call.now - last.end_time if last is not None and last.end_time is not None else None
    if age is None or age > PROOF_OLD:
        verdict = RED if age is not None and age > PROOF_LOST else YELLOW
        return Found(verdict, "审计证明不是最近一夜的", "The last proof of the audit is not of last night")
    return FINE


async def _ways(call: Call) -> Found:
    settings = call.running.settings
    encrypted = bool(await call.db.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")))
    open_ways = [
        name
        for name, closed in (
            ("PostgreSQL", encrypted),
            ("NATS", settings.nats_url.startswith("tls:")),
            ("OIDC", settings.oidc_issuer.startswith("https:")),
        )
        if not closed
    ]
    if not open_ways:
        return FINE
    verdict = RED if settings.environment == "production" else YELLOW
    said = ", ".join(open_ways)
    return Found(verdict, f"未加密的连接：{said}", f"Not encrypted in transit: {said}")


async def _secrets(call: Call) -> Found:
    bad: list[str] = []
    for model in (MailAccount, CalendarAccount):
        sealed = select(model).where(model.secret != "").limit(1000)
        for row in await call.db.scalars(sealed):
            try:
                row.opened(call.running.settings.secret)
            except ValueError:
                bad.append(row.name)
    if bad:
        return Found(
            RED, f"{len(bad)} 个密码字段未正确加密", f"{len(bad)} passwords are not sealed: {bad[0]}"
        )
    return FINE


async def _roles(call: Call) -> Found:
    weak = [
        role.code
        for role in await call.db.scalars(select(Role).where(Role.state == "ACTIVE"))
        if not role.second_factor and set(POWERS) & set(expand(role.permissions))
    ]
    if not weak:
        return FINE
    said = ", ".join(sorted(weak))
    return Found(
        YELLOW, f"可改权限的角色未要求第二因素：{said}", f"Powerful roles without a second factor: {said}"
    )


async def _keys(call: Call) -> Found:
    anywhere: list[str] = []
    ending: list[str] = []
    for key in await call.db.scalars(select(ApiKey).where(ApiKey.state == "ACTIVE")):
        if not key.cidrs:
            anywhere.append(key.display_name)
        if key.expire_time is not None and key.expire_time < call.now + ENDS_SOON:
            ending.append(key.display_name)
    if not anywhere and not ending:
        return FINE
    return Found(
        YELLOW,
        f"未限制地址的接口密钥 {len(anywhere)} 个；14 天内到期 {len(ending)} 个",
        f"API keys without address ranges: {len(anywhere)}; ending within 14 days: {len(ending)}",
    )


async def _refusals(call: Call) -> Found:
    refused = (
        select(AuditEntry.address, func.count())
        .where(AuditEntry.time >= call.now - DAY, AuditEntry.action.like("%Refused"))
        .group_by(AuditEntry.address)
        .order_by(func.count().desc())
        .limit(1)
    )
    most = (await call.db.execute(refused)).one_or_none()
    if most is None or most[1] < MANY_REFUSALS:
        return FINE
    where, count = most[0] or "?", most[1]
    return Found(
        YELLOW, f"{where} 一天内有 {count} 分钟被拒绝", f"{where} was refused in {count} minutes of a day"
    )


async def _alerts(call: Call) -> Found:
    kind = func.split_part(RaisedAlert.key, ":", 1)
    raised = select(kind, func.count()).where(RaisedAlert.time >= call.now - DAY, kind != "SELF_CHECK")
    found = [f"{name} {count}" for name, count in await call.db.execute(raised.group_by(kind).order_by(kind))]
    said = ", ".join(found)
    return Found(YELLOW, f"一天内的安全告警：{said}", f"Alerts of the day: {said}") if found else FINE


async def _backups(call: Call) -> Found:
    found = await health(call)
    if found["light"] == GREEN:
        return FINE
    days = found["days"]
    return Found(
        found["light"], f"备份已有 {days} 天未经演练验证", f"No backup has been proven for {days} days"
    )


CHECKS: dict[str, Callable[[Call], Awaitable[Found]]] = {
    "database": _database, "audit": _audit, "ways": _ways, "secrets": _secrets, "roles": _roles, "keys": _keys,
    "refusals": _refusals, "alerts": _alerts, "backups": _backups,
}  # fmt: skip


async def fail(run: Run, problem: Any, call: Call) -> None:
    """A report that cannot be written is itself an alert."""
    zh, en = f"安全自检未能完成：{problem}", f"The security check did not end: {problem}"
    await alerts.raise_alert("SELF_CHECK", "report", zh[:500], en[:500], call, key=run.about)


RUNS = {RUN: Kind(work, fail)}
