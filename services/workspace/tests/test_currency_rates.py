"""Exchange rates, through the front door and in the configuration bucket."""

from typing import Any

import pytest
from crmkit.testing import Refused, Service


async def test_rates_are_kept_by_day_and_told_to_all_services(workspace: Service) -> None:
    async def keep(rate: str, day: int, **fields: Any) -> Any:
        date = {"year": 2026, "month": 11, "day": day}
        body = {"fromCurrency": "CHF", "toCurrency": "NOK", "rateDate": date, "rate": rate, **fields}
        return await workspace.admin.CreateCurrencyRate(currencyRate=body)

    async def told(*rates: list[str]) -> None:
        def there() -> bool:
            return workspace.running.config.get("currencyRate.CHF-NOK") == {"rates": list(rates)}

        await workspace.eventually(there)

    later = await keep("12.61", 20)
    assert later.pair == "CHF-NOK"
    await keep("12.5", 2)
    await told(["2026-11-02", "12.5"], ["2026-11-20", "12.61"])
    with pytest.raises(Refused) as refused:
        await keep("13", 20)
    assert refused.value.reason == "ALREADY_EXISTS"
    for fields, path in (
        ({"rate": "0"}, "currency_rate.rate"), ({"toCurrency": "CHF"}, "currency_rate.to_currency"),
    ):  # fmt: skip
        with pytest.raises(Refused) as refused:
            await keep(**{"rate": "1", "day": 3, **fields})
        assert list(refused.value.violations) == [path]
    with pytest.raises(Refused):
        await keep("1", 4, fromCurrency="XXQ")
    change = {"name": later.name, "rate": "12.7"}
    await workspace.admin.UpdateCurrencyRate(currencyRate=change, updateMask="rate")
    await told(["2026-11-02", "12.5"], ["2026-11-20", "12.7"])
    await workspace.admin.DeleteCurrencyRate(name=later.name)
    await told(["2026-11-02", "12.5"])
