"""The codec agrees with google's own on what both take, and is stricter on what should not come in."""

import json
from typing import Any

import crmprotos
import pytest
from crm.customer.v1 import pb
from crmkit.json import InvalidMessage, JsonCodec, MalformedJson, Violation, read_json
from crmkit.keys import ApiKey
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

ACCOUNT = "crm.customer.v1.Account"
codec = JsonCodec(crmprotos.load_bytes())

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
accounts = st.fixed_dictionaries(
    {},
    optional={
        "displayName": texts,
        "kind": st.sampled_from(["COMPANY", "INDIVIDUAL"]),
        "roles": st.lists(st.sampled_from(["CUSTOMER", "PARTNER"]), max_size=3),
        "phones": st.lists(st.fixed_dictionaries({"number": texts, "primary": st.booleans()}), max_size=3),
        "createTime": st.sampled_from(["2026-01-01T00:00:00Z", "1969-12-31T23:59:59.999999999Z"]),
        "custom": st.dictionaries(texts, values, max_size=4),
    },
)


@settings(max_examples=200)
@given(accounts)
def test_both_codecs_read_and_write_the_same(account: dict[str, Any]) -> None:
    data = codec.from_json(ACCOUNT, json.dumps(account).encode())
    theirs = json_format.ParseDict(account, pb.Account())
    assert pb.Account.FromString(data) == theirs
    assert json.loads(codec.to_json(ACCOUNT, data)) == json_format.MessageToDict(theirs)


@settings(max_examples=300)
@given(st.binary(max_size=60) | texts.map(str.encode))
def test_any_bytes_are_json_or_malformed(data: bytes) -> None:
    try:
        read_json(data)
    except MalformedJson as error:
        assert data.decode("latin-1") not in error.detail or len(data) < 3


@settings(max_examples=200)
@given(values)
def test_any_value_is_an_account_or_names_what_is_not(value: Any) -> None:
    try:
        codec.from_value(ACCOUNT, value)
    except InvalidMessage as error:
        assert error.violations


def test_every_wrong_field_is_named() -> None:
    account = {"displayName": 1, "phones": [{"number": "1"}, {"numbr": "2"}], "kind": "SHIP", "nothing": 1}
    with pytest.raises(InvalidMessage) as refused:
        codec.from_value(ACCOUNT, account)
    assert refused.value.violations == [
        Violation("displayName", "WRONG_TYPE"),
        Violation("phones[1].numbr", "UNKNOWN_FIELD"),
        Violation("kind", "UNKNOWN_VALUE"),
        Violation("nothing", "UNKNOWN_FIELD"),
    ]


def test_a_key_reads_back_and_a_changed_one_does_not() -> None:
    key = ApiKey.make("live")
    assert ApiKey.parse(str(key)) == key
    assert len(str(key).split("_")[2]) == 8 and len(key.secret) == 43
    for index in range(len(str(key))):
        text = str(key)
        other = "0" if text[index] != "0" else "1"
        assert ApiKey.parse(text[:index] + other + text[index + 1 :]) != key
    assert key.digest("a") != key.digest("b") and key.secret not in key.digest("a")
