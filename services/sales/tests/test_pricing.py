"""The reckoning of lines, without any I/O."""

from decimal import Decimal

from crmkit.values import Money, places
from hypothesis import given
from hypothesis import strategies as st
from sales.pricing import line_amounts, share, totals, without_tax

quantities = st.decimals("0.000001", "99999999999999", places=6)
percents = st.decimals(0, 100, places=4)
currencies = st.sampled_from(["CNY", "JPY", "KWD"])


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[tuple[Decimal, Money, Decimal, Decimal]]]:
    """A currency, and lines of quantity, price, discount and tax rate."""
    currency = draw(currencies)
    prices = st.decimals(0, 9999999, places=places(currency))
    line = st.tuples(quantities, prices.map(lambda amount: Money(amount, currency)), percents, percents)
    return currency, draw(st.lists(line, max_size=12))


@given(documents())
def test_the_lines_sum_up_to_the_totals_exactly(
    document: tuple[str, list[tuple[Decimal, Money, Decimal, Decimal]]],
) -> None:
    currency, lines = document
    amounts = [line_amounts(*line) for line in lines]
    total = totals(amounts, currency)
    smallest = Decimal(1).scaleb(-places(currency))
    for one in [*amounts, total]:
        assert one.listed - one.discount == one.net
        assert one.net + one.tax == one.gross
        for money in (one.listed, one.discount, one.net, one.tax, one.gross):
            assert money.amount == money.amount.quantize(smallest)
            assert money.amount >= 0
    for part in ("listed", "discount", "net", "tax", "gross"):
        assert getattr(total, part).amount == sum(getattr(one, part).amount for one in amounts)


@given(quantities, st.decimals(0, 9999999, places=2), percents)
def test_a_full_discount_leaves_exactly_nothing(quantity: Decimal, price: Decimal, rate: Decimal) -> None:
    amounts = line_amounts(quantity, Money(price, "CNY"), Decimal(100), rate)
    assert (amounts.net.amount, amounts.tax.amount, amounts.gross.amount) == (0, 0, 0)


def test_half_a_cent_goes_up() -> None:
    assert share(Money.of("0.50", "CNY"), Decimal(1)) == Money.of("0.01", "CNY")
    assert share(Money.of("1234.50", "CNY"), Decimal(25)) == Money.of("308.63", "CNY")
    assert share(Money.of("50", "JPY"), Decimal(1)) == Money.of("1", "JPY")
    assert share(Money.of("0.050", "KWD"), Decimal(1)) == Money.of("0.001", "KWD")


def test_two_deals_are_weighted_one_by_one_and_then_summed() -> None:
    assert share(Money.of("1234.50", "CNY"), Decimal(25)) * 2 == Money.of("617.26", "CNY")


def test_a_price_with_tax_gives_its_tax_back() -> None:
    assert without_tax(Money.of("113.00", "CNY"), Decimal(13)) == Money.of("100.00", "CNY")


def test_twelve_at_a_hundred_less_a_tenth_with_thirteen_percent() -> None:
    amounts = line_amounts(Decimal(12), Money.of("100.00", "CNY"), Decimal(10), Decimal(13))
    assert [str(m.amount) for m in (amounts.listed, amounts.discount, amounts.net, amounts.tax, amounts.gross)] == [
        "1200.00", "120.00", "1080.00", "140.40", "1220.40",
    ]  # fmt: skip
