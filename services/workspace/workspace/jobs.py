"""Timed work."""

from datetime import datetime, timedelta

import structlog
from crm.workspace.v1 import events_pb2 as events
from crmkit.call import Call
from crmkit.listing import ZONE
from crmkit.schedule import cron, every
from sqlalchemy import select, text

from workspace import (
    alerts,
    caldav,
    exporting,
    faxes,
    identity,
    mail,
    mailboxes,
    posting,
    publishing,
    reminders,
    replies,
    rules,
    seals,
    selfcheck,
    signed_in,
    using,
    vaults,
)
from workspace.asking import climb_ladders, return_delegated
from workspace.model import audit_proof, audit_tally, calendar, partner
from workspace.model.api_key import ApiKey, warn_of_keys
from workspace.model.notification import Notification
from workspace.model.raised_alert import RaisedAlert

MONTHS_AHEAD = 3

log = structlog.get_logger(__name__)


@every("1m", collapse=True)
async def reconcile_configuration(as_of: datetime, call: Call) -> None:
    """The bucket says what the tables say, whatever was lost on the way."""
    if different := await publishing.reconcile(call):
        log.info("configuration mended", entries=different)


@every("1h", collapse=True)
async def expire_keys(as_of: datetime, call: Call) -> None:
    """Keys whose time is over say so; the gateway refuses them since then."""
    over = select(ApiKey).where(ApiKey.state == "ACTIVE", ApiKey.expire_time < as_of)
    for key in list(await call.db.scalars(over.with_for_update(skip_locked=True).limit(500))):
        key.state = "EXPIRED"


@every("10m", collapse=True)
async def expire_sessions(as_of: datetime, call: Call) -> None:
    """Sessions that nobody uses any more say so."""
    await signed_in.expire(as_of, call)


@every("1d", collapse=True)
async def make_audit_months(as_of: datetime, call: Call) -> None:
    """Tables of the audit for the months to come; the owner's function makes them, for the app may not."""
    for months in range(MONTHS_AHEAD + 1):
        day = (as_of.replace(day=1) + timedelta(days=31 * months)).replace(day=1)
        await call.db.execute(text("SELECT audit_month(:day)"), {"day": day.date()})


@every("1h", collapse=True)
async def reconcile_identity(as_of: datetime, call: Call) -> None:
    """Keycloak gets what it refused or missed."""
    await identity.queue_unfinished(call)
    await identity.queue_groups(call)


@every("1m", collapse=True)
async def look_for_lockouts(as_of: datetime, call: Call) -> None:
    """Whoever guesses passwords is known within a minute."""
    await identity.queue_lockouts(call)


@cron("10 2 * * *", collapse=True)
async def extend_series(as_of: datetime, call: Call) -> None:
    """Series are worked out two years ahead again; all anew where the zones have another edition."""
    await calendar.extend(call)


@every("1m", collapse=True)
async def seal_audit(as_of: datetime, call: Call) -> None:
    """The end of the audit chain is signed and kept where the database cannot reach."""
    await seals.seal(call)


@every("1m", collapse=True)
async def look_for_audit_gaps(as_of: datetime, call: Call) -> None:
    """What services have sent and the audit does not have is told to who may prove the audit."""
    for area, count, ids in await audit_tally.look(call):
        call.emit(events.AuditGapFound, area=area, missing=count, ids=ids, time=call.now)
        zh, en = f"审计日志缺少 {area} 的 {count} 条记录", f"The audit lacks {count} facts of {area}"
        await alerts.raise_alert("AUDIT_GAP", area, zh, en, call)


@cron("30 3 * * *", collapse=True)
async def prove_audit(as_of: datetime, call: Call) -> None:
    """The audit of the last thirty days is proven, on Sundays all of it."""
    await audit_proof.begin(as_of.astimezone(ZONE).date(), call)


@cron("30 5 * * *", collapse=True)
async def check_security(as_of: datetime, call: Call) -> None:
    """The platform looks at its own safety, once a night, after the audit was proven."""
    await selfcheck.begin(as_of.astimezone(ZONE).date(), call)
    await RaisedAlert.forget(call)


@cron("30 2 * * 0", collapse=True)
async def back_up(as_of: datetime, call: Call) -> None:
    """Every Sunday night everything is saved anew; in between what is written is archived as it comes."""
    await vaults.back_up_in_turn(call)


@cron("0 5 * * *", collapse=True)
async def drill(as_of: datetime, call: Call) -> None:
    """Every night the newest backup is restored into fresh servers and compared."""
    await vaults.drill_in_turn(call)


@every("1h", collapse=True)
async def watch_backups(as_of: datetime, call: Call) -> None:
    """Backups that nobody has proven for long are told of."""
    await vaults.watch(call)


@cron("0 1 * * *", collapse=True)
async def look_at_use(as_of: datetime, call: Call) -> None:
    """Rules of use look at the days before, on the first of a month at the month; steps of open findings are taken."""
    await using.start_due(as_of, call)
    await using.climb(as_of, call)
    await using.remind_of_reviews(as_of, call)
    await using.warn_of_certificates(as_of, call)


@cron("0 8 * * *", collapse=True)
async def warn_of_ends(as_of: datetime, call: Call) -> None:
    """Whose agreement with a partner, or whose key, ends soon is told."""
    await partner.warn_of_agreements(as_of, call)
    await warn_of_keys(as_of, call)


@every("1h", collapse=True)
async def expire_exports(as_of: datetime, call: Call) -> None:
    """Files of exports whose time is over go."""
    await exporting.expire(as_of, call)


@every("15s", collapse=True)
async def send_waiting_mail(as_of: datetime, call: Call) -> None:
    """Mail that a server has not taken is tried again."""
    await mail.start_waiting(call)
    await posting.start_waiting(call)
    await faxes.start_waiting(call)


@every("15s", collapse=True)
async def read_mailboxes(as_of: datetime, call: Call) -> None:
    """Mailboxes of people and teams are read when their time has come."""
    await mailboxes.start_due(call)


@every("15s", collapse=True)
async def sync_calendars(as_of: datetime, call: Call) -> None:
    """Calendars on other servers are brought in step when their time has come."""
    await caldav.start_due(call)


@every("30s", collapse=True)
async def read_replies(as_of: datetime, call: Call) -> None:
    """Answers to invitations are read from the calendar's mailbox."""
    await replies.poll(call)


@every("30s", collapse=True)
async def remind(as_of: datetime, call: Call) -> None:
    """Who has an event, a task or a note to be reminded of is reminded, once."""
    await reminders.remind(call)


@every("1m", collapse=True)
async def run_notification_rules(as_of: datetime, call: Call) -> None:
    """Rules whose time of day has come look at their records."""
    await rules.start_due(as_of, call)


@every("1m", collapse=True)
async def end_snoozes(as_of: datetime, call: Call) -> None:
    """What somebody has put off until now is back."""
    over = select(Notification).where(Notification.snooze_time <= as_of)
    for notification in list(await call.db.scalars(over.with_for_update(skip_locked=True).limit(1000))):
        notification.snooze_time, notification.create_time = None, call.now


@every("1m", collapse=True)
async def climb_approval_ladders(as_of: datetime, call: Call) -> None:
    """Who is waited for too long is reminded, or others decide."""
    await climb_ladders(as_of, call)


@every("1m", collapse=True)
async def end_delegations(as_of: datetime, call: Call) -> None:
    """What waits for a delegate returns at the end of the delegation."""
    await return_delegated(call)


SCHEDULES = [
    run_notification_rules,
    end_snoozes,
    end_delegations,
    climb_approval_ladders,
    remind,
    send_waiting_mail,
    read_replies,
    read_mailboxes,
    sync_calendars,
    seal_audit,
    look_for_lockouts,
    prove_audit,
    check_security,
    back_up,
    drill,
    watch_backups,
    look_at_use,
    warn_of_ends,
    look_for_audit_gaps,
    expire_exports,
    extend_series,
    reconcile_configuration,
    reconcile_identity,
    expire_keys,
    expire_sessions,
    make_audit_months,
]
