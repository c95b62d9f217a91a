"""Sentences of errors."""

import pytest
from crmkit.errors import CHINESE, ENGLISH, FailedPrecondition, check_reason, reasons


def test_each_area_says_a_reason_in_its_own_words() -> None:
    refused = FailedPrecondition("CLAIM_TOO_SOON", until="2026-11-30")
    assert "customer" in refused.text(ENGLISH, "customer")
    assert "customer" not in refused.text(ENGLISH, "sales")
    assert refused.status(ENGLISH, area="sales").message == refused.text(ENGLISH, "sales")


def test_a_sentence_of_all_areas_is_said_by_an_area_that_has_none() -> None:
    for locale in (CHINESE, ENGLISH):
        with pytest.raises(FailedPrecondition) as refused:
            check_reason("  no ")
        assert refused.value.text(locale, "orders") == refused.value.text(locale)
        assert "5" in refused.value.text(locale) and "{" not in refused.value.text(locale)


def test_no_area_says_again_what_all_say() -> None:
    assert not [
        (name, area)
        for name, texts in reasons().items()
        for area, text in texts.items()
        if name != "ERROR_REASON_UNSPECIFIED"
        and area != "common"
        and "common" in texts
        and (text.zh, text.en) == (texts["common"].zh, texts["common"].en)
    ]
