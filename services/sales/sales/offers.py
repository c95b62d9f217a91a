"""Answers about offers that store nothing: configurations, comparisons, simulations."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import plain
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition
from crmkit.values import Money
from google.protobuf import json_format
from sqlalchemy import select

from sales.configuration import Choices, Shape
from sales.engine import Given, run
from sales.model.bundle import Bundle, invalid
from sales.model.discount_policy import DiscountPolicy
from sales.model.product import products
from sales.model.quote import Quote
from sales.model.quote_records import QuotePricing

SHOWN = 100
MOST_SIMULATED = 5000
_LINE_FIELDS = (
    "product", "bundle", "choices", "description", "quantity", "unit", "unit_list_price", "discount_percent",
    "manual_discount", "tax_rate", "net_amount", "free_with",
)  # fmt: skip
_QUOTE_FIELDS = (
    "currency", "terms", "valid_until_date", "order_discount", "order_discount_percent", "coupons", "list_total",
    "discount_total", "net_total", "tax_total", "gross_total",
)  # fmt: skip


async def configured(
    bundle: Bundle, request: pb.ConfigureBundleRequest, call: Call, channel: str = "", partner: str = ""
) -> pb.ConfigureBundleResponse:
    """The choices completed and checked, what else can be chosen, and the price, where we sell and through whom."""
    shape = await bundle.shape(call, today(call))
    answered = bundle.answers(request.answers, "answers")
    chosen = shape.completed([*request.choices, *answered])
    broken = shape.broken(chosen)
    if broken and not request.partial:
        raise invalid(shape, chosen, broken, call)
    reply = pb.ConfigureBundleResponse(
        choices=_choices(shape, chosen), broken=[call.text(one.zh, one.en) for one in broken]
    )
    unavailable = shape.unavailable(chosen)
    for key in shape.options:
        why = unavailable.get(key)
        reply.options.add(
            option=key,
            chosen=key in chosen,
            available=why is None,
            reason=call.text(why.zh, why.en) if why else "",
        )
    if broken:
        reply.nearest.extend(_choices(shape, shape.nearest(chosen) or {}))
        return reply
    reply.line.CopyFrom(await _priced_line(bundle, reply.choices, request, channel, partner, call))
    reply.digest = _digest(bundle, reply)
    return reply


async def _priced_line(
    bundle: Bundle,
    choices: Sequence[Any],
    request: pb.ConfigureBundleRequest,
    channel: str,
    partner: str,
    call: Call,
) -> Any:
    quote = Quote(
        account=request.account, currency=request.currency or "CNY", version_number=1, display_name="-", channel=channel,
        channel_partner=partner,
    )  # fmt: skip
    # A version that has left the sale is configured too, for the quotes that have it.
    quote.transient, quote.keeps = True, [bundle.name]
    line = pb.Quote.Line(bundle=bundle.name, quantity=request.quantity or "1", choices=choices)
    quote.lines = [line]
    await quote.complete(call)
    return quote.lines[0]


def _digest(bundle: Bundle, reply: pb.ConfigureBundleResponse) -> str:
    content = [bundle.name, *[json_format.MessageToDict(one) for one in (*reply.choices, reply.line)]]
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _choices(shape: Shape, chosen: Choices) -> list[Any]:
    return [pb.Quote.Choice(option=key, quantity=many) for key, many in shape.digestible(chosen)]


async def upgraded(bundle: Bundle, choices: Sequence[Any], call: Call) -> pb.UpgradeConfigurationResponse:
    """What stored choices would be under the version for sale, and what differs."""
    now = await bundle.for_sale(call)
    if now is None:
        raise FailedPrecondition("ILLEGAL_TRANSITION", state=bundle.state)
    before, after = await bundle.shape(call), await now.shape(call, today(call))
    chosen = before.completed(choices)
    kept = {key: many for key, many in chosen.items() if key in after.options}
    told: list[str] = []
    for key in chosen:
        if key not in after.options:
            told.append(call.text(f"“{before.label(key)}”已取消", f"{before.label(key)} is gone"))
        elif after.options[key].product != before.options[key].product:
            told.append(
                call.text(
                    f"“{before.label(key)}”改为“{after.label(key)}”",
                    f"{before.label(key)} is now {after.label(key)}",
                )
            )
    for key in after.options.keys() - before.options.keys():
        told.append(call.text(f"新增选项“{after.label(key)}”", f"{after.label(key)} is new"))
    if (now.price_mode, now.fixed_price, now.discount_percent) != (
        bundle.price_mode, bundle.fixed_price, bundle.discount_percent,
    ):  # fmt: skip
        told.append(call.text("计价方式已变化", "The way of pricing has changed"))
    broken = after.broken(kept)
    final = after.nearest(kept) if broken else kept
    return pb.UpgradeConfigurationResponse(
        bundle=now.name, version_number=now.version_number, differences=sorted(told),
        broken=[call.text(one.zh, one.en) for one in broken], choices=_choices(after, final or {}),
    )  # fmt: skip


def compared(before: Quote, after: Quote) -> pb.CompareQuoteResponse:
    """What differs between two versions: lines, steps of their prices, terms and totals."""
    old, new = ({line.key: line for line in quote.lines} for quote in (before, after))
    reply = pb.CompareQuoteResponse()
    for key in dict.fromkeys([*old, *new]):
        one, other = old.get(key), new.get(key)
        if one is None or other is None:
            line: Any = one or other
            kind = pb.CompareQuoteResponse.ADDED if one is None else pb.CompareQuoteResponse.REMOVED
            reply.lines.add(line=key, kind=kind, description=line.description)
            continue
        fields = differences(one, other, _LINE_FIELDS)
        steps = [
            pb.CompareQuoteResponse.Field(field=kind, before=first, after=second)
            for kind, first, second in _step_differences(one, other)
        ]
        if fields or steps:
            reply.lines.add(
                line=key,
                kind=pb.CompareQuoteResponse.CHANGED,
                description=other.description,
                fields=fields,
                steps=steps,
            )
    for name in _QUOTE_FIELDS:
        first, second = _text(getattr(before, name)), _text(getattr(after, name))
        if first != second:
            reply.fields.add(field=name, before=first, after=second)
    return reply


def differences(one: Any, other: Any, names: Sequence[str]) -> list[Any]:
    """The fields of these names that differ, as texts."""
    found: list[Any] = []
    for name in names:
        first, second = _text(getattr(one, name)), _text(getattr(other, name))
        if first != second:
            found.append(pb.CompareQuoteResponse.Field(field=name, before=first, after=second))
    return found


def _step_differences(one: Any, other: Any) -> list[tuple[str, str, str]]:
    steps = [
        {step.kind: f"{step.effect} {step.adjustment.amount}" for step in line.trace} for line in (one, other)
    ]
    return [
        (kind, steps[0].get(kind, ""), steps[1].get(kind, ""))
        for kind in dict.fromkeys([*steps[0], *steps[1]])
        if steps[0].get(kind) != steps[1].get(kind)
    ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Money):
        return f"{value.rounded().amount} {value.currency}"
    if hasattr(value, "currency_code"):
        return f"{value.amount} {value.currency_code}".strip()
    if isinstance(value, Decimal):
        return plain(value)
    if hasattr(value, "__iter__") and not isinstance(value, str):
        return ", ".join(_choice_text(item) for item in value)
    return str(value)


def _choice_text(item: Any) -> str:
    return f"{item.option} × {item.quantity}" if hasattr(item, "option") else str(item)


async def simulated(policy: DiscountPolicy, days: int, call: Call) -> pb.SimulatePolicyResponse:
    """Prices accepted quotes again, with the policy among those of then; as if it had been in force."""
    free = await products([policy.free_product], call)
    tried = replace(
        policy.policy(free.get(policy.free_product)), start=None, end=None, budget_left=None, name=policy.name
    )
    since = call.now - timedelta(days=days)
    statement = (
        select(Quote.id, Quote.number, QuotePricing.given)
        .join(QuotePricing, QuotePricing.quote == Quote.id)
        .where(Quote.state == "ACCEPTED", Quote.update_time >= since)
        .limit(MOST_SIMULATED)
    )
    reply, cost = pb.SimulatePolicyResponse(), defaultdict[str, Decimal](Decimal)
    found: list[tuple[Decimal, Any]] = []
    for key, number, stored in await call.db.execute(statement):
        given = Given.of_json(stored)
        others = tuple(one for one in given.policies if one.name != policy.root and one.name != policy.name)
        before, after = _net(given), _net(replace(given, policies=(*others, tried)))
        reply.quotes += 1
        if before != after:
            cost[given.currency] += before - after
            told = pb.SimulatePolicyResponse.Difference(quote=f"quotes/{key}", number=number)
            told.before.CopyFrom(Money(before, given.currency).message())
            told.after.CopyFrom(Money(after, given.currency).message())
            found.append((abs(before - after), told))
    found.sort(key=lambda one: (-one[0], one[1].quote))
    reply.changed = len(found)
    reply.differences.extend(told for _, told in found[:SHOWN])
    reply.cost.extend(Money(amount, currency).message() for currency, amount in sorted(cost.items()))
    return reply


def _net(given: Given) -> Decimal:
    return sum((line.net for line in run(given).lines), Decimal(0))
