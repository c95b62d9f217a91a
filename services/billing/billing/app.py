"""The billing service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from billing.consumers import (
    on_commission_payout_requested,
    on_contract_activated,
    on_contract_ended,
    on_contract_signed,
    on_delivery_confirmed,
    on_order_cancelled,
    on_order_placed,
)
from billing.jobs import follow_instalments
from billing.model.balance import after_merge
from billing.model.base import Base
from billing.model.payer import on_relation_changed
from billing.service import BillingService


def app() -> App:
    """Payment plans, invoices, payments and allocations."""
    return App(
        name="billing",
        serves=BillingService(),
        consumes=[
            on_commission_payout_requested,
            on_contract_activated,
            on_contract_ended,
            on_contract_signed,
            on_delivery_confirmed,
            on_order_cancelled,
            on_order_placed,
            on_relation_changed,
        ],
        schedules=[follow_instalments],
        merged=[after_merge],
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
    )
