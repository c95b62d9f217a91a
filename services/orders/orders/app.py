"""The orders service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from orders.consumers import (
    on_allocation_reversed,
    on_credit_note_issued,
    on_credit_note_voided,
    on_delivery_confirmed,
    on_invoice_issued,
    on_invoice_voided,
    on_opportunity_won,
    on_payment_allocated,
    on_quote_accepted,
)
from orders.jobs import activate_effective_contracts
from orders.model.base import Base
from orders.model.credit import on_credit_profile_changed
from orders.service import OrdersService


def app() -> App:
    """Contracts, orders and deliveries."""
    return App(
        name="orders",
        serves=OrdersService(),
        consumes=[
            on_opportunity_won,
            on_quote_accepted,
            on_delivery_confirmed,
            on_credit_note_issued,
            on_credit_note_voided,
            on_invoice_issued,
            on_invoice_voided,
            on_payment_allocated,
            on_allocation_reversed,
            on_credit_profile_changed,
        ],
        schedules=[activate_effective_contracts],
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
    )
