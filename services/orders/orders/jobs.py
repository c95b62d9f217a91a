"""Timed work of the orders service."""

from datetime import datetime

from crm.orders.v1 import events_pb2 as events
from crmkit.call import Call
from crmkit.company import today
from crmkit.listing import ZONE
from crmkit.schedule import cron
from sqlalchemy import select

from orders.model.contract import Contract

AT_ONCE = 500


@cron("5 0 * * *")
async def activate_effective_contracts(as_of: datetime, call: Call) -> None:
    """Signed contracts whose first day has come are in force; comparing states, a second run finds none."""
    day = as_of.astimezone(ZONE).date()
    statement = (
        select(Contract).where(Contract.state == "SIGNED", Contract.effective_from <= day).limit(AT_ONCE)
    )
    for contract in await call.db.scalars(statement.with_for_update(skip_locked=True)):
        contract.state, contract.activation_date = "ACTIVE", today(call)
        call.emit(events.ContractActivated, contract=contract)
