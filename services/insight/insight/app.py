"""The insight service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from insight.consumers import on_business_fact, on_resource_changed
from insight.model.base import Base
from insight.service import InsightService


def app() -> App:
    """Search over everything, facts, and figures."""
    return App(
        name="insight",
        serves=InsightService(),
        consumes=[on_resource_changed, on_business_fact],
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
    )
