"""The conformance suite goes red when a rule of the kit is broken on purpose."""

from collections.abc import Callable
from typing import Any

import pytest
from crmkit import listing
from crmkit.access import Reach
from crmkit.auth import Caller
from crmkit.resource import Resource
from crmkit.rpc import Pipeline
from crmkit.testing import Refused, Service, plans
from crmkit.testing.conformance import At, Conformance
from customer.model.account import Account

Break = Callable[[pytest.MonkeyPatch], None]


def stale_etags_pass(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Resource, "check_etag", lambda *_: None)


def everybody_may_everything(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Caller, "may", lambda *_: True)


def everybody_sees_everything(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Caller, "reach", lambda *_: Reach(everything=True))


def replays_run_again(patch: pytest.MonkeyPatch) -> None:
    transact = Pipeline._transact  # pyright: ignore[reportPrivateUsage]

    async def without_key(pipeline: Pipeline, method: Any, request: Any, data: bytes, caller: Caller) -> Any:
        request.request_id = ""
        return await transact(pipeline, method, request, data, caller)

    patch.setattr(Pipeline, "_transact", without_key)


def tokens_fit_every_query(patch: pytest.MonkeyPatch) -> None:
    opened = listing.open_token
    seal = listing.seal_token
    anyone = Caller(actor="", principal="anyone")
    patch.setattr(listing, "open_token", lambda token, _, __, secret: opened(token, "", anyone, secret))
    patch.setattr(listing, "seal_token", lambda key, _, __, secret: seal(key, "", anyone, secret))


def nothing_is_indexed(patch: pytest.MonkeyPatch) -> None:
    let_repeat = plans.let_repeat

    async def without_indexes(connection: Any, table: str) -> None:
        await let_repeat(connection, table)
        others = (
            "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = $1::regclass AND NOT indisprimary"
        )
        for (index,) in await connection.fetch(others, table):
            await connection.execute(f"DROP INDEX {index}")

    patch.setattr(plans, "let_repeat", without_indexes)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (stale_etags_pass, Conformance.test_a_stale_etag_is_refused_and_changes_nothing),
        (everybody_may_everything, Conformance.test_without_permission_nothing_answers),
        (everybody_sees_everything, Conformance.test_an_invisible_record_does_not_exist_on_any_path),
        (replays_run_again, Conformance.test_the_same_key_gives_the_same_reply_and_another_body_is_refused),
        (nothing_is_indexed, Conformance.test_a_list_and_a_search_read_little_more_than_they_show),
        (tokens_fit_every_query, Conformance.test_a_page_token_belongs_to_its_query_and_caller),
    ],
    ids=lambda given: given.__name__,
)
async def test_a_broken_rule_is_found(
    customer: Service, monkeypatch: pytest.MonkeyPatch, broken: Break, check: Callable[..., Any]
) -> None:
    # What is asked of the whole service is asked once, not of each of its resources.
    of_all = check is Conformance.test_without_permission_nothing_answers
    asked = customer if of_all else At(customer, Account, {})
    await check(Conformance(), asked)
    broken(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception, Refused)):
        await check(Conformance(), asked)
