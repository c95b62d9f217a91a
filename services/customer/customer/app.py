"""The customer service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from customer.consumers import on_any_fact
from customer.conversion import on_lead_conversion_requested
from customer.importing import RUNS
from customer.model.base import Base
from customer.service import CustomerService


def app() -> App:
    """Accounts, contacts, relations, interactions, consents, imports and the time line."""
    return App(
        name="customer",
        serves=CustomerService(),
        consumes=[on_any_fact, on_lead_conversion_requested],
        runs=RUNS,
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
    )
