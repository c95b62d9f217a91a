"""The sales service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from sales.achievements import HANDLERS
from sales.channel import on_sold_by_partner
from sales.consumers import (
    on_account_owner_changed,
    on_account_returned_to_pool,
    on_accounts_changed,
    on_allocation_reversed,
    on_collision_decided,
    on_contract_signed,
    on_contract_terminated,
    on_credit_note_issued,
    on_credit_note_voided,
    on_customer_created,
    on_earner_offboarded,
    on_file_uploaded,
    on_form_submitted,
    on_interaction_logged,
    on_lead_account_resolved,
    on_opportunity_won,
    on_order_placed,
    on_payment_allocated,
    on_payment_refunded,
    on_payout_paid,
    on_submission_discarded,
    on_submission_qualified,
    on_tax_rate_changed,
)
from sales.jobs import (
    begin_territory_plans,
    clear_baskets,
    draft_appraisals,
    expire_policies,
    expire_price_books,
    expire_quotes,
    follow_members,
    follow_registrations,
    follow_targets,
    forget_pages,
    lapse_forwards,
    list_incumbents,
    mind_calls,
    mind_support,
    miss_visits,
    print_quotes,
    propose_upsell,
    remind_of_proposals,
    remind_of_tasks,
    replay_commissions,
    replay_prices,
    settle_appraisals,
    snapshot_forecasts,
    sweep_leads,
    tell_of_stuck_deals,
    write_statements,
)
from sales.model.absence import on_leave
from sales.model.base import Base
from sales.model.lead_pool_rule import RUNS
from sales.model.lead_recycle import on_usage_recycle_proposed
from sales.model.partnership import on_partner_changed
from sales.model.pipeline import seed_default_pipeline
from sales.penalties import on_usage_penalty_confirmed
from sales.performance import RUNS as APPRAISAL_RUNS
from sales.service import SalesService
from sales.telesales import HANDLERS as TELESALES
from sales.territories import HANDLERS as TERRITORIES
from sales.territories import RUNS as TERRITORY_RUNS
from sales.upsell import HANDLERS as UPSELL
from sales.upsell import RUNS as UPSELL_RUNS


def app() -> App:
    """Leads, pipelines, opportunities, products, price books, quotes and competitors."""
    return App(
        name="sales",
        serves=SalesService(),
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
        consumes=[
            on_lead_account_resolved,
            on_account_owner_changed,
            on_account_returned_to_pool,
            on_collision_decided,
            on_accounts_changed,
            on_customer_created,
            on_form_submitted,
            on_interaction_logged,
            on_file_uploaded,
            on_submission_qualified,
            on_submission_discarded,
            on_contract_signed,
            on_contract_terminated,
            on_opportunity_won,
            on_order_placed,
            on_payment_allocated,
            on_allocation_reversed,
            on_payment_refunded,
            on_credit_note_issued,
            on_credit_note_voided,
            on_payout_paid,
            on_tax_rate_changed,
            *HANDLERS,
            on_partner_changed,
            on_sold_by_partner,
            on_usage_recycle_proposed,
            on_usage_penalty_confirmed,
            *TELESALES,
            *UPSELL,
            on_leave,
            on_earner_offboarded,
            *TERRITORIES,
        ],
        schedules=[
            sweep_leads,
            lapse_forwards,
            mind_calls,
            forget_pages,
            clear_baskets,
            mind_support,
            follow_targets,
            follow_registrations,
            remind_of_tasks,
            remind_of_proposals,
            expire_quotes,
            print_quotes,
            expire_price_books,
            expire_policies,
            replay_prices,
            replay_commissions,
            list_incumbents,
            tell_of_stuck_deals,
            miss_visits,
            snapshot_forecasts,
            write_statements,
            propose_upsell,
            draft_appraisals,
            settle_appraisals,
            begin_territory_plans,
            follow_members,
        ],
        runs=RUNS | UPSELL_RUNS | APPRAISAL_RUNS | TERRITORY_RUNS,
        on_start=[seed_default_pipeline],
    )
