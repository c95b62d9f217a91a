"""Nothing reaches a screen without its words in both languages."""

from collections.abc import Iterator

import crmprotos
import pytest
from crm.options.v1 import options_pb2
from crmkit.options import has_option, option
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

# Frames of every message: never shown under a label. What `crm.options.v1.Text` holds are the languages themselves,
# and its own file cannot use the options that it declares.
FRAME = {"name", "etag", "request_id"}
OWN = ".crm.options.v1.Text"


def _messages() -> dict[str, DescriptorProto]:
    found: dict[str, DescriptorProto] = {}

    def add(prefix: str, message: DescriptorProto) -> None:
        found[f"{prefix}.{message.name}"] = message
        for inner in message.nested_type:
            add(f"{prefix}.{message.name}", inner)

    for file in crmprotos.load().file:
        if file.package.startswith("crm."):
            for message in file.message_type:
                add(f".{file.package}", message)
    return found


def _shown() -> Iterator[tuple[str, FieldDescriptorProto]]:
    """Every field of resources and of the requests of verbs, nested messages included."""
    messages = _messages()
    verbs = [
        method.input_type
        for file in crmprotos.load().file
        for service in file.service
        for method in service.method
        if has_option(method, options_pb2.verb)
    ]
    todo = [name for name, message in messages.items() if has_option(message, options_pb2.resource)] + verbs
    seen: set[str] = {OWN}
    while todo:
        name = todo.pop()
        if name in seen or name not in messages:
            continue
        seen.add(name)
        for field in messages[name].field:
            todo.append(field.type_name)
            if field.name not in FRAME and not messages[name].options.map_entry:
                yield f"{name[1:]}.{field.name}", field


def test_every_field_that_a_screen_can_show_has_a_label_in_both_languages() -> None:
    def labelled(field: FieldDescriptorProto) -> bool:
        label = option(field, options_pb2.field).label
        return bool(label.zh and label.en)

    assert [name for name, field in _shown() if not labelled(field)] == []


@pytest.mark.parametrize(
    "file", [f for f in crmprotos.load().file if f.name.endswith("/events.proto")], ids=lambda f: f.package
)
def test_every_fact_says_in_both_languages_what_happened(file: FileDescriptorProto) -> None:
    parts = {field.type_name for message in file.message_type for field in message.field}
    facts = [m for m in file.message_type if f".{file.package}.{m.name}" not in parts]
    texts = {fact.name: option(fact, options_pb2.fact) for fact in facts}
    assert [name for name, text in texts.items() if not (text.zh and text.en)] == []
