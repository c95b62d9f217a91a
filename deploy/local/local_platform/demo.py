"""`python -m local_platform.demo`: a company at work for eighteen months, made through the public API.

What it makes is always the same: Faker with a fixed seed, and names instead of chance for what other things refer to.
A run that was interrupted may be repeated; what is there already is left alone.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from faker import Faker

from local_platform import demo_market
from local_platform.people import Company, load
from local_platform.secret import Secrets
from local_platform.signin import sign_in

SEED = 20260101
ACCOUNTS, CONTACTS, OPPORTUNITIES, INTERACTIONS, TICKETS = 320, 1050, 220, 500, 90
AT_ONCE = 6
PATIENCE = 30.0
INDUSTRIES = [
    "MANUFACTURING",
    "MACHINERY",
    "ELECTRONICS",
    "SOFTWARE",
    "FINANCE",
    "CONSTRUCTION",
    "ENERGY",
    "LOGISTICS",
    "RETAIL",
    "FOOD",
]
WORDS = [
    "智能制造",
    "精密机械",
    "新材料",
    "电子科技",
    "信息技术",
    "生物医药",
    "环保设备",
    "自动化",
    "仪器仪表",
    "供应链管理",
]
NEEDS = [
    "产线自动化改造",
    "仓储管理系统",
    "质量检测设备",
    "年度维保服务",
    "数据采集平台",
    "能耗监测系统",
    "设备更新",
    "智能仓库",
]
TALKS = [
    "电话沟通了项目进度，客户希望月底前看到方案。", "到现场勘察了车间布局，记录了改造点位。", "邮件发送了技术方案与报价说明，等待反馈。",
    "微信确认了下周演示时间与参会人员。", "与采购经理会谈，讨论了付款方式与交付周期。", "客户反馈竞争对手报价更低，需要申请折扣。",
]  # fmt: skip
TROUBLES = [
    "设备开机报警",
    "软件无法登录",
    "希望安排培训",
    "传感器读数异常",
    "备件到货咨询",
    "发票抬头更改",
    "投诉交付延迟",
]
PRODUCTS = [
    ("GX-100", "智能装配单元", "128000.00", "台"), ("GX-200", "视觉检测工作站", "86000.00", "台"),
    ("GX-300", "仓储管理系统", "58000.00", "套"), ("GX-400", "数据采集网关", "6800.00", "台"),
    ("GX-500", "年度维保服务", "24000.00", "年"), ("GX-600", "现场培训", "8000.00", "次"),
]  # fmt: skip


class Away(Exception):
    """A step could not be done; the message says which and why."""


@dataclass
class Api:
    """Calls the API as people of the company; waits where it is told to slow down."""

    http: httpx.AsyncClient
    issuer: str
    company: Company
    secrets: Secrets
    _tokens: dict[str, tuple[float, str]] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def call(
        self, who: str, method: str, path: str, key: str = "", etag: str = "", **options: Any
    ) -> Any:
        """The body of a good answer; None where the record exists already."""
        for attempt in range(8):
            headers = {"Authorization": f"Bearer {await self._token(who)}", "Accept-Language": "zh-CN"}
            headers |= {"Idempotency-Key": key} if key else {}
            headers |= {"If-Match": f'"{etag}"'} if etag else {}
            try:
                answer = await self.http.request(method, path, headers=headers, **options)
            except httpx.TransportError:
                await asyncio.sleep(0.5 * 2**attempt)
                continue
            if answer.status_code in {429, 502, 503, 504}:
                await asyncio.sleep(float(answer.headers.get("Retry-After", 0.5 * 2**attempt)))
                continue
            if answer.status_code == 409 and answer.json()["error"]["status"] == "ALREADY_EXISTS":
                return None
            if answer.status_code >= 400:
                raise Away(f"{who} {method} {path}: {answer.status_code} {answer.text[:600]}")
            return answer.json() if answer.content else {}
        raise Away(f"{who} {method} {path}: no answer")

    async def create(self, who: str, collection: str, key: str, **fields: Any) -> dict[str, Any]:
        """A record made once: its key makes its name."""
        name = f"{collection}/{_id(collection, key)}"
        made = await self.call(
            who,
            "POST",
            f"/v1/{collection}",
            key=f"demo-{collection}-{key}"[:64],
            json={"name": name, **fields},
        )
        return made or await self.call(who, "GET", f"/v1/{name}")

    async def do(self, who: str, record: dict[str, Any], verb: str, **fields: Any) -> dict[str, Any]:
        """A verb on a record as it was seen."""
        key = f"demo-{record['name'][-12:]}-{verb}-{record['etag']}"
        return await self.call(
            who, "POST", f"/v1/{record['name']}:{verb}", key=key, etag=record["etag"], json=fields
        )

    async def await_one(self, who: str, collection: str, condition: str) -> dict[str, Any]:
        """The record that a fact brings."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            found = await self.call(
                who, "GET", f"/v1/{collection}", params={"filter": condition, "pageSize": 1}
            )
            if found.get(collection):
                return found[collection][0]
            await asyncio.sleep(0.3)
        raise Away(f"no {collection} where {condition}")

    async def _token(self, who: str) -> str:
        async with self._locks.setdefault(who, asyncio.Lock()):
            until, token = self._tokens.get(who, (0.0, ""))
            if until < time.monotonic():
                callback = f"{str(self.http.base_url).rstrip('/')}/session/callback"
                token = (await sign_in(self.issuer, who, callback, self.secrets)).access_token
                self._tokens[who] = (time.monotonic() + 200, token)
            return token


@dataclass
class Demo:
    """The company's eighteen months."""

    api: Api
    today: date
    names: list[str]
    streets: list[str]
    accounts: list[dict[str, Any]] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    contacts: dict[str, list[str]] = field(default_factory=dict)
    products: list[dict[str, Any]] = field(default_factory=list)
    leads: list[str] = field(default_factory=list)
    rivals: list[str] = field(default_factory=list)

    async def load(self) -> None:
        """Everything, in the order in which it refers to each other."""
        await self._ready()
        self.products = [await self._product(*row) for row in PRODUCTS]
        for person in ("He Wei", "Ke Min"):
            await self._portal_account(person)
        await self._desk()
        await self._each("accounts", range(ACCOUNTS), self._account)
        await self._each("contacts", range(CONTACTS), self._contact)
        await self._each("interactions", range(INTERACTIONS), self._interaction)
        await self._each("campaigns", range(4), self._campaign)
        await self._each("leads", range(60), self._lead)
        self.rivals = await demo_market.rivals(self.api, self.today)
        await self._each("opportunities", range(OPPORTUNITIES), self._opportunity)
        await self._each("tickets", range(TICKETS), self._ticket)
        await self._market()

    async def _market(self) -> None:
        """What is around the deals."""
        begun = time.monotonic()
        employees = {username: person.employee or "" for username, person in self.api.company.people.items()}
        await demo_market.sea(self.api, [employees["manager"]])
        await demo_market.prices(self.api, self.today, self.products)
        mine = [(who, account) for account in self.accounts if (who := self.owners[account["name"]])]
        by_person = [[one for one in mine if one[0] == who][:9] for who in ("sales1", "sales2")]
        await demo_market.visits(self.api, self.today, [one for theirs in by_person for one in theirs])
        await demo_market.calls(self.api, [employees["sales1"]], sorted(self.leads)[:12])
        print(f"  sea, prices, visits, calls: {time.monotonic() - begun:.0f} s", flush=True)

    async def _each(self, what: str, numbers: Iterable[int], make: Callable[[int], Awaitable[None]]) -> None:
        """Makes them, several at once. One that fails is told and leaves the others alone."""
        waiting = iter(list(numbers))
        failures: list[str] = []

        async def worker() -> None:
            for number in waiting:
                try:
                    await make(number)
                except Away as away:
                    failures.append(str(away))

        begun = time.monotonic()
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        print(
            f"  {what}: {time.monotonic() - begun:.0f} s" + (f", {len(failures)} failed" if failures else ""),
            flush=True,
        )
        for failure in failures[:3]:
            print(f"    {failure}", file=sys.stderr, flush=True)
        if len(failures) > 20:
            raise Away(f"too many {what} failed: {failures[0]}")

    async def _ready(self) -> None:
        """Waits until roles and people are known everywhere."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                await self.api.call("sales1", "GET", "/v1/accounts", params={"pageSize": 1})
                return
            except Away:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.5)

    async def _product(self, code: str, name: str, price: str, unit: str) -> dict[str, Any]:
        fields = {
            "displayName": name,
            "code": code,
            "unit": unit,
            "taxRate": "13",
            "kind": "GOODS",
            "listPrice": _yuan(price),
        }
        product = await self.api.create("admin", "products", code, **fields)
        return await self.api.do("admin", product, "activate") if product["state"] == "DRAFT" else product

    async def _desk(self) -> None:
        """The queue that takes what names none, and what its customers are promised in working time."""
        await self.api.create("service", "queues", "desk", displayName="客户服务台", isDefault=True)
        minutes = {"P1": (15, 240), "P2": (30, 480), "P3": (120, 1440), "P4": (480, 2880)}
        targets = [
            {"priority": priority, "clock": clock, "minutes": promised[place]}
            for priority, promised in minutes.items()
            for place, clock in enumerate(("FIRST_RESPONSE", "SOLUTION"))
        ]
        policy = await self.api.create(
            "service", "slaPolicies", "desk", displayName="标准服务级别", targets=targets
        )
        if policy["state"] == "DRAFT":
            await self.api.do("service", policy, "activate")

    async def _portal_account(self, english: str) -> None:
        person = next(p for p in self.api.company.people.values() if p.en == english)
        role = "PARTNER" if "partner" in person.roles else "CUSTOMER"
        display_name = "远航渠道合作伙伴有限公司" if role == "PARTNER" else "柯氏食品机械有限公司"
        body = {
            "name": person.account,
            "displayName": display_name,
            "roles": [role],
            "industry": "MANUFACTURING",
        }
        key = f"demo-portal-{person.username}"
        await self.api.call("sales1", "POST", "/v1/accounts", key=key, json=body)
        if person.contact:
            contact = {"name": person.contact, "displayName": person.zh, "account": person.account}
            await self.api.call("sales1", "POST", "/v1/contacts", key=f"{key}-contact", json=contact)

    async def _account(self, number: int) -> None:
        chance = random.Random(SEED + number)
        city = ["上海", "苏州", "杭州", "南京", "宁波", "无锡", "北京", "天津", "济南", "石家庄"][number % 10]
        brand = "".join(
            chance.sample("华盛恒远信达嘉禾瑞丰鼎新博雅天翼海川金诚明德宏图安泰", 2)
        ) + chance.choice("科创联合达通源")
        owner = "sales1" if number % 10 < 6 else "sales2"
        body = {
            "displayName": f"{city}{brand}{WORDS[number % len(WORDS)]}有限公司",
            "industry": INDUSTRIES[chance.randrange(len(INDUSTRIES))],
            "roles": ["CUSTOMER"] if number % 3 == 0 else ["PROSPECT"],
            "level": chance.choice(["A", "B", "B", "C", "C", "C"]),
            "source": chance.choice(["WEBSITE", "EXHIBITION", "REFERRAL", "COLD_CALL", "ADVERTISEMENT"]),
            "employeeCount": chance.choice([20, 50, 120, 300, 800, 2500]),
            "annualRevenue": _yuan(f"{chance.randrange(3, 900)}0000.00"),
            "phones": [{"number": f"+86138{number:04d}{chance.randrange(10000):04d}", "type": "WORK", "primary": True, "valid": True}],
            "addresses": [{"type": "OFFICE", "country": "CN", "line": f"{city}市{self.streets[number]}"}],
            "background": f"主营{WORDS[number % len(WORDS)]}，{chance.choice(['计划两年内上市', '正在扩建新厂房', '产能利用率较高'])}。",
        }  # fmt: skip
        try:
            account = await self.api.create(owner, "accounts", str(number), **body)
        except Away as away:
            # Two drawn names that are too much alike: the platform is right to refuse the second.
            if " 404 " not in str(away):
                raise
            return
        self.accounts.append(account)
        self.owners[account["name"]] = owner

    def _some_account(self, number: int) -> dict[str, Any]:
        return sorted(self.accounts, key=lambda a: a["name"])[number * 7 % len(self.accounts)]

    async def _contact(self, number: int) -> None:
        chance = random.Random(SEED * 2 + number)
        account = self._some_account(number)
        who = self.owners[account["name"]]
        contact = await self.api.create(
            who,
            "contacts",
            str(number),
            displayName=self.names[number],
            account=account["name"],
            title=chance.choice(["总经理", "采购经理", "技术总监", "设备主管", "财务经理", "项目经理"]),
            phones=[
                {
                    "number": f"+86139{number:04d}{chance.randrange(10000):04d}",
                    "type": "MOBILE",
                    "primary": True,
                    "valid": True,
                }
            ],
            emails=[{"address": f"contact{number}@example.com", "primary": True}],
            decisionRole=chance.choice(["DECIDER", "INFLUENCER", "USER", "GATEKEEPER", "CHAMPION"]),
        )
        self.contacts.setdefault(account["name"], []).append(contact["name"])

    async def _interaction(self, number: int) -> None:
        chance = random.Random(SEED * 3 + number)
        account = self._some_account(number)
        when = datetime.combine(
            self.today - timedelta(days=chance.randrange(1, 540)), datetime.min.time(), UTC
        )
        await self.api.create(
            self.owners[account["name"]],
            "interactions",
            str(number),
            account=account["name"],
            channel=chance.choice(["CALL", "VISIT", "EMAIL", "WECHAT", "MEETING"]),
            direction="OUTBOUND",
            startTime=(when + timedelta(hours=chance.randrange(1, 10))).isoformat().replace("+00:00", "Z"),
            summary=TALKS[number % len(TALKS)],
            result=chance.choice(["INTERESTED", "FOLLOW_UP", "APPOINTMENT", "NOT_INTERESTED"]),
        )

    async def _campaign(self, number: int) -> None:
        start = self.today - timedelta(days=40 * number)
        name = ["秋季新品推广", "春季制造业展会", "行业白皮书下载", "老客户回访月"][number]
        campaign = await self.api.create(
            "marketer", "campaigns", str(number), displayName=name, startDate=_day(start), endDate=_day(start + timedelta(days=180)),
            channel=["WEBSITE", "EXHIBITION", "MAIL", "PHONE"][number], budget=_yuan(f"{(number + 2) * 10000}.00"),
        )  # fmt: skip
        if campaign["state"] == "DRAFT":
            campaign = await self.api.do("marketer", campaign, "submit")
            await self.api.do("marketer", campaign, "launch")

    async def _lead(self, number: int) -> None:
        chance = random.Random(SEED * 4 + number)
        company = f"{chance.choice(['合肥', '青岛', '西安', '长沙'])}{''.join(chance.sample('优捷泰科宇辰凯旋立信', 2))}{WORDS[number % 10]}公司"
        lead = await self.api.create(
            "sales1" if number % 2 else "sales2", "leads", str(number), displayName=f"{company}咨询", companyName=company,
            personName=chance.choice("王李张刘陈") + "先生", channel=chance.choice(["WEB", "PHONE", "EVENT", "WECHAT"]),
            phones=[{"number": f"+86137{number:04d}{chance.randrange(10000):04d}", "primary": True, "valid": True}], need=NEEDS[number % len(NEEDS)],
        )  # fmt: skip
        if number % 2:
            self.leads.append(lead["name"])
        if number % 5 == 0 and lead["state"] == "WORKING":
            await self.api.do("sales1" if number % 2 else "sales2", lead, "disqualify", reason="NO_BUDGET")

    async def _opportunity(self, number: int) -> None:
        chance = random.Random(SEED * 5 + number)
        account = self._some_account(number * 3 + 1)
        who = self.owners[account["name"]]
        close = self.today + timedelta(days=chance.randrange(-500, 120))
        product, quantity = self.products[number % len(self.products)], chance.randrange(1, 6)
        opportunity = await self.api.create(
            who,
            "opportunities",
            str(number),
            displayName=f"{account['displayName'][:6]}{NEEDS[number % len(NEEDS)]}",
            account=account["name"],
            need=NEEDS[number % len(NEEDS)],
            expectedCloseDate=_day(close),
            amount=_times(product["listPrice"], quantity),
        )
        if opportunity["state"] != "OPEN":
            return
        stages = [
            stage["key"]
            for stage in (await self.api.call(who, "GET", f"/v1/{opportunity['pipeline']}"))["stages"]
        ]
        fate = number % 5
        steps = len(stages) - 1 if fate in (0, 1) else chance.randrange(0, len(stages))
        for stage in stages[stages.index(opportunity["stage"]) + 1 : steps + 1]:
            try:
                opportunity = await self.api.do(who, opportunity, "advance", stage=stage)
            except Away as away:
                if "STAGE_CRITERIA_MISSING" not in str(away):
                    raise
                break
        if fate == 0 and number % 2 == 0:
            await self._sold(who, account, opportunity, product, quantity, number)
        elif fate == 1:
            reason = chance.choice(["PRICE", "DELIVERY", "NO_BUDGET", "POSTPONED"])
            winner = (
                {"competitor": self.rivals[number % len(self.rivals)]}
                if reason in ("PRICE", "DELIVERY")
                else {}
            )
            await self.api.do(who, opportunity, "lose", reason=reason, **winner)

    async def _sold(
        self,
        who: str,
        account: dict[str, Any],
        opportunity: dict[str, Any],
        product: dict[str, Any],
        quantity: int,
        number: int,
    ) -> None:
        """Quote, contract, order, delivery, invoice and, for most, the money."""
        api = self.api
        line = {"product": product["name"], "description": product["displayName"], "quantity": str(quantity), "taxRate": "13",
                "unitPrice": product["listPrice"], "discountPercent": str(number % 4 * 2)}  # fmt: skip
        quote = await api.create(
            who, "quotes", str(number), account=account["name"], opportunity=opportunity["name"], currency="CNY",
            validUntilDate=_day(self.today + timedelta(days=60)), lines=[line],
        )  # fmt: skip
        for verb in ("price", "submit", "send"):
            quote = await api.do(who, quote, verb)
        await api.do(who, quote, "accept", digest=quote["digest"], person="客户代表")
        opportunity = await api.call(who, "GET", f"/v1/{opportunity['name']}")
        await api.do(who, opportunity, "win")
        contract = await api.await_one(who, "contracts", f'opportunity = "{opportunity["name"]}"')
        if not contract.get("instalments"):
            instalment = {
                "title": "货款",
                "percent": "100",
                "trigger": "DATE",
                "date": _day(self.today + timedelta(days=number % 60 - 20)),
            }
            contract = await api.call(
                who,
                "PATCH",
                f"/v1/{contract['name']}",
                etag=contract["etag"],
                json={"instalments": [instalment]},
            )
        contract = await api.do(who, contract, "submit")
        contract = await api.do("zong", contract, "approve")
        contract = await api.do(
            "zong",
            contract,
            "sign",
            signDate=_day(self.today - timedelta(days=number % 300)),
            counterpartySignatory="客户代表",
        )
        if contract["state"] == "SIGNED":
            contract = await api.do("zong", contract, "activate")
        order = await self._order(who, contract)
        if number % 30 == 0:
            return
        delivery = await api.create(
            who, "deliveries", str(number), account=account["name"], plannedDate=_day(self.today),
            lines=[{"order": order["name"], "item": item["key"], "quantity": item["quantity"]} for item in order["items"]],
        )  # fmt: skip
        for verb, fields in (
            ("ready", {}),
            ("ship", {"carrier": "顺丰"}),
            ("confirm", {"signatory": "仓库主管"}),
        ):
            delivery = await api.do(who, delivery, verb, **fields)
        await self._collected(account, contract, order, number)

    async def _order(self, who: str, contract: dict[str, Any]) -> dict[str, Any]:
        of_contract = f'contract = "{contract["name"]}"'
        found = await self.api.call(who, "GET", "/v1/orders", params={"filter": of_contract})
        if not found.get("orders"):
            await self.api.do(who, await self.api.call(who, "GET", f"/v1/{contract['name']}"), "createOrder")
        order = await self.api.await_one(who, "orders", of_contract)
        for verb in ("submit", "start"):
            order = await self.api.do(who, order, verb)
        return order

    async def _collected(
        self, account: dict[str, Any], contract: dict[str, Any], order: dict[str, Any], number: int
    ) -> None:
        api = self.api
        invoice = await api.await_one(
            "finance", "invoices", f'order = "{order["name"]}" OR contract = "{contract["name"]}"'
        )
        if invoice["state"] == "DRAFT":
            invoice = await api.do("finance", invoice, "issue")
        if number % 20 == 0:
            return
        payment = await api.create(
            "finance",
            "payments",
            str(number),
            account=account["name"],
            method="BANK",
            amount=invoice["gross"],
            date=_day(self.today),
        )
        if payment["state"] == "PENDING":
            payment = await api.do("finance", payment, "confirm")
        await api.do("finance", payment, "autoAllocate")

    async def _ticket(self, number: int) -> None:
        chance = random.Random(SEED * 6 + number)
        account = self._some_account(number * 5 + 2)
        trouble = TROUBLES[number % len(TROUBLES)]
        ticket = await self.api.create(
            "agent", "tickets", str(number), displayName=trouble, description=f"客户来电：{trouble}，请尽快处理。", account=account["name"],
            type="COMPLAINT" if "投诉" in trouble else "REQUEST", severity=chance.choice(["CRITICAL", "MAJOR", "MINOR", "MINOR"]), channel="PHONE",
        )  # fmt: skip
        if number % 3 and ticket["state"] == "ACKNOWLEDGED":
            ticket = await self.api.do("agent", ticket, "start")
            # A complaint is resolved when its steps are done.
            if number % 3 == 2 and ticket["type"] != "COMPLAINT":
                await self.api.do("agent", ticket, "resolve", code="FIXED", text="已远程处理并确认恢复。")


def _id(collection: str, key: str) -> UUID:
    """The id of a demo record: the same at every run, in the shape of a UUID of version 7."""
    digest = random.Random(f"{collection}/{key}").getrandbits(74)
    return UUID(
        int=(0x01900000 << 96)
        | (0x7 << 76)
        | ((digest >> 62) & 0xFFF) << 64
        | (0b10 << 62)
        | digest & ((1 << 62) - 1)
    )


def _yuan(amount: str) -> dict[str, str]:
    return {"currencyCode": "CNY", "amount": amount}


def _times(money: dict[str, str], factor: int) -> dict[str, str]:
    cents = round(float(money["amount"]) * 100) * factor
    return _yuan(f"{cents // 100}.{cents % 100:02d}")


def _day(when: date) -> dict[str, int]:
    return {"year": when.year, "month": when.month, "day": when.day}


async def main() -> None:
    """Loads the demo company into the platform that the environment names."""
    company: Company = load()
    url, issuer = os.environ["CRM_URL"], os.environ["OIDC_ISSUER"]
    fake = Faker("zh_CN")
    fake.seed_instance(SEED)
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        api = Api(http, issuer, company, Secrets())
        # Drawn here, in one order, since the records themselves are made several at once.
        names = [fake.name() for _ in range(CONTACTS)]
        streets = [fake.street_address() for _ in range(ACCOUNTS)]
        await Demo(api, datetime.now(UTC).date(), names, streets).load()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except Away as away:
        sys.exit(str(away))
