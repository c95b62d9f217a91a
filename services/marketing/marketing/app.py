"""The marketing service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from marketing.consumers import handlers
from marketing.jobs import rebuild_segments
from marketing.model.base import Base
from marketing.service import MarketingService


def app() -> App:
    """Campaigns, segments, and forms on the web."""
    return App(
        name="marketing",
        serves=MarketingService(),
        consumes=[*handlers()],
        schedules=[rebuild_segments],
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
    )
