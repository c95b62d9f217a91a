"""Which facts of other services make a notice or a task, for whom, and what it says.

A fact is read as it came (JSON), so that a service that is not installed, or tells more, changes nothing here.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from crmkit.events import Fact
from crmkit.mapping import Reader
from crmkit.withholding import without

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
    importance: str = "NORMAL"
    # True where the fact itself says that these people are asked, or have just lost the record: they are told though
    # they do not see it, or no more.
    asked: bool = False

    def of(self, fact: Fact) -> "tuple[list[str], str] | None":
        """People and target; None where the fact is none to tell. Nobody is told what he did."""
        place, values = self.only
        if place and not set(_at(fact.payload, place)) & set(values):
            return None
        people = [name for path in self.people for name in _at(fact.payload, path) if name != fact.actor]
        return people, next(_at(fact.payload, self.target), fact.aggregate)

    def words(self, payload: Mapping[str, Any], reader: Reader) -> tuple[str, str]:
        """Both sentences, of what the reader may read of the records in the fact."""
        shown = _shown(payload, reader)
        return _filled(self.zh, shown), _filled(self.en, shown)


NOTICES: dict[str, Notice] = {
    "crm.customer.v1.AccountOwnerChanged": Notice(
        "account", "account.name", ("from", "to"),
        "客户“{account.displayName}”的负责人已变更", "Account {account.displayName} has another owner", asked=True,
    ),
    "crm.customer.v1.AccountReturnedToPool": Notice(
        "account", "account.name", ("from",),
        "客户“{account.displayName}”已进入公海", "Account {account.displayName} went back into the pool", asked=True,
    ),
    "crm.customer.v1.SeaDueSoon": Notice(
        "sea", "account.name", ("owner",),
        "客户“{account.displayName}”将在 {step} 天后进入公海",
        "Account {account.displayName} goes into the pool in {step} days", importance="HIGH",
    ),
    "crm.customer.v1.ClaimLapsed": Notice(
        "sea", "account.name", ("employee",),
        "领取的客户“{account.displayName}”未及时跟进，已收回（30 天内第 {count} 次）",
        "Account {account.displayName} went back: no first follow-up in time (number {count} in 30 days)", asked=True,
    ),
    "crm.customer.v1.CollisionDecided": Notice(
        "collision", "case.name", ("case.owner", "case.holder"),
        "撞单“{case.displayName}”已裁决", "Collision {case.displayName} was decided", asked=True,
    ),
    "crm.customer.v1.CareTaskDue": Notice(
        "care", "occurrence.name", ("occurrence.owner",),
        "客户关怀到期：{occurrence.displayName}", "Care is due: {occurrence.displayName}",
    ),
    "crm.customer.v1.ProfileChangeSubmitted": Notice(
        "account", "change.name", ("change.owner",),
        "客户申请变更资料：{change.displayName}", "A customer asks for a change: {change.displayName}",
    ),
    "crm.sales.v1.SupportRequested": Notice(
        "support", "supportRequest.name", ("people",),
        "请求支持：{supportRequest.question}", "Help is asked for: {supportRequest.question}", asked=True,
    ),
    "crm.sales.v1.SupportAnswered": Notice(
        "support", "supportRequest.name", ("people",),
        "支持请求已有答复：{supportRequest.question}", "There is an answer: {supportRequest.question}",
    ),
    "crm.sales.v1.JointWorkAsked": Notice(
        "dealRegistration", "jointWorkRequest.name", ("people",),
        "请求协同：{jointWorkRequest.message}", "Joint work is asked for: {jointWorkRequest.message}", asked=True,
    ),
    "crm.sales.v1.JointWorkAnswered": Notice(
        "dealRegistration", "jointWorkRequest.name", ("people",),
        "协同申请已有答复：{jointWorkRequest.message}", "There is an answer on joint work: {jointWorkRequest.message}",
    ),
    "crm.sales.v1.AppraisalPublished": Notice(
        "appraisal", "appraisal.name", ("people",),
        "{appraisal.month} 的绩效考核已公布", "Your appraisal of {appraisal.month} was published",
    ),
    "crm.orders.v1.FulfilmentFailed": Notice(
        "fulfilment", "productInstance.name", ("productInstance.owner",),
        "开通失败：{productInstance.displayName}", "Fulfilment failed: {productInstance.displayName}", importance="HIGH",
    ),
    "crm.orders.v1.ObligationDue": Notice(
        "obligation", "obligation.name", ("obligation.owner", "obligation.responsible"),
        "履约事项“{obligation.displayName}”即将到期", "Obligation {obligation.displayName} is due",
    ),
    "crm.orders.v1.ObligationMissed": Notice(
        "obligation", "obligation.name", ("obligation.owner", "obligation.responsible"),
        "履约事项“{obligation.displayName}”已逾期", "Obligation {obligation.displayName} was missed", importance="HIGH",
    ),
    "crm.orders.v1.WorkOrderFinished": Notice(
        "workOrder", "workOrder.name", ("workOrder.owner",),
        "派工 {workOrder.number} 已完成", "Work order {workOrder.number} is finished",
    ),
    "crm.billing.v1.LoanOverdue": Notice(
        "loan", "loan.name", ("loan.owner", "loan.employee"),
        "借款 {loan.number} 已逾期", "Loan {loan.number} is overdue", importance="HIGH",
    ),
    "crm.billing.v1.ExpenseClaimPaid": Notice(
        "expense", "expenseClaim.name", ("expenseClaim.owner",),
        "报销单 {expenseClaim.number} 已付款", "Expense claim {expenseClaim.number} was paid",
    ),
    "crm.billing.v1.PayoutFailed": Notice(
        "payout", "payout.name", ("payout.owner",),
        "付款 {payout.number} 失败", "Payout {payout.number} has failed", importance="HIGH",
    ),
    "crm.billing.v1.TaxInvoiceFailed": Notice(
        "invoice", "invoice.name", ("invoice.owner",),
        "发票 {invoice.number} 开具失败", "Tax invoice {invoice.number} has failed", importance="HIGH",
    ),
    "crm.billing.v1.DunningFinished": Notice(
        "dunning", "case.name", ("case.owner",), "催收 {case.number} 已结束", "Dunning {case.number} has ended",
    ),
    "crm.insight.v1.MetricAlertRaised": Notice(
        "metric", "alert.name", ("alert.owner", "recipients"),
        "指标预警：{alert.displayName}", "Metric alert: {alert.displayName}", importance="HIGH",
    ),
    "crm.insight.v1.ReportDelivered": Notice(
        "report", "report.name", ("recipients", "report.owner"),
        "报表“{report.displayName}”已生成", "Report {report.displayName} is ready",
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
    "crm.sales.v1.LeadResponseOverdue": Notice(
        "lead", "lead.name", ("recipients",),
        "线索“{lead.displayName}”尚未响应", "Nobody has answered lead {lead.displayName} yet",
    ),
    "crm.sales.v1.LeadReturnWarned": Notice(
        "lead", "lead.name", ("lead.owner",),
        "线索“{lead.displayName}”将在 {days} 天后退回线索池",
        "Lead {lead.displayName} goes back into its pool in {days} days",
    ),
    "crm.sales.v1.LeadReturnedToPool": Notice(
        "lead", "lead.name", ("from",),
        "线索“{lead.displayName}”已退回线索池", "Lead {lead.displayName} went back into its pool",
    ),
    "crm.sales.v1.LeadAccountDeleted": Notice(
        "lead", "lead.name", ("lead.owner",),
        "线索“{lead.displayName}”转化的客户已被删除，可复制为新线索",
        "The account of lead {lead.displayName} was deleted; the lead can be copied into a new one",
    ),
    "crm.sales.v1.TargetReviewOverdue": Notice(
        "target", "target.name", ("recipients",),
        "目标“{target.displayName}”的周期已结束，请检查", "The period of target {target.displayName} is over; review it",
    ),
    "crm.sales.v1.SalesTaskAssigned": Notice(
        "sales_task", "salesTask.name", ("people",),
        "销售任务“{salesTask.displayName}”已下达给您", "Sales task {salesTask.displayName} is yours",
    ),
    "crm.sales.v1.SalesTaskFinished": Notice(
        "sales_task", "salesTask.name", ("salesTask.supervisor",),
        "销售任务“{salesTask.displayName}”待您验收", "Sales task {salesTask.displayName} waits for your acceptance",
    ),
    "crm.sales.v1.SalesTaskDue": Notice(
        "sales_task", "salesTask.name", ("people",),
        "销售任务“{salesTask.displayName}”即将到期或已逾期", "Sales task {salesTask.displayName} is due or overdue",
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


@dataclass(frozen=True)
class ToDo:
    """A task made of one kind of fact: one for each source and person."""

    source: str
    people: tuple[str, ...]
    zh: str
    due: str = ""
    links: tuple[str, ...] = ()
    only: tuple[str, tuple[str, ...]] = ("", ())

    def of(
        self, fact: Fact, reader_of: Callable[[str], Reader]
    ) -> Iterator[tuple[str, str, str, str, list[str]]]:
        """Source, person, title, due time as text, and links of each."""
        place, values = self.only
        if place and not set(_at(fact.payload, place)) & set(values):
            return
        source = next(_at(fact.payload, self.source), "")
        links = [source, *(name for path in self.links for name in _at(fact.payload, path))]
        due = next(_at(fact.payload, self.due), "") if self.due else ""
        for person in dict.fromkeys(name for path in self.people for name in _at(fact.payload, path)):
            if source and person.startswith("employees/"):
                title = _filled(self.zh, _shown(fact.payload, reader_of(person)))[:200]
                yield source, person, title, due, list(dict.fromkeys(links))


TODOS: dict[str, ToDo] = {
    "crm.customer.v1.CollisionFound": ToDo(
        "case.name", ("waitingFor",), "处理撞单：{case.displayName}", due="deadline",
    ),
    "crm.customer.v1.CareTaskDue": ToDo(
        "occurrence.name", ("occurrence.owner",), "客户关怀：{occurrence.displayName}",
        links=("occurrence.account", "occurrence.contact"), only=("channel", ("CALL",)),
    ),
    "crm.sales.v1.SalesTaskAssigned": ToDo(
        "salesTask.name", ("people",), "{salesTask.displayName}", due="salesTask.dueTime",
    ),
    "crm.sales.v1.SupportRequested": ToDo(
        "supportRequest.name", ("people",), "支持：{supportRequest.question}", due="due", links=("supportRequest.opportunity",),
    ),
    "crm.sales.v1.JointWorkAsked": ToDo(
        "jointWorkRequest.name", ("people",), "答复协同申请：{jointWorkRequest.message}",
        due="due", links=("jointWorkRequest.account",),
    ),
    "crm.sales.v1.AppraisalPublished": ToDo(
        "appraisal.name", ("people",), "确认 {appraisal.month} 的绩效考核", due="due",
    ),
    "crm.billing.v1.AccountParked": ToDo("account.name", ("account.owner",), "计费失败：{account.displayName}"),
}  # fmt: skip
# What closes the to-dos of a source.
OVER: dict[str, str] = {
    "crm.customer.v1.CollisionDecided": "case.name",
    "crm.sales.v1.SalesTaskFinished": "salesTask.name",
    "crm.sales.v1.AppraisalConfirmed": "appraisal.name",
    "crm.sales.v1.SupportAnswered": "supportRequest.name",
    "crm.sales.v1.JointWorkAnswered": "jointWorkRequest.name",
}


def over(fact: Fact) -> str:
    """The source whose to-dos a fact closes; empty where it names none."""
    return next(_at(fact.payload, OVER[fact.subject]), "")


def _shown(payload: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    """The fact's payload, of what the reader may read of the records in it."""
    return {
        key: _without(cast("dict[str, Any]", value), reader)
        if isinstance(value, dict) and "name" in value
        else value
        for key, value in payload.items()
    }


def _without(record: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """The record with a dash in the place of what is not for the reader."""
    return {**dict.fromkeys(record, "—"), **without(record, str(record["name"]), reader)}


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
