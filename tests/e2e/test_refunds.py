"""Money that goes back is told: the customer's collected money, the target and the commission of who sold follow."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from crmkit.testing import local_date
from local_platform.people import load

from tests.e2e.people import Person, eventually
from tests.e2e.test_lead_to_cash import day, yuan

SignIn = Callable[..., Person]


def test_a_refund_lowers_collected_money_target_and_commission(person: SignIn) -> None:
    admin, sales, finance = person("admin"), person("sales2"), person("finance")
    seller, today = load().people["sales2"].employee, local_date()
    account = sales.create("accounts", displayName=f"退款{uuid4().hex[:8]}有限公司")
    deal = won_deal(sales, account["name"])
    target = running_target(admin, seller)
    plan_of_commission(admin, seller)
    before = Decimal(admin.read(target["name"]).get("actual") or 0)

    invoice = issued_invoice(sales, person("zong"), finance, account["name"], deal["name"])
    payment = finance.create(
        "payments", account=account["name"], method="BANK", amount=yuan("113000.00"), date=day(today), reference="T-1"
    )  # fmt: skip
    payment = finance.do(finance.do(payment, "confirm"), "autoAllocate")
    assert finance.read(invoice["name"])["paymentState"] == "PAID"
    assert collected(sales, account["name"], "113000.00")
    achieved(admin, target, before + 100000)
    [earned] = ledger(admin, deal["name"], 1)
    assert earned["amount"] == yuan("3000.00")

    refund = finance.create(
        "refunds", payment=payment["name"], amount=yuan("22600.00"), adjust=True, reason="部分设备退货"
    )
    waiting = finance.do(refund, "approve")
    assert (waiting["state"], bool(waiting["pendingApproval"])) == ("REQUESTED", True)
    approval = person("zong").await_one("approvals", filter=f'target = "{refund["name"]}"')
    person("zong").do(approval, "approve")
    refund = eventually(
        lambda: next((one for one in [finance.read(refund["name"])] if one["state"] == "APPROVED"), None),
        "the refund is approved",
    )
    refund = finance.do(refund, "pay", reference="T-2")
    assert refund["state"] == "PAID"

    assert collected(sales, account["name"], "90400.00")
    achieved(admin, target, before + 80000)
    entries = ledger(admin, deal["name"], 2)
    assert sorted(entry["amount"]["amount"] for entry in entries) == ["-600.00", "3000.00"]
    asked = finance.read(invoice["name"])
    assert (asked["credited"], asked["balance"], asked["paymentState"]) == (
        yuan("22600.00"),
        yuan("0.00"),
        "PAID",
    )


def won_deal(sales: Person, account: str) -> dict[str, Any]:
    deal = sales.create(
        "opportunities", displayName="退款商机", account=account, need="两台设备", amount=yuan("100000.00"),
        expectedCloseDate=day(local_date() + timedelta(days=30)),
    )  # fmt: skip
    return sales.do(deal, "win")


def running_target(admin: Person, seller: str) -> dict[str, Any]:
    first = local_date()
    target = admin.create(
        "targets", subject=seller, period="MONTH", fromDate=day(first), metric="COLLECTED", currency="CNY",
        base="500000.00", actions=[{"text": "催收到期账单"}],
    )  # fmt: skip
    return admin.do(target, "approve")


def plan_of_commission(admin: Person, seller: str) -> None:
    plan = admin.create(
        "commissionPlans", displayName=f"提成 {uuid4().hex[:6]}", currency="CNY", employees=[seller],
        tiers=[{"percent": "3"}], validFromDate=day(local_date().replace(month=1, day=1)),
    )  # fmt: skip
    admin.do(plan, "activate")


def issued_invoice(
    sales: Person, manager: Person, finance: Person, account: str, deal: str
) -> dict[str, Any]:
    """The one invoice of a contract that names no instalments, issued at its activation."""
    line = {"description": "设备", "quantity": "2", "unitPrice": yuan("50000.00"), "taxRate": "13"}
    # The deal that is won drafts it.
    contract = sales.await_one("contracts", filter=f'opportunity = "{deal}"')
    contract = sales.change(contract, lines=[line], effectiveFrom=day(local_date()))
    assert (contract["account"], contract["gross"]) == (account, yuan("113000.00"))
    sales.do(contract, "submit")
    contract = manager.do(manager.read(contract["name"]), "approve")
    contract = manager.do(contract, "sign", signDate=day(local_date()), counterpartySignatory="钱进")
    if contract["state"] == "SIGNED":
        manager.do(contract, "activate")
    return finance.await_one("invoices", filter=f'contract = "{contract["name"]}" AND state = ISSUED')


def collected(reader: Person, account: str, amount: str) -> Any:
    def told() -> Any:
        overview = reader.take("GET", f"/v1/{account}:overview")
        return overview.get("collected") == [yuan(amount)] and overview

    return eventually(told, f"{amount} collected of {account}")


def achieved(admin: Person, target: dict[str, Any], wanted: Decimal) -> None:
    eventually(
        lambda: Decimal(admin.read(target["name"]).get("actual") or 0) == wanted, f"target at {wanted}"
    )


def ledger(admin: Person, deal: str, count: int) -> list[dict[str, Any]]:
    def found() -> Any:
        rows = admin.list("commissionEntries", filter=f'opportunity = "{deal}"')
        return len(rows) == count and rows

    return eventually(found, f"{count} entries of {deal}")
