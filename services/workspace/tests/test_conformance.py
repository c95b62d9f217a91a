"""What every resource of every service promises, for workspace's."""

from typing import ClassVar

import pytest
from crmkit.testing import Service
from crmkit.testing.conformance import Conformance
from workspace.app import app


class TestWorkspace(Conformance):
    app = app()
    samples: ClassVar = {
        "employees": {"department": "departments/{departments}"},
        "roles": {"code": "r{unique}", "permissions": ["workspace.tasks.read"]},
        "dictionaries": {"key": "d{unique}"},
        "numberRules": {"collection": "accounts", "pattern": "X-{seq:5}"},
        "customFields": {"collection": "accounts", "key": "f{unique}", "kind": "TEXT"},
        "approvalPolicies": {"action": "customer.accounts.archive"},
        "files": {"sha256": "ab" * 32},
        "apiKeys": {"permissions": ["workspace.tasks.read"], "scope": "OWN"},
        "savedViews": {"collection": "tasks"},
        "calendarEvents": {"start": "2026-12-01T09:00", "end": "2026-12-01T10:00", "acceptConflicts": True},
        "bulkJobs": {"collection": "tasks", "mode": "EXPORT"},
    }

    shown_once: ClassVar = frozenset(["secret", "path"])

    @pytest.fixture
    def service(self, workspace: Service) -> Service:
        return workspace
