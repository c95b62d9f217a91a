"""The customer service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from customer.conversion import on_lead_conversion_requested
from customer.figures import on_record_changed
from customer.importing import RUNS as IMPORT_RUNS
from customer.model.base import Base
from customer.service import CustomerService
from customer.timeline import RUNS as TIMELINE_RUNS
from customer.timeline import on_any_fact


def app() -> App:
    """Accounts, contacts, relations, interactions, consents, imports and the time line."""
    return App(
        name="customer",
        serves=CustomerService(),
        consumes=[on_any_fact, on_record_changed, on_lead_conversion_requested],
        runs={**IMPORT_RUNS, **TIMELINE_RUNS},
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
    )
