"""What the demo company has around its deals: a public sea with rules, prices with policies, rivals, visits, a call list."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Protocol

WAITING = [
    "苏州启明包装机械",
    "杭州云帆电子商务",
    "宁波东港模具",
    "无锡卓越轴承",
    "北京新源环保设备",
    "天津海河食品机械",
]
RIVALS = [
    ("锐科自动化", "https://ruike.example", "价格低 10% 左右，本地服务网点少。强调总体拥有成本与响应时间。"),
    ("德联智能装备", "https://delian.example", "品牌强、交期长。以交付周期和定制能力取胜。"),
    ("宏达系统集成", "https://hongda.example", "擅长软件，硬件外购。演示整线集成与单一责任方。"),
    ("北辰科技", "https://beichen.example", "北方客户多，报价灵活。尽早接触决策人并锁定技术指标。"),
]
PURPOSES = ["方案汇报", "现场勘察", "合同条款沟通", "设备验收", "客户回访", "高层拜访"]
# Where customers of the demo are: two districts of Shanghai, Suzhou, Hangzhou.
PLACES = [(31.2304, 121.4737), (31.2204, 121.5440), (31.2990, 120.5853), (30.2741, 120.1551)]
SCRIPT = [
    {
        "key": "hello",
        "text": "您好，我是关系科技的客户经理，想了解一下贵公司的设备使用情况。",
        "question": "近期有产线改造或设备更新的计划吗？",
        "field": "need",
        "branches": [{"answer": "有计划", "next": "when"}, {"answer": "暂时没有", "next": "later"}],
    },
    {
        "key": "when",
        "text": "了解，我们可以安排工程师上门评估。",
        "question": "方便的时间是？",
        "field": "when",
    },
    {
        "key": "later",
        "text": "好的，之后有需要随时联系我们。",
        "question": "何时再联系您合适？",
        "field": "when",
    },
]
FAQ = [
    {"question": "保修多久？", "answer": "整机两年，核心部件三年。"},
    {"question": "交付周期多长？", "answer": "标准型号四周，定制型号八到十二周。"},
]


class Caller(Protocol):
    """As much of the API as is needed here."""

    async def call(self, who: str, method: str, path: str) -> Any:
        """The body of a good answer."""
        ...

    async def create(self, who: str, collection: str, key: str, **fields: Any) -> dict[str, Any]:
        """A record made once."""
        ...

    async def do(self, who: str, record: dict[str, Any], verb: str, **fields: Any) -> dict[str, Any]:
        """A verb on a record."""
        ...


async def sea(api: Caller, managers: list[str]) -> None:
    """Customers that wait for somebody, and when others come to them."""
    pool = await api.create(
        "admin", "pools", "east", displayName="华东公海", memberRoles=["sales_representative"], managers=managers,
        hiddenFields=["phone", "email"],
    )  # fmt: skip
    clause = {
        "key": "F-180", "displayName": "一百八十天没有跟进的客户退回公海", "clocks": [{"kind": "NO_FOLLOW_UP", "days": 180}],
    }  # fmt: skip
    rule = await api.create(
        "admin", "poolRules", "east", displayName="华东公海规则", pool=pool["name"], clauses=[clause],
        claim={"perDay": 5, "perMonth": 40, "previousOwnerDays": 30}, warnDays=["30", "7"],
    )  # fmt: skip
    if rule["state"] == "DRAFT":
        await _put_in_force(api, rule)
    for number, display_name in enumerate(WAITING):
        phone = {"number": f"+8613600{number:02d}{4700 + number * 131}", "primary": True, "valid": True}
        await api.create(
            "admin", "accounts", f"sea-{number}", displayName=f"{display_name}有限公司", pool=pool["name"],
            industry="MANUFACTURING", level="C", source="EXHIBITION", phones=[phone],
        )  # fmt: skip


async def _put_in_force(api: Caller, rule: dict[str, Any]) -> None:
    """Rules are tried on the past before they count."""
    await api.do("admin", rule, "simulate", days=30)
    for _ in range(60):
        rule = await api.call("admin", "GET", f"/v1/{rule['name']}")
        if rule.get("simulation", {}).get("state") == "DONE":
            await api.do("admin", rule, "activate")
            return
        await asyncio.sleep(0.5)


async def prices(api: Caller, today: date, products: list[dict[str, Any]]) -> None:
    """A promotion by its code, and a discount for many."""
    training = next(product for product in products if product["code"] == "GX-600")
    policies: list[dict[str, Any]] = [
        {"displayName": "年终促销", "label": "年终优惠", "kind": "PROMOTION", "percent": "5", "coupon": "GX-YEAR-END",
         "validToDate": _day(today + timedelta(days=90))},
        {"displayName": "培训批量折扣", "label": "批量优惠", "kind": "VOLUME", "products": [training["name"]],
         "tiers": [{"fromQuantity": "10", "percent": "5"}, {"fromQuantity": "20", "percent": "8"}]},
    ]  # fmt: skip
    for number, policy in enumerate(policies):
        made = await api.create("admin", "discountPolicies", str(number), **policy)
        if made["state"] == "DRAFT":
            await api.do("admin", made, "activate")


async def rivals(api: Caller, today: date) -> list[str]:
    """Who else sells, and what is said to that."""
    names = list[str]()
    for number, (display_name, website, card) in enumerate(RIVALS):
        news = {
            "text": "发布新一代产品线。",
            "source": "行业展会",
            "date": _day(today - timedelta(days=20 + number)),
        }
        made = await api.create(
            "manager", "competitors", str(number), displayName=display_name, website=website, battleCard=card, news=[news]
        )  # fmt: skip
        names.append(made["name"])
    return names


async def visits(api: Caller, today: date, customers: list[tuple[str, dict[str, Any]]]) -> None:
    """Three visits of each salesperson on this and the next days; `customers` are theirs."""
    for number, (who, account) in enumerate(customers):
        # By the clock of Shanghai: nine, eleven, two in the afternoon.
        hour = (1, 3, 6)[number % 3]
        when = datetime.combine(today + timedelta(days=number // 3 % 3), time(hour), UTC)
        latitude, longitude = PLACES[number % len(PLACES)]
        await api.create(
            who, "visits", str(number), account=account["name"], purpose=PURPOSES[number % len(PURPOSES)],
            plannedTime=when.isoformat().replace("+00:00", "Z"), durationMinutes=60,
            position={"latitude": latitude + number * 0.003, "longitude": longitude},
        )  # fmt: skip


async def calls(api: Caller, agents: list[str], leads: list[str]) -> None:
    """Leads to call, and what to say to them."""
    script = await api.create(
        "manager", "callScripts", "care", displayName="老客户回访话术", nodes=SCRIPT, faq=FAQ
    )
    if script["state"] == "DRAFT":
        script = await api.do("manager", script, "activate")
    book = await api.create(
        "manager", "callLists", "care", displayName="线索首次联系", script=script["name"], subjects=leads,
        members=[{"employee": agent} for agent in agents], collaborators=agents,
    )  # fmt: skip
    if book["state"] == "DRAFT":
        await api.do("manager", book, "generate")
        await api.do("manager", book, "distribute", method="EVEN")
        await api.do("manager", book, "start")


def _day(when: date) -> dict[str, int]:
    return {"year": when.year, "month": when.month, "day": when.day}
