"""The customer service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from customer.care import care_of_the_day, on_send_ended
from customer.consumers import on_contact_moment, on_lead_converted, on_mail_record_changed
from customer.conversion import on_lead_conversion_requested
from customer.credit import end_credit_of_yesterday
from customer.disputes import keep_deadlines, on_lead_changed
from customer.figures import on_payment_refunded, on_record_changed, on_survey_answered
from customer.grading import RUNS as GRADING_RUNS
from customer.grading import grade_everybody
from customer.importing import RUNS as IMPORT_RUNS
from customer.importing.gate import on_held_record_ended
from customer.key_accounts import mind_plans
from customer.loyalty import RUNS as LOYALTY_RUNS
from customer.loyalty import after_merge as forget_loyalty
from customer.loyalty import on_score_changed, reckon_loyalty
from customer.merges import (
    after_merge,
    on_merge_decided,
    on_merge_previewed,
    on_merge_repointed,
    watch_merges,
)
from customer.model.base import Base
from customer.normalising import RUNS as KEY_RUNS
from customer.normalising import follow_rules
from customer.profile import expire_profile_changes, on_profile_code_requested
from customer.recycling import on_usage_recycle_proposed
from customer.registrations import on_deal_registration_approved
from customer.scanning import RUNS as SCAN_RUNS
from customer.scanning import scan
from customer.sea import emptying, simulation
from customer.sea import jobs as sea
from customer.sea.records import on_business_changed
from customer.service import CustomerService
from customer.telephone import on_call_ended_in_words
from customer.territories import RUNS as TERRITORY_RUNS
from customer.territories import on_territory_plan_applied
from customer.timeline import RUNS as TIMELINE_RUNS
from customer.timeline import on_any_fact
from customer.transfers import RUNS as TRANSFER_RUNS
from customer.transfers import (
    on_employee_changed,
    on_employee_frozen,
    on_employee_offboarded,
    on_transfer_applied,
    on_transfer_previewed,
    watch_transfers,
)


def app() -> App:
    """Accounts, contacts, relations, interactions, consents, imports and the time line."""
    return App(
        name="customer",
        serves=CustomerService(),
        consumes=[
            on_any_fact,
            on_record_changed,
            on_payment_refunded,
            on_survey_answered,
            on_score_changed,
            on_lead_conversion_requested,
            on_deal_registration_approved,
            on_profile_code_requested,
            on_contact_moment,
            on_lead_converted,
            on_mail_record_changed,
            on_send_ended,
            on_business_changed,
            on_lead_changed,
            on_merge_previewed,
            on_merge_repointed,
            on_merge_decided,
            on_transfer_previewed,
            on_transfer_applied,
            on_employee_frozen,
            on_employee_offboarded,
            on_employee_changed,
            on_territory_plan_applied,
            on_call_ended_in_words,
            on_held_record_ended,
            on_usage_recycle_proposed,
        ],
        schedules=[
            expire_profile_changes,
            end_credit_of_yesterday,
            care_of_the_day,
            sea.return_to_the_sea,
            sea.warn_owners,
            sea.keep_dates,
            sea.lengthen_calendar,
            keep_deadlines,
            scan,
            follow_rules,
            watch_merges,
            watch_transfers,
            grade_everybody,
            reckon_loyalty,
            mind_plans,
        ],
        on_start=[sea.fill_working_days],
        merged=[after_merge, forget_loyalty],
        runs={
            **IMPORT_RUNS,
            **TIMELINE_RUNS,
            **sea.RUNS,
            **emptying.RUNS,
            **simulation.RUNS,
            **TRANSFER_RUNS,
            **GRADING_RUNS,
            **LOYALTY_RUNS,
            **TERRITORY_RUNS,
            **SCAN_RUNS,
            **KEY_RUNS,
        },
        crew=True,
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
    )
