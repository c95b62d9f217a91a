"""The insight service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from insight.churn import after_merge, score_churn, score_everybody
from insight.consumers import on_business_fact, on_resource_changed
from insight.model.base import Base
from insight.service import InsightService


def app() -> App:
    """Search over everything, facts, figures, and scores."""
    return App(
        name="insight",
        serves=InsightService(),
        consumes=[on_resource_changed, on_business_fact],
        schedules=[score_churn, score_everybody],
        merged=[after_merge],
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
    )
