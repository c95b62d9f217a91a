"""Many at once, foreign records and hostile values over HTTP, as docs of reliability list them."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter
from typing import Any
from uuid import uuid4

import httpx
import pytest
from local_platform.people import load

from tests.e2e.people import Person, eventually

SignIn = Callable[..., Person]


@pytest.fixture(scope="module")
def account(person: SignIn) -> dict[str, Any]:
    """A customer of sales1."""
    return person("sales1").create("accounts", displayName=f"并发验收{uuid4().hex[:8]}有限公司")


@pytest.fixture(scope="module")
def foreign(person: SignIn) -> dict[str, Any]:
    """A customer of sales2, whom sales1 does not see."""
    return person("sales2").create(
        "accounts", displayName=f"他人客户{uuid4().hex[:8]}有限公司", background="秘密背景"
    )


def deal(
    account: dict[str, Any], title: str, amount: str = "1000.00", currency: str = "CNY"
) -> dict[str, Any]:
    """A whole opportunity."""
    return {
        "displayName": title,
        "account": account["name"],
        "need": "两台设备",
        "amount": {"currencyCode": currency, "amount": amount},
        "expectedCloseDate": {"year": 2027, "month": 3, "day": 31},
    }


def at_once(person: Person, calls: list[dict[str, Any]]) -> list[httpx.Response]:
    """Sends all calls in parallel, each on a connection of its own."""
    headers = {"Authorization": f"Bearer {person.token()}"}

    def send(call: dict[str, Any]) -> httpx.Response:
        with httpx.Client(base_url=person.http.base_url, timeout=30) as http:
            return http.request(
                call.pop("method"), call.pop("path"), headers=headers | call.pop("headers"), **call
            )

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(send, calls))


def violated(answer: httpx.Response) -> set[str]:
    details: list[dict[str, Any]] = answer.json()["error"]["details"]
    return {violation["field"] for detail in details for violation in detail.get("fieldViolations", [])}


def told(answer: httpx.Response, name: str) -> str:
    """What an answer says, without what it was asked for and the number of the request."""
    return re.sub(r'"requestId":"\w+"', "", answer.text.replace(name, ""))


def test_fifty_equal_creates_with_one_key_make_one_deal(person: SignIn, account: dict[str, Any]) -> None:
    sales, key, title = person("sales1"), uuid4().hex, f"并发商机{uuid4().hex[:8]}"
    body = deal(account, title)
    call = {"method": "POST", "path": "/v1/opportunities", "json": body, "headers": {"Idempotency-Key": key}}
    answers = at_once(sales, [dict(call) for _ in range(50)])
    # Who waits longer for the first than it may is told to ask again, and then gets the same.
    good = [answer for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409, 429, 503}, answers[0].text
    assert len({answer.json()["name"] for answer in good}) == 1
    assert sum(answer.headers.get("Idempotent-Replayed") == "true" for answer in good) == len(good) - 1
    assert len(sales.list("opportunities", filter=f'displayName = "{title}"')) == 1


def test_of_twenty_changes_from_one_state_one_counts(person: SignIn, account: dict[str, Any]) -> None:
    sales = person("sales1")
    seen = sales.read(account["name"])
    answers = at_once(
        sales,
        [
            {
                "method": "PATCH",
                "path": f"/v1/{account['name']}",
                "json": {"background": f"第{number}次"},
                "headers": {"If-Match": f'"{seen["etag"]}"', "Idempotency-Key": uuid4().hex},
            }
            for number in range(20)
        ],
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 19
    assert int(sales.read(account["name"])["etag"]) == int(seen["etag"]) + 1


@pytest.mark.capability("a.scope")
def test_a_foreign_record_answers_like_none_and_as_fast(person: SignIn, foreign: dict[str, Any]) -> None:
    sales, nothing = person("sales1"), f"accounts/{foreign['name'].split('/')[1][:-6]}ffffff"

    def asked(name: str) -> tuple[float, httpx.Response]:
        begun = perf_counter()
        answer = sales.ask("GET", f"/v1/{name}")
        return perf_counter() - begun, answer

    pairs = [(asked(foreign["name"]), asked(nothing)) for _ in range(60)]
    (_, hidden), (_, missing) = pairs[0]
    assert (hidden.status_code, missing.status_code) == (404, 404)
    assert told(hidden, foreign["name"]) == told(missing, nothing)
    one, other = (median(pair[place][0] for pair in pairs) for place in (0, 1))
    assert abs(one - other) < 0.5 * max(one, other)


@pytest.mark.capability("a.scope")
def test_nothing_of_a_foreign_record_shows_through_any_list(person: SignIn, foreign: dict[str, Any]) -> None:
    sales = person("sales1")
    tests = [
        {"filter": f'displayName = "{foreign["displayName"]}" OR displayName != ""', "pageSize": 200},
        {"filter": f'name = "{foreign["name"]}"'},
        {"q": foreign["displayName"][4:10]},
        {"filter": 'background = "秘密背景"', "orderBy": "background"},
    ]
    for query in tests:
        assert foreign["name"] not in {row["name"] for row in sales.list("accounts", **query)}
    figures = sales.take("GET", "/v1/accounts:aggregate", params={"filter": f'name = "{foreign["name"]}"'})
    assert foreign["name"] not in str(figures)
    assert all(int(row.get("count", 0)) == 0 for row in figures.get("rows", []))


def test_one_foreign_record_refuses_the_whole_batch(
    person: SignIn, account: dict[str, Any], foreign: dict[str, Any]
) -> None:
    sales = person("sales1")
    mine = sales.read(account["name"])
    body = {"requests": [{"account": {"name": name, "background": "批量"}, "updateMask": "background"}
                         for name in (mine["name"], foreign["name"])]}  # fmt: skip
    answer = sales.ask("POST", "/v1/accounts:batchUpdate", json=body)
    assert answer.status_code == 404
    assert sales.read(account["name"]) == mine
    assert person("sales2").read(foreign["name"])["background"] == "秘密背景"


@pytest.mark.parametrize(
    "text", ["' OR 1=1--", "%", "_", "\\", "'; SELECT pg_sleep(60)--", '"; DROP TABLE accounts; --', "${7*7}"]
)
def test_what_looks_like_a_query_is_only_text(person: SignIn, text: str) -> None:
    sales = person("sales1")
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    begun = perf_counter()
    assert sales.list("accounts", filter=f'displayName = "{quoted}"') == []
    for query in ({"q": text}, {"filter": f'background = "{quoted}"'}):
        assert sales.ask("GET", "/v1/accounts", params=query).status_code in (200, 400, 422)
    assert sales.ask("GET", "/v1/accounts", params={"orderBy": text}).status_code == 400
    assert perf_counter() - begun < 50
    made = sales.create("accounts", displayName=f"{text}{uuid4().hex[:6]}")
    assert sales.read(made["name"])["displayName"] == made["displayName"]
    assert text in made["displayName"]


@pytest.mark.parametrize(
    "amount", ["NaN", "Infinity", "1e400", "9" * 5000, str(2**63), "1,5", "-0.01", "0x10", "١٢", " 1", ""]
)
def test_no_odd_amount_gets_in(person: SignIn, account: dict[str, Any], amount: str) -> None:
    answer = person("sales1").ask("POST", "/v1/opportunities", json=deal(account, "数", amount))
    assert (answer.status_code, violated(answer)) == (422, {"opportunity.amount"})
    assert len(amount) < 3 or amount not in answer.text


@pytest.mark.parametrize(("currency", "amount"), [("JPY", "100.5"), ("CNY", "0.305"), ("XXY", "1.00")])
def test_money_has_the_places_of_its_currency(
    person: SignIn, account: dict[str, Any], currency: str, amount: str
) -> None:
    answer = person("sales1").ask("POST", "/v1/opportunities", json=deal(account, "位", amount, currency))
    assert (answer.status_code, violated(answer)) == (422, {"opportunity.amount"})


def test_a_key_does_only_what_it_may_until_it_is_revoked(person: SignIn, foreign: dict[str, Any]) -> None:
    admin = person("admin")
    owner = load().people["sales1"].employee
    made = admin.create(
        "apiKeys", displayName=f"合作伙伴{uuid4().hex[:6]}", owner=owner, permissions=["customer.accounts.read"],
        expireTime="2027-03-01T00:00:00Z",
    )  # fmt: skip
    secret = made["secret"]

    def ask(method: str, path: str, **options: Any) -> int:
        return admin.http.request(method, path, headers={"X-API-Key": secret}, **options).status_code

    eventually(lambda: ask("GET", "/v1/accounts") == 200, "the key works", 5)
    assert ask("POST", "/v1/accounts", json={"displayName": "钥匙不能建"}) == 403
    assert ask("GET", f"/v1/{foreign['name']}") == 404
    assert admin.http.get("/v1/accounts", params={"key": secret}).status_code == 401
    assert "secret" not in admin.read(made["name"])
    admin.do(admin.read(made["name"]), "revoke")
    eventually(lambda: ask("GET", "/v1/accounts") == 401, "the key is refused", 5)
