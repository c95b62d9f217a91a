"""Which facts of other services make a notice, for whom, and what it says.

A fact is read as it came (JSON), so that a service that is not installed, or tells more, changes nothing here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from crmkit.events import Fact

_PLACE = re.compile(r"\{([A-Za-z.]+)\}")


@dataclass(frozen=True)
class Notice:
    """A notice made of one kind of fact. `people` are the places of employees' names in the fact."""

    kind: str
    target: str
    people: tuple[str, ...]
    zh: str
    en: str
    only: tuple[str, tuple[str, ...]] = ("", ())

    def of(self, fact: Fact) -> "tuple[list[str], str, str, str] | None":
        """People, target and both sentences; None where the fact is none to tell. Nobody is told what he did."""
        place, values = self.only
        if place and not set(_at(fact.payload, place)) & set(values):
            return None
        people = [name for path in self.people for name in _at(fact.payload, path) if name != fact.actor]
        target = next(_at(fact.payload, self.target), fact.aggregate)
        return people, target, _filled(self.zh, fact.payload), _filled(self.en, fact.payload)


NOTICES: dict[str, Notice] = {
    "crm.customer.v1.AccountOwnerChanged": Notice(
        "account", "account.name", ("from", "to"),
        "客户“{account.displayName}”的负责人已变更", "Account {account.displayName} has another owner",
    ),
    "crm.customer.v1.ImportFinished": Notice(
        "import", "import.name", ("import.owner",),
        "导入“{import.fileName}”已结束：新建 {import.created}，错误 {import.failed}",
        "Import {import.fileName} has ended: {import.created} made, {import.failed} with errors",
    ),
    "crm.sales.v1.LeadAssigned": Notice(
        "lead", "lead.name", ("to",),
        "线索“{lead.displayName}”已分配给您", "Lead {lead.displayName} was assigned to you",
    ),
    "crm.orders.v1.DeliveryShipped": Notice(
        "delivery", "delivery.name", ("delivery.owner",),
        "发货单 {delivery.number} 已发货", "Delivery {delivery.number} has been shipped",
    ),
    "crm.orders.v1.ContractEndingSoon": Notice(
        "contract", "contract.name", ("contract.owner",),
        "合同“{contract.displayName}”即将到期", "Contract {contract.displayName} ends soon",
    ),
    "crm.billing.v1.InstalmentDue": Notice(
        "instalment", "plan.name", ("plan.owner",),
        "收款计划 {plan.number} 有一期款项到期", "An instalment of {plan.number} is due",
    ),
    "crm.billing.v1.InstalmentOverdue": Notice(
        "instalment", "plan.name", ("plan.owner",),
        "收款计划 {plan.number} 有一期款项已逾期", "An instalment of {plan.number} is overdue",
    ),
    "crm.servicedesk.v1.TicketOpened": Notice(
        "ticket", "ticket.name", ("ticket.owner", "ticket.assignee"),
        "紧急工单 {ticket.number}：{ticket.displayName}", "Urgent ticket {ticket.number}: {ticket.displayName}",
        only=("ticket.severity", ("P1",)),
    ),
    "crm.servicedesk.v1.TicketAssigned": Notice(
        "ticket", "ticket.name", ("ticket.owner", "ticket.assignee"),
        "工单 {ticket.number} 已分配给您：{ticket.displayName}",
        "Ticket {ticket.number} was assigned to you: {ticket.displayName}",
    ),
    "crm.servicedesk.v1.SlaWarned": Notice(
        "sla", "ticket.name", ("ticket.owner", "ticket.assignee", "recipients"),
        "工单 {ticket.number} 即将超时", "Ticket {ticket.number} is about to miss its time",
    ),
    "crm.servicedesk.v1.SlaBreached": Notice(
        "sla", "ticket.name", ("ticket.owner", "ticket.assignee", "recipients"),
        "工单 {ticket.number} 已超时", "Ticket {ticket.number} has missed its time",
    ),
    "crm.servicedesk.v1.TicketEscalated": Notice(
        "sla", "ticket.name", ("ticket.owner", "ticket.assignee", "recipients"),
        "工单 {ticket.number} 已升级", "Ticket {ticket.number} was escalated",
    ),
}  # fmt: skip


def _at(payload: Any, path: str) -> Iterator[str]:
    """The texts at a place of the fact; lists give each of theirs."""
    for key in path.split("."):
        payload = payload.get(key) if isinstance(payload, dict) else None
    for value in payload if isinstance(payload, list) else [payload]:
        if isinstance(value, str) and value:
            yield value


def _filled(sentence: str, payload: dict[str, Any]) -> str:
    def word(match: re.Match[str]) -> str:
        value: Any = payload
        for key in match[1].split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return "0" if value is None else str(value)

    return _PLACE.sub(word, sentence)
