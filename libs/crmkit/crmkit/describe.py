"""What a resource message declares, read once from its descriptor."""

# pyright: reportMissingTypeStubs=false
# googleapis-common-protos has its types beside it and does not say so.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property
from typing import Literal

from crm.options.v1 import options_pb2
from google.api import field_behavior_pb2, resource_pb2
from google.protobuf.descriptor import Descriptor, EnumValueDescriptor, FieldDescriptor

from crmkit.options import has_option, option

Kind = Literal[
    "text", "decimal", "int", "float", "bool", "enum", "enums", "texts", "time", "date", "money", "message", "messages",
    "struct", "reference", "references",
]  # fmt: skip

COMMON = frozenset(
    ["number", "owner", "department", "collaborators", "pending_approval", "create_time", "update_time", "delete_time",
     "creator", "custom", "etag"]
)  # fmt: skip
DEFAULT_MAX_LENGTH = 2000
_MESSAGES: dict[str, Kind] = {
    "google.protobuf.Timestamp": "time",
    "google.type.Date": "date",
    "crm.common.v1.Money": "money",
    "google.protobuf.Struct": "struct",
}
_SCALARS: dict[int, Kind] = {
    FieldDescriptor.CPPTYPE_STRING: "text",
    FieldDescriptor.CPPTYPE_INT32: "int",
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_DOUBLE: "float",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
}


@dataclass(frozen=True)
class Field:
    """One field: its kind and its rules."""

    name: str
    json_name: str
    kind: Kind
    descriptor: FieldDescriptor
    required: bool
    output_only: bool
    immutable: bool
    references: str
    rule: options_pb2.FieldRule

    @cached_property
    def max_length(self) -> int:
        """Longest text in characters."""
        return self.rule.max_length or DEFAULT_MAX_LENGTH

    @cached_property
    def minimum(self) -> Decimal | None:
        """Least number or amount that is taken."""
        return Decimal(self.rule.minimum) if self.rule.minimum else None

    @property
    def nested(self) -> Descriptor:
        """The message of a "message" or "messages" field."""
        if self.descriptor.message_type is None:
            raise TypeError(f"{self.descriptor.full_name} holds no message")
        return self.descriptor.message_type

    @property
    def enum_values(self) -> Sequence[EnumValueDescriptor]:
        """The values of an enum field; none of any other."""
        return self.descriptor.enum_type.values if self.descriptor.enum_type else ()

    @cached_property
    def enum_names(self) -> Mapping[int, str]:
        """Number → name of an enum field's values; zero is the empty text."""
        return {value.number: value.name if value.number else "" for value in self.enum_values}

    @cached_property
    def enum_numbers(self) -> Mapping[str, int]:
        """Name → number."""
        return {name: number for number, name in self.enum_names.items()}


@dataclass(frozen=True, eq=False)
class Described:
    """A resource: where it lives, who sees it, its fields."""

    area: str
    type: str
    collection: str
    singular: str
    message: Descriptor
    rule: options_pb2.ResourceRule
    fields: Mapping[str, Field]

    @property
    def scope(self) -> str:
        """OWNED, SHARED or PRIVATE."""
        return options_pb2.Scope.Name(self.rule.scope)

    @property
    def title_field(self) -> str:
        """The field that stands for the record."""
        return self.rule.title_field or "display_name"

    @property
    def account_fields(self) -> tuple[str, ...]:
        """The references through which portal customers and partners see the record."""
        return tuple(filter(None, (self.rule.account_field, self.rule.partner_field)))

    @cached_property
    def searchable(self) -> tuple[str, ...]:
        """Fields that `q` searches."""
        return tuple(name for name, field in self.fields.items() if field.rule.searchable)

    def permission(self, verb: str) -> str:
        """The permission of a standard verb, such as "customer.accounts.read"."""
        return f"{self.area}.{self.collection}.{verb}"


@cache
def describe(message: Descriptor) -> Described:
    """The declaration of a resource message; ValueError where it is none or incomplete."""
    if not has_option(message, options_pb2.resource):
        raise ValueError(f"{message.full_name} has no crm.options.v1.resource")
    rule = option(message, options_pb2.resource)
    resource = option(message, resource_pb2.resource)
    if not rule.scope or not resource.plural or not resource.type:
        raise ValueError(f"{message.full_name} declares no scope, plural or type")
    fields = {field.name: describe_field(field) for field in message.fields}
    title = rule.title_field or "display_name"
    if title not in fields:
        raise ValueError(f"{message.full_name} has no field {title} to show; set title_field")
    area = message.full_name.split(".")[1]
    return Described(area, resource.type, resource.plural, resource.singular, message, rule, fields)


@cache
def describe_field(field: FieldDescriptor) -> Field:
    """The kind and rules of one field."""
    behaviours = option(field, field_behavior_pb2.field_behavior)
    rule = option(field, options_pb2.field)
    reference = option(field, resource_pb2.resource_reference).type
    return Field(
        name=field.name,
        json_name=field.json_name,
        kind=_kind(field, rule, reference),
        descriptor=field,
        required=field_behavior_pb2.REQUIRED in behaviours,
        output_only=field_behavior_pb2.OUTPUT_ONLY in behaviours,
        immutable=field_behavior_pb2.IMMUTABLE in behaviours,
        references=reference,
        rule=rule,
    )


def _kind(field: FieldDescriptor, rule: options_pb2.FieldRule, reference: str) -> Kind:
    repeated = field.is_repeated
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            raise ValueError(f"{field.full_name}: a resource has no map fields; nest a message")
        kind = _MESSAGES.get(field.message_type.full_name)
        if kind and not repeated:
            return kind
        return "messages" if repeated else "message"
    if field.enum_type is not None:
        return "enums" if repeated else "enum"
    kind = _SCALARS.get(field.cpp_type)
    if kind is None:
        raise ValueError(f"{field.full_name}: no such type in resources")
    if repeated:
        if kind != "text":
            raise ValueError(f"{field.full_name}: only texts and messages repeat")
        return "references" if reference else "texts"
    if kind == "text" and reference:
        return "reference"
    return "decimal" if rule.decimal else kind
