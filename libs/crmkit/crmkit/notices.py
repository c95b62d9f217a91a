"""Somebody should know, and no fact of its own says so: workspace hears it and tells them."""

from collections.abc import Iterable
from datetime import datetime

from crm.common.v1 import common_pb2
from crm.options.v1 import options_pb2

from crmkit.call import Call
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource


def raise_notice(
    kind: str,
    zh: str,
    en: str,
    call: Call,
    *,
    key: str,
    employees: Iterable[str] = (),
    roles: Iterable[str] = (),
    subjects: Iterable[str] = (),
    about: Resource | None = None,
    rung: int = 0,
    due: datetime | None = None,
) -> None:
    """Tells these people, and who holds these roles, once for each key and rung; names that are empty are nobody's."""
    notice = common_pb2.NoticeRaised(
        kind=kind, dedupe_key=key, text=options_pb2.Text(zh=zh, en=en), rung=rung, roles=list(roles),
        employees=list(dict.fromkeys(filter(None, employees))), subjects=list(filter(None, subjects)),
        due_time=to_timestamp(due) if due else None,
    )  # fmt: skip
    call.tell(f"crm.{call.running.app.name}.v1.NoticeRaised", notice, about)
