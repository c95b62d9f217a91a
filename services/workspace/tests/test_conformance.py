"""What every resource of every service promises, for workspace's."""

from datetime import date, timedelta
from typing import Any, ClassVar

import pytest
from crmkit.testing import Service
from crmkit.testing.conformance import Conformance
from workspace.app import app


class Samples(dict[str, Any]):
    """Bodies by collection; of what there is one for each person and day, every body is of another day."""

    day = date(2030, 1, 1)

    def get(self, key: str, default: Any = None) -> Any:
        body = super().get(key, default)
        field = {"workPlans": "startDate", "workSummaries": "startDate", "currencyRates": "rateDate"}.get(key)
        if field is None:
            return body
        Samples.day += timedelta(days=1)
        return {**body, field: {"year": self.day.year, "month": self.day.month, "day": self.day.day}}


class TestWorkspace(Conformance):
    app = app()
    samples: ClassVar = Samples(
        {
            "employees": {"department": "departments/{departments}"},
            "roles": {"code": "r{unique}", "permissions": ["workspace.tasks.read"]},
            "dictionaries": {"key": "d{unique}"},
            "currencyRates": {"fromCurrency": "USD", "toCurrency": "CNY"},
            "numberRules": {"collection": "accounts", "pattern": "X-{seq:5}"},
            "customFields": {"collection": "accounts", "key": "f{unique}", "kind": "TEXT"},
            "approvalPolicies": {"action": "customer.accounts.archive"},
            "files": {"sha256": "ab" * 32, "mediaType": "application/pdf"},
            "apiKeys": {"permissions": ["workspace.tasks.read"], "scope": "OWN"},
            "savedViews": {"collection": "tasks"},
            "attendance": {"kind": "IN", "lat": 31.23, "lon": 121.47},
            "attendanceDevices": {
                "publicKey": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEjlM7b6C/e0YluzBmfAH7YH75+LioD+9bMAYocDGHsqNz6x294DMYNm0Gn4Om9ZAAU8c2M8sEGyHFXhqGwfQAtA=="
            },
            "attendanceRules": {"departmentRef": "departments/{departments}"},
            "workPlans": {"period": "DAY", "startDate": "{day}"},
            "workSummaries": {"period": "DAY", "startDate": "{day}"},
            "mailAccounts": {
                "address": "m{unique}@example.com",
                "imapHost": "imap.example.com",
                "smtpHost": "smtp.example.com",
            },
            "mailMessages": {"mailbox": "mailAccounts/{mailAccounts}"},
            "faxes": {"faxNumber": "02155550100", "file": "files/{files}"},
            "mailTemplates": {"subject": "{unique}", "body": "您好"},
            "calendarEvents": {
                "start": "2026-12-01T09:00",
                "end": "2026-12-01T10:00",
                "acceptConflicts": True,
            },
            "calendarAccounts": {"url": "https://dav.example.com/{unique}/", "userName": "me"},
            "fileShares": {"file": "files/{files}"},
            "folders": {},
            "posts": {"kind": "DISCUSSION", "board": "FORUM"},
            "comments": {"record": "tasks/{tasks}", "body": "看一下 {unique}"},
            "notificationRules": {"collection": "accounts", "trigger": "SCHEDULE"},
            "usageRules": {"kind": "LOGIN"},
            "bulkJobs": {"collection": "tasks", "mode": "DRY_RUN", "file": "files/{files}"},
            "exports": {"collection": "tasks", "purpose": "REPORT", "purposeText": "conformance of exports"},
        }
    )

    # Addresses are compared in lower case, the text of a mail is read by a verb, and right answers are told to nobody.
    altered: ClassVar = frozenset(
        [
            "employees.email",
            "mailMessages.body",
            "posts.right_answers",
        ]
    )

    whole: ClassVar = {
        "calendarEvents": {
            # All samples are at one time.
            "availability": "FREE",
            "recurrence": "FREQ=DAILY;COUNT=3",
            "overrides": [{"occurrence": "2026-12-02T09:00"}],
            "attendees": [{"email": "a{unique}@example.com"}],
        },
        "mailMessages": {
            "to": [{"address": "to@example.com"}], "cc": [{"address": "cc@example.com"}],
            "bcc": [{"address": "bcc@example.com"}],
        },
        "attendanceRules": {
            "sites": [{"label": "总部", "lat": 31.23, "lon": 121.47, "radiusM": 300}],
            "shifts": [{"weekdays": "12345", "from": "09:00", "to": "18:00"}],
        },
    }  # fmt: skip
    # Codes, filters, addresses and times have a form of their own.
    formed: ClassVar = frozenset(
        [
            "apiKeys.cidrs",
            "apiKeys.permissions",
            "approvalPolicies.action",
            "approvalPolicies.condition",
            "approvalPolicies.copied.field",
            "approvalPolicies.copied.role",
            "approvalPolicies.steps.approvers.field",
            "approvalPolicies.steps.approvers.role",
            "approvalPolicies.steps.condition",
            "approvalPolicies.steps.editable",
            "approvalPolicies.watched_fields",
            "attendance.place",
            "attendanceDevices.public_key",
            "attendanceRules.shifts.from",
            "attendanceRules.shifts.to",
            "attendanceRules.shifts.weekdays",
            "bulkJobs.collection",
            "calendarAccounts.url",
            "calendarEvents.attendees.email",
            "calendarEvents.end",
            "calendarEvents.except_dates",
            "calendarEvents.extra_dates",
            "calendarEvents.links",
            "calendarEvents.overrides.end",
            "calendarEvents.overrides.occurrence",
            "calendarEvents.overrides.start",
            "calendarEvents.recurrence",
            "calendarEvents.start",
            "calendarEvents.time_zone",
            "comments.record",
            "currencyRates.from_currency",
            "currencyRates.to_currency",
            "customFields.collection",
            "customFields.key",
            "customFields.max_value",
            "customFields.min_value",
            "customFields.pattern",
            "customFields.roles",
            "customFields.visible_if.field",
            "customFields.visible_if.values",
            "dictionaries.entries.parent",
            "dictionaries.key",
            "employees.roles",
            "employees.username",
            "exports.collection",
            "exports.fields",
            "faxes.fax_number",
            "faxes.links",
            "files.attached_to",
            "files.sha256",
            "mailAccounts.address",
            "mailMessages.bcc.address",
            "mailMessages.cc.address",
            "mailMessages.links",
            "mailMessages.to.address",
            "mailTemplates.body",
            "mailTemplates.subject",
            "notes.links",
            "notificationRules.clock",
            "notificationRules.collection",
            "notificationRules.condition",
            "notificationRules.date_field",
            "notificationRules.fact",
            "notificationRules.quiet_from",
            "notificationRules.quiet_to",
            "notificationRules.time_zone",
            "notificationRules.weekdays",
            "numberRules.assign_on",
            "numberRules.collection",
            "numberRules.condition",
            "numberRules.pattern",
            "numberRules.time_zone",
            "posts.subject",
            "roles.code",
            "roles.fields.collection",
            "roles.fields.field",
            "roles.grants.collection",
            "roles.grants.rule",
            "roles.ip_ranges",
            "roles.permissions",
            "savedViews.collection",
            "savedViews.filter",
            "tasks.links",
            "workPlans.items.target",
        ]
    )

    @pytest.fixture
    def service(self, workspace: Service) -> Service:
        return workspace
