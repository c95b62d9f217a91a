"""The servicedesk service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from servicedesk.consumers import on_call_wrapped_up, on_interaction_forwarded
from servicedesk.jobs import close_resolved, escalate, forget_pages, seed_standard_policy
from servicedesk.model.base import Base
from servicedesk.service import ServicedeskService


def app() -> App:
    """Tickets, queues, and the times that are promised."""
    return App(
        name="servicedesk",
        serves=ServicedeskService(),
        consumes=[on_interaction_forwarded, on_call_wrapped_up],
        schedules=[escalate, close_resolved, forget_pages],
        on_start=[seed_standard_policy],
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
    )
