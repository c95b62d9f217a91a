"""Sealed texts."""

import pytest
from crmkit.sealing import seal, unseal


def test_a_sealed_text_opens_for_its_purpose_and_key_alone() -> None:
    key, other = b"k" * 32, b"o" * 32
    sealed = seal("密码 p", "mail", key)
    assert unseal(sealed, "mail", key) == "密码 p"
    assert seal("密码 p", "mail", key) != sealed
    bent = ("A" if sealed[0] != "A" else "B") + sealed[1:]
    for text, purpose, secret in (
        (sealed, "link", key), (sealed, "mail", other), (bent, "mail", key), ("", "mail", key), ("密", "mail", key),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            unseal(text, purpose, secret)
