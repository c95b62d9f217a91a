"""What is driven: a scenario yields the requests of one operation and is sent the body of each answer."""

import json
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote
from uuid import UUID

CITIES = [
    "上海",
    "北京",
    "广州",
    "深圳",
    "杭州",
    "苏州",
    "南京",
    "成都",
    "武汉",
    "西安",
    "青岛",
    "宁波",
    "厦门",
    "长沙",
    "合肥",
    "重庆",
]
TRADES = [
    "机械",
    "电子",
    "贸易",
    "科技",
    "物流",
    "食品",
    "化工",
    "建材",
    "医疗",
    "纺织",
    "能源",
    "教育",
    "环保",
    "传媒",
    "汽车",
    "软件",
]
SYLLABLES = "安博创达恩方冠海恒华嘉京凯朗美宁欧普启瑞盛泰同维祥信扬益远泽正中卓亚邦晨德福高宏金君康力龙明南鹏清荣森天万伟新兴旭雅永宇云展志智众"


@dataclass(frozen=True)
class Request:
    """One HTTP request; `key` is its Idempotency-Key."""

    method: str
    path: str
    body: Any = None
    key: str = ""


@dataclass(frozen=True)
class Told:
    """The invoice of an order, once the event stream has told of it; its answer is the invoice."""

    order: str


class Known(Protocol):
    """What a scenario may choose from."""

    names: list[str]
    words: list[str]


Steps = Generator[Request | Told, bytes, None]


def company(chance: random.Random) -> str:
    """A company's name; two of fifty thousand are hardly ever the same."""
    brand = "".join(chance.choices(SYLLABLES, k=4))
    return f"{chance.choice(CITIES)}{brand}{chance.choice(TRADES)}有限公司"


def _key(chance: random.Random) -> str:
    return str(UUID(int=chance.getrandbits(128), version=4))


def get(known: Known, chance: random.Random) -> Steps:
    """An account by its name."""
    yield Request("GET", f"/v1/{chance.choice(known.names)}")


def create(known: Known, chance: random.Random) -> Steps:
    """An account with what a representative types."""
    phone = f"13{chance.randrange(10**9):09}"
    account = {"displayName": company(chance), "source": "WEBSITE", "phones": [{"number": phone}]}
    yield Request("POST", "/v1/accounts", account, _key(chance))


def search(known: Known, chance: random.Random) -> Steps:
    """Twenty accounts by a fragment of their name."""
    yield Request("GET", f"/v1/accounts?pageSize=20&q={quote(chance.choice(known.words))}")


def page(known: Known, chance: random.Random) -> Steps:
    """The first page of accounts."""
    yield Request("GET", "/v1/accounts?pageSize=20")


def deal(known: Known, chance: random.Random) -> Steps:
    """An opportunity made, moved a stage and won: three calls."""
    opportunity = {
        "displayName": f"{company(chance)}采购",
        "account": chance.choice(known.names),
        "amount": {"currencyCode": "CNY", "amount": str(chance.randrange(1000, 1000000))},
        "expectedCloseDate": {"year": 2027, "month": 3, "day": 31},
        "need": "年度采购",
    }
    made = json.loads((yield Request("POST", "/v1/opportunities", opportunity, _key(chance))))
    yield Request("POST", f"/v1/{made['name']}:advance", {}, _key(chance))
    yield Request("POST", f"/v1/{made['name']}:win", {}, _key(chance))


def order(known: Known, chance: random.Random) -> Steps:
    """An order of three lines, placed, and the invoice that billing issues for it by the bus."""
    _, asked = _order(known, chance)
    made = json.loads((yield Request("POST", "/v1/orders", asked | {"invoicing": "ORDERED"}, _key(chance))))
    yield Request("POST", f"/v1/{made['name']}:submit", {}, _key(chance))
    yield Told(made["name"])


def delivery(known: Known, chance: random.Random) -> Steps:
    """An order of three lines up to its accepted delivery, and the invoice that follows by the bus, issued."""
    account, asked = _order(known, chance)
    made = json.loads((yield Request("POST", "/v1/orders", asked, _key(chance))))
    yield Request("POST", f"/v1/{made['name']}:submit", {}, _key(chance))
    yield Request("POST", f"/v1/{made['name']}:start", {}, _key(chance))
    lines = [{"order": made["name"], "item": item["key"], "quantity": "2"} for item in made["items"]]
    body = {"account": account, "lines": lines}
    sent = json.loads((yield Request("POST", "/v1/deliveries", body, _key(chance))))
    for verb, said in (("ready", {}), ("ship", {"carrier": "顺丰"}), ("confirm", {"signatory": "钱进"})):
        yield Request("POST", f"/v1/{sent['name']}:{verb}", said, _key(chance))
    invoice = json.loads((yield Told(made["name"])))
    yield Request("POST", f"/v1/{invoice['name']}:issue", {}, _key(chance))


def _order(known: Known, chance: random.Random) -> tuple[str, dict[str, Any]]:
    account = chance.choice(known.names)
    items = [
        {
            "description": f"产品{number}",
            "quantity": "2",
            "unit": "件",
            "unitPrice": {"currencyCode": "CNY", "amount": str(chance.randrange(10, 1000))},
            "taxRate": "13",
        }
        for number in range(3)
    ]
    return account, {"account": account, "currency": "CNY", "items": items}


SCENARIOS: dict[str, Callable[[Known, random.Random], Steps]] = {
    "get": get,
    "create": create,
    "search": search,
    "list": page,
    "deal": deal,
    "order": order,
    "delivery": delivery,
}
# Those that wait for the event stream.
TOLD = frozenset(["order", "delivery"])
