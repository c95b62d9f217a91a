"""The methods of notifications and of the rules that make them."""

from datetime import datetime, timedelta
from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import NotFound, PermissionDenied, Validation, Violation
from crmkit.mapping import to_timestamp
from crmkit.standard import Standard
from crmkit.withholding import without
from sqlalchemy import select

from workspace import reminders, rules
from workspace.model import known_record
from workspace.model.notification import Notification, NotificationPreference
from workspace.model.notification_rule import NotificationRule
from workspace.model.task import LIVE, Task
from workspace.model.work import Note
from workspace.telling import notify

MARKED_AT_ONCE = 500
DAYS, MOST_DAYS = 7, 14
MOST = 200


class NoticeMethods:
    """What people are told, and why."""

    notifications = Standard(Notification)
    notification_rules = Standard(NotificationRule)
    notification_preferences = Standard(NotificationPreference)

    async def MarkAllNotificationsRead(
        self, request: pb.MarkAllNotificationsReadRequest, call: Call
    ) -> dict[str, Any]:
        unread = select(Notification).where(
            Notification.owner == call.caller.employee,
            Notification.read_time.is_(None),
            Notification.snooze_time.is_(None),
        )
        rows = list(await call.db.scalars(unread.limit(MARKED_AT_ONCE).with_for_update()))
        for notification in rows:
            notification.mark_read(call)
        return {"marked": len(rows)}

    async def SetNotificationPreference(
        self, request: pb.SetNotificationPreferenceRequest, call: Call
    ) -> NotificationPreference:
        if not call.caller.employee:
            raise PermissionDenied("PERMISSION_DENIED", permission="workspace.notificationPreferences.set")
        return await NotificationPreference.set(request, call)

    async def TestNotificationRule(
        self, request: pb.TestNotificationRuleRequest, call: Call
    ) -> pb.TestNotificationRuleResponse:
        rule = await call.load(NotificationRule, request, lock=False)
        await rule.check(call)
        known = (await known_record.records([request.record], call)).get(request.record)
        me = call.caller.employee
        if known is None or not known_record.may_see(me, known, call):
            raise NotFound
        if request.record.partition("/")[0] != rule.collection:
            raise Validation(
                Violation("record", "WRONG_VALUE", "须为该规则的对象", "It must be of the rule's collection.")
            )
        record = {**known.record, "name": known.name}
        shown = without(record, known.name, call.caller)
        zh, en = (
            rule.filled(rule.title_zh, shown, abs(rule.offset_days), False),
            rule.filled(rule.title_en, shown, abs(rule.offset_days), True),
        )
        key = f"test:{rule.name}:{call.now.isoformat()}"
        body = rule.filled(rule.body_zh, shown, abs(rule.offset_days), False)
        await notify(call, [me], "rule", key, known.name, zh, en, body)
        people = await rule.people(record, call)
        seeing = [name for name in people if known_record.may_see(name, known, call)]
        return pb.TestNotificationRuleResponse(
            title_zh=zh, title_en=en, matches=rule.matches(record, call), recipients=seeing,
            unseen_by=[name for name in people if name not in seeing],
        )  # fmt: skip

    async def PreviewReminders(
        self, request: pb.PreviewRemindersRequest, call: Call
    ) -> pb.PreviewRemindersResponse:
        days = min(max(request.days or DAYS, 1), MOST_DAYS)
        until, me = call.now + timedelta(days=days), call.caller.employee
        if not me:
            return pb.PreviewRemindersResponse()
        found: list[tuple[datetime, str, str, str]] = []
        mine = (Task.owner == me) | Task.assignees.contains([me])
        due = Task.due_time.between(call.now + reminders.TASK_AHEAD, until + reminders.TASK_AHEAD)
        for task in list(
            await call.db.scalars(select(Task).where(mine, Task.state.in_(LIVE), due).limit(MOST))
        ):
            assert task.due_time is not None
            found.append((task.due_time - reminders.TASK_AHEAD, task.display_name, task.name, ""))
        notes = select(Note).where(Note.owner == me, Note.remind_time.between(call.now, until))
        for note in list(await call.db.scalars(notes.limit(MOST))):
            assert note.remind_time is not None
            found.append((note.remind_time, note.display_name, note.name, ""))
        for at, event, instance in await reminders.event_reminders(call.now, until, call):
            if me in reminders.people_of(event):
                found.append((at, instance.display_name or event.display_name, event.name, ""))
        found += await rules.upcoming(me, days, call)
        coming = pb.PreviewRemindersResponse.Coming
        return pb.PreviewRemindersResponse(
            coming=[
                coming(time=to_timestamp(at), title=title, target=target, rule=rule)
                for at, title, target, rule in sorted(found)[:MOST]
            ]
        )
