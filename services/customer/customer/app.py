"""The customer service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from customer.care import care_of_the_day, on_send_ended
from customer.consumers import on_contact_moment
from customer.conversion import on_lead_conversion_requested
from customer.credit import end_credit_of_yesterday
from customer.figures import on_record_changed
from customer.importing import RUNS as IMPORT_RUNS
from customer.model.base import Base
from customer.profile import expire_profile_changes, on_profile_code_requested
from customer.service import CustomerService
from customer.timeline import RUNS as TIMELINE_RUNS
from customer.timeline import on_any_fact


def app() -> App:
    """Accounts, contacts, relations, interactions, consents, imports and the time line."""
    return App(
        name="customer",
        serves=CustomerService(),
        consumes=[
            on_any_fact,
            on_record_changed,
            on_lead_conversion_requested,
            on_profile_code_requested,
            on_contact_moment,
            on_send_ended,
        ],
        schedules=[expire_profile_changes, end_credit_of_yesterday, care_of_the_day],
        runs={**IMPORT_RUNS, **TIMELINE_RUNS},
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
    )
