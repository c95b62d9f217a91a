"""The whole way: a web form's visitor becomes a lead, a deal, a contract, an order, an invoice, money.

Between services by facts alone; each step as the person whose work it is.
"""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

from crmkit.testing import local_date
from local_platform.people import load

from tests.e2e.people import Person, eventually

SignIn = Callable[..., Person]


def day(when: date) -> dict[str, int]:
    """A date as the API writes it."""
    return {"year": when.year, "month": when.month, "day": when.day}


def yuan(amount: str) -> dict[str, str]:
    """Money in yuan."""
    return {"currencyCode": "CNY", "amount": amount}


def test_from_the_web_form_to_the_paid_invoice(person: SignIn) -> None:
    admin, sales, manager, finance = person("admin"), person("sales1"), person("manager"), person("finance")
    today = local_date()

    campaign = running_campaign(person("marketer"), today)
    company = f"启明{uuid4().hex[:6]}智能装备股份有限公司"
    lead = lead_from_form(person("marketer"), admin, sales, campaign, company)
    lead = sales.do(
        lead,
        "convert",
        opportunityDraft={
            "displayName": "智能产线改造",
            "need": "改造两条产线，年内投产",
            "amount": yuan("200000.00"),
            "expectedCloseDate": day(today + timedelta(days=30)),
        },
    )
    lead = eventually(
        lambda: next((x for x in [sales.read(lead["name"])] if x["state"] == "CONVERTED"), None),
        "lead converted",
    )
    account = sales.read(lead["account"])
    assert account["displayName"] == company
    opportunity = through_the_stages(sales, lead["opportunity"])

    product = active_product(admin)
    quote = accepted_quote(sales, account, opportunity, product, today)
    assert (quote["netTotal"]["amount"], quote["taxTotal"]["amount"]) == ("180000.00", "23400.00")
    assert quote["grossTotal"] == yuan("203400.00")
    opportunity = sales.do(sales.read(opportunity["name"]), "win")
    assert opportunity["state"] == "WON"

    contract = signed_contract(sales, manager, opportunity, quote, today)
    plan = finance.await_one("paymentPlans", filter=f'contract = "{contract["name"]}" AND state = ACTIVE')
    assert plan["total"] == yuan("203400.00")
    order = delivered_order(sales, contract, quote, today)
    paid_invoice(finance, account, contract, order, today)

    told_everywhere(person, account, opportunity, order)
    marketer = person("marketer")
    eventually(lambda: marketer.read(campaign["name"]).get("wonCount") == 1, "the campaign knows its win")


def running_campaign(marketer: Person, today: date) -> dict[str, Any]:
    campaign = marketer.create(
        "campaigns",
        displayName="秋季新品线上推广",
        channel="WEBSITE",
        startDate=day(today - timedelta(days=10)),
        endDate=day(today + timedelta(days=50)),
        budget=yuan("50000.00"),
    )
    return marketer.do(marketer.do(campaign, "submit"), "launch")


def lead_from_form(
    marketer: Person, admin: Person, sales: Person, campaign: dict[str, Any], company: str
) -> dict[str, Any]:
    form = marketer.create(
        "forms",
        displayName="方案咨询",
        campaign=campaign["name"],
        fields=[
            {"key": "company", "label": "公司", "type": "TEXT", "required": True, "mapping": "companyName"},
            {"key": "person", "label": "姓名", "type": "TEXT", "required": True, "mapping": "personName"},
            {"key": "phone", "label": "电话", "type": "PHONE", "required": True, "mapping": "phone"},
            {"key": "need", "label": "需求", "type": "TEXT", "mapping": "need"},
        ],
        consentText="同意贵司与我联系。",
        consentVersion="2026-11",
    )
    form = marketer.do(form, "publish")
    values = [
        {"key": "company", "value": company},
        {"key": "person", "value": "曾雅琴"},
        {"key": "phone", "value": f"139{uuid4().int % 10**8:08d}"},
        {"key": "need", "value": "希望改造两条产线"},
    ]
    # A visitor has no account and no token.
    answer = marketer.http.post(
        f"/v1/{form['name']}:submit",
        json={"values": values, "consent": True, "source": {"url": "https://guanxi.example/plan"}},
        headers={"Idempotency-Key": uuid4().hex, "Accept-Language": "zh-CN"},
    )
    assert answer.status_code == 200, answer.text
    lead = admin.await_one("leads", filter=f'company_name = "{company}"')
    assert lead["campaign"] == campaign["name"]
    lead = admin.do(lead, "assign", owner=load().people["sales1"].employee)
    if lead["state"] == "NEW":
        lead = sales.do(lead, "work")
    return lead


def through_the_stages(sales: Person, name: str) -> dict[str, Any]:
    opportunity = eventually(
        lambda: next(iter(sales.list("opportunities", filter=f'name = "{name}"')), None), name
    )
    pipeline = sales.read(opportunity["pipeline"])
    before = opportunity["stage"]
    following = pipeline["stages"][[stage["key"] for stage in pipeline["stages"]].index(before) + 1]["key"]
    opportunity = sales.do(opportunity, "advance", stage=following)
    assert opportunity["stage"] == following
    assert [visit["stage"] for visit in opportunity["stageHistory"]] == [before, following]
    return opportunity


def active_product(admin: Person) -> dict[str, Any]:
    product = admin.create(
        "products",
        displayName="智能装配单元",
        code=f"ZP-{uuid4().hex[:8]}",
        kind="GOODS",
        unit="台",
        taxRate="13",
        listPrice=yuan("100000.00"),
    )
    return admin.do(product, "activate")


def accepted_quote(
    sales: Person, account: dict[str, Any], opportunity: dict[str, Any], product: dict[str, Any], today: date
) -> dict[str, Any]:
    quote = sales.create(
        "quotes",
        account=account["name"],
        opportunity=opportunity["name"],
        currency="CNY",
        validUntilDate=day(today + timedelta(days=30)),
        lines=[
            {
                "product": product["name"],
                "description": "智能装配单元",
                "quantity": "2",
                "unitPrice": yuan("100000.00"),
                "discountPercent": "10",
                "taxRate": "13",
            }
        ],
    )
    for verb in ("price", "submit", "send"):
        quote = sales.do(quote, verb)
    assert quote["state"] == "SENT"
    quote = sales.do(quote, "accept", digest=quote["digest"], person="曾雅琴")
    assert quote["state"] == "ACCEPTED"
    return quote


def signed_contract(
    sales: Person, manager: Person, opportunity: dict[str, Any], quote: dict[str, Any], today: date
) -> dict[str, Any]:
    contract = sales.await_one("contracts", filter=f'opportunity = "{opportunity["name"]}"')
    assert contract["gross"] == quote["grossTotal"]
    if not contract.get("instalments"):
        contract = sales.change(
            contract,
            instalments=[
                {
                    "title": "到货款",
                    "percent": "100",
                    "trigger": "DATE",
                    "date": day(today + timedelta(days=30)),
                }
            ],
        )
    contract = sales.do(contract, "submit")
    contract = manager.do(contract, "approve")
    contract = manager.do(contract, "sign", signDate=day(today), counterpartySignatory="曾雅琴")
    if contract["state"] == "SIGNED":
        contract = manager.do(contract, "activate")
    assert contract["state"] == "ACTIVE"
    assert contract["number"]
    assert len(sales.list("contracts", filter=f'opportunity = "{opportunity["name"]}"')) == 1
    return contract


def delivered_order(
    sales: Person, contract: dict[str, Any], quote: dict[str, Any], today: date
) -> dict[str, Any]:
    orders = sales.list("orders", filter=f'contract = "{contract["name"]}"')
    if not orders:
        sales.do(sales.read(contract["name"]), "createOrder")
        orders = sales.list("orders", filter=f'contract = "{contract["name"]}"')
    order = orders[0]
    assert order["gross"] == quote["grossTotal"]
    order = sales.do(order, "submit")
    order = sales.do(order, "start")
    delivery = sales.create(
        "deliveries",
        account=order["account"],
        lines=[
            {"order": order["name"], "item": item["key"], "quantity": item["quantity"]}
            for item in order["items"]
        ],
        plannedDate=day(today),
    )
    delivery = sales.do(sales.do(delivery, "ready"), "ship", carrier="顺丰", tracking="SF1234567890")
    delivery = sales.do(delivery, "confirm", signatory="曾雅琴")
    assert delivery["state"] == "DELIVERED"
    return eventually(
        lambda: next((o for o in [sales.read(order["name"])] if o.get("deliveryState") == "FULL"), None),
        "order delivered",
    )


def paid_invoice(
    finance: Person, account: dict[str, Any], contract: dict[str, Any], order: dict[str, Any], today: date
) -> None:
    invoice = finance.await_one(
        "invoices", filter=f'order = "{order["name"]}" OR contract = "{contract["name"]}"'
    )
    if invoice["state"] == "DRAFT":
        invoice = finance.do(invoice, "issue")
    assert invoice["gross"] == yuan("203400.00")
    assert invoice["grossInCapitals"] == "人民币贰拾万叁仟肆佰元整"
    payment = finance.create(
        "payments",
        account=account["name"],
        method="BANK",
        amount=yuan("203400.00"),
        date=day(today),
        reference="BK-1",
    )
    if payment["state"] == "PENDING":
        payment = finance.do(payment, "confirm")
    finance.do(payment, "autoAllocate")
    invoice = finance.read(invoice["name"])
    assert (invoice["paymentState"], invoice["paid"]) == ("PAID", yuan("203400.00"))
    eventually(
        lambda: finance.read(order["name"]).get("paymentState") == "PAID", "the order knows that it is paid"
    )


def told_everywhere(
    person: SignIn, account: dict[str, Any], opportunity: dict[str, Any], order: dict[str, Any]
) -> None:
    admin, sales = person("admin"), person("sales1")
    ticket = person("agent").create(
        "tickets",
        displayName="装配单元调试",
        description="客户希望工程师到场调试",
        type="REQUEST",
        severity="MAJOR",
        account=account["name"],
        order=order["name"],
    )
    assert ticket["clocks"], "the desk's clock runs"
    wanted = {"AccountCreated", "OpportunityWon", "QuoteAccepted", "ContractSigned", "OrderPlaced", "DeliveryConfirmed",
              "InvoiceIssued", "PaymentAllocated", "TicketOpened"}  # fmt: skip

    def timeline() -> bool:
        entries = admin.list("timeline", filter=f'account = "{account["name"]}"', pageSize=100)
        return wanted <= {entry["kind"].rpartition(".")[2] for entry in entries}

    eventually(timeline, "the time line shows the whole way")
    eventually(lambda: admin.list("searchDocuments", q="智能产线"), "search finds the deal")
    eventually(
        lambda: sales.list("searchDocuments", q=account["displayName"][2:8]), "search finds the customer"
    )
    audited = f'resource = "{opportunity["name"]}"'
    eventually(
        lambda: len(admin.list("auditEntries", filter=audited)) >= 3, "the audit has every change of the deal"
    )
    rows = admin.take(
        "GET", "/v1/opportunityFacts:aggregate", params={"groupBy": ["state"], "sum": ["amount"]}
    )["rows"]
    assert any(row["group"] == ["WON"] for row in rows)
    assert not person("sales2").list("accounts", filter=f'name = "{account["name"]}"')
