"""What bad input gets: the right status, a reason, a text in the caller's language, and no change."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import local_date

from tests.e2e.people import Person, Refusal

SignIn = Callable[..., Person]


@pytest.fixture(scope="module")
def account(person: SignIn) -> dict[str, Any]:
    """A customer of sales1."""
    return person("sales1").create("accounts", displayName=f"输入校验{uuid4().hex[:8]}有限公司")


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"displayName": 5}, "account.displayName", "WRONG_TYPE"),
        ({"displayName": "甲", "noSuchField": 1}, "account.noSuchField", "UNKNOWN_FIELD"),
        ({"industry": "制造业"}, "account.displayName", "REQUIRED"),
        ({"displayName": "长" * 201}, "account.displayName", "TOO_LONG"),
        ({"displayName": "甲", "kind": "ROBOT"}, "account.kind", "UNKNOWN_VALUE"),
        (
            {"displayName": "甲", "annualRevenue": {"currencyCode": "CNY", "amount": "-1.00"}},
            "account.annualRevenue",
            "TOO_SMALL",
        ),
        (
            {"displayName": "甲", "annualRevenue": {"currencyCode": "CNY", "amount": "1.234"}},
            "account.annualRevenue",
            "TOO_MANY_PLACES",
        ),
        ({"displayName": "甲", "taxId": "91350100M000100Y4Z"}, "account.taxId", "TAX_ID_INVALID"),
    ],
)
def test_a_bad_field_is_named(person: SignIn, fields: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(Refusal) as refusal:
        person("sales1").create("accounts", **fields)
    assert (refusal.value.status, refusal.value.reason) == (422, "VALIDATION")
    assert refusal.value.fields[field] == reason


def test_a_day_that_does_not_exist_is_refused(person: SignIn, account: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refusal:
        person("sales1").create(
            "opportunities",
            displayName="日期",
            account=account["name"],
            expectedCloseDate={"year": 2026, "month": 2, "day": 30},
        )
    assert refusal.value.fields["opportunity.expectedCloseDate"] == "BAD_DATE"


def test_one_document_has_one_currency(person: SignIn, account: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refusal:
        person("sales1").create(
            "quotes",
            account=account["name"],
            currency="CNY",
            lines=[
                {
                    "description": "设备",
                    "quantity": "1",
                    "unitPrice": {"currencyCode": "USD", "amount": "10.00"},
                }
            ],
        )
    assert (refusal.value.status, refusal.value.reason) == (422, "CURRENCY_MISMATCH")


def test_a_reference_to_nothing_is_refused(person: SignIn) -> None:
    nothing = "accounts/0190ffff-0000-7000-8000-000000000000"
    with pytest.raises(Refusal) as refusal:
        person("sales1").create("opportunities", displayName="无主", account=nothing)
    assert (refusal.value.status, refusal.value.reason) == (422, "UNKNOWN_REFERENCE")


def test_a_stale_etag_changes_nothing(person: SignIn, account: dict[str, Any]) -> None:
    sales = person("sales1")
    seen = sales.read(account["name"])
    changed = sales.change(seen, background="第一次修改")
    with pytest.raises(Refusal) as refusal:
        sales.change(seen, background="用旧版本再改")
    assert (refusal.value.status, refusal.value.reason) == (412, "ETAG_MISMATCH")
    assert sales.read(account["name"]) == changed


def test_a_key_means_one_body(person: SignIn) -> None:
    sales, key = person("sales1"), uuid4().hex
    body = {"displayName": f"幂等{key[:8]}有限公司"}
    first = sales.ask("POST", "/v1/accounts", json=body, headers={"Idempotency-Key": key})
    again = sales.ask("POST", "/v1/accounts", json=body, headers={"Idempotency-Key": key})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    other = sales.ask(
        "POST", "/v1/accounts", json={"displayName": "另一个"}, headers={"Idempotency-Key": key}
    )
    assert (other.status_code, other.json()["error"]["details"][0]["reason"]) == (
        422,
        "IDEMPOTENCY_KEY_REUSED",
    )


def test_money_needs_a_key(person: SignIn, account: dict[str, Any]) -> None:
    today = local_date()
    body = {"account": account["name"], "method": "CASH", "amount": {"currencyCode": "CNY", "amount": "1.00"},
            "date": {"year": today.year, "month": today.month, "day": today.day}}  # fmt: skip
    finance = person("finance")
    answer = finance.http.post(
        "/v1/payments", json=body, headers={"Authorization": f"Bearer {finance.token()}"}
    )
    assert (answer.status_code, answer.json()["error"]["details"][0]["reason"]) == (
        400,
        "IDEMPOTENCY_KEY_REQUIRED",
    )


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ({"pageToken": "made-up"}, 400, "PAGE_TOKEN_INVALID"),
        ({"filter": 'displayName = "甲" AND ('}, 400, "FILTER_INVALID"),
        ({"filter": "noSuchField = 1"}, 400, "FILTER_INVALID"),
        ({"orderBy": "noSuchField"}, 400, "ORDER_BY_INVALID"),
    ],
)
def test_a_bad_query_is_refused(person: SignIn, query: dict[str, str], status: int, reason: str) -> None:
    with pytest.raises(Refusal) as refusal:
        person("sales1").list("accounts", **query)
    assert (refusal.value.status, refusal.value.reason) == (status, reason)


def test_a_filter_error_names_the_position_in_the_callers_language(person: SignIn) -> None:
    texts = {}
    for locale in ("zh-CN", "en"):
        with pytest.raises(Refusal) as refusal:
            person("sales1", locale).list("accounts", filter="state = = 1")
        texts[locale] = refusal.value.message
    assert "第 9 个字符" in texts["zh-CN"]
    assert "character 9" in texts["en"]


def test_an_illegal_transition_changes_nothing(person: SignIn, account: dict[str, Any]) -> None:
    sales = person("sales1")
    opportunity = sales.create(
        "opportunities",
        displayName="错误的步骤",
        account=account["name"],
        need="设备",
        amount={"currencyCode": "CNY", "amount": "1000.00"},
        expectedCloseDate={"year": 2027, "month": 1, "day": 31},
    )
    lost = sales.do(opportunity, "lose", reason="PRICE")
    with pytest.raises(Refusal) as refusal:
        sales.do(lost, "win")
    assert (refusal.value.status, refusal.value.reason) == (409, "ILLEGAL_TRANSITION")
    assert sales.read(lost["name"]) == lost


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"displayName": "\xff\xfe"}', 400),
        (b'{"displayName": "a", "displayName": "b"}', 400),
        (b'{"displayName": "a"', 400),
        (b'{"displayName": "\\u0000"}', 400),
        (b'{"displayName": "' + b"x" * (1 << 20) + b'"}', 413),
        (b'{"employeeCount": 1e400, "displayName": "a"}', 400),
    ],
)
def test_what_cannot_be_read_is_refused_without_echo(person: SignIn, content: bytes, status: int) -> None:
    answer = person("sales1").ask(
        "POST", "/v1/accounts", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status
    assert "traceback" not in answer.text.lower()
    assert "xxxxxxxx" not in answer.text


def test_nobody_comes_in_without_a_valid_token(person: SignIn) -> None:
    somebody = person("sales1")
    header, payload, signature = somebody.token().split(".")
    for token in ("x", f"{header}.{payload}.{signature[:-4]}AAAA", f"eyJhbGciOiJub25lIn0.{payload}."):
        answer = somebody.http.get("/v1/accounts", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, token[:20]
        assert "www-authenticate" in answer.headers


def test_without_permission_is_403_and_out_of_scope_404(person: SignIn, account: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refusal:
        person("agent").create("payments", account=account["name"])
    assert (refusal.value.status, refusal.value.reason) == (403, "PERMISSION_DENIED")
    with pytest.raises(Refusal) as hidden:
        person("sales2").read(account["name"])
    with pytest.raises(Refusal) as absent:
        person("sales2").read("accounts/0190ffff-0000-7000-8000-000000000001")
    assert (hidden.value.status, hidden.value.reason, hidden.value.message) == (
        404,
        "NOT_FOUND",
        absent.value.message,
    )
    assert person("manager").read(account["name"])["name"] == account["name"]


def test_a_date_far_ahead_of_an_interaction_is_refused(person: SignIn, account: dict[str, Any]) -> None:
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat().replace("+00:00", "Z")
    with pytest.raises(Refusal) as refusal:
        person("sales1").create(
            "interactions",
            account=account["name"],
            channel="CALL",
            startTime=later,
            summary="还没有发生的电话",
        )
    assert refusal.value.fields["interaction.startTime"] == "START_IN_FUTURE"
