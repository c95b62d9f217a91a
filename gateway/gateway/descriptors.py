"""Reads a descriptor set once, at start-up: services with their options, messages, comments."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor

HTTP = "google.api.http"
PERMISSION = "crm.options.v1.permission"
VERB = "crm.options.v1.verb"
STANDARD = "crm.options.v1.standard"
RESOURCE = "crm.options.v1.resource"
FACT = "crm.options.v1.fact"
RESOURCE_TYPE = "google.api.resource"
FIELD = "crm.options.v1.field"
TEXT = "crm.options.v1.text"
BEHAVIOR = "google.api.field_behavior"
REFERENCE = "google.api.resource_reference"
# Numbers of crm.options.v1.StandardMethod.
GET, LIST, CREATE, UPDATE, DELETE = 1, 2, 3, 4, 5
KEY_REQUIRED = "crm.options.v1.idempotency_key_required"
STEP_UP = "crm.options.v1.step_up"

type_names = {value: name for name, value in FieldDescriptor.__dict__.items() if name.startswith("TYPE_")}


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC as the gateway sees it."""

    app: str
    descriptor: MethodDescriptor
    http: Any
    permission: str

    @property
    def path(self) -> str:
        """What gRPC calls it."""
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"


class Descriptors:
    """A descriptor set with its options and comments at hand."""

    def __init__(self, descriptor_set: bytes) -> None:
        self.data = descriptor_set
        self.pool = descriptor_pool.DescriptorPool()
        self._files = _without_sources(descriptor_set)
        for file in self._files:
            self.pool.AddSerializedFile(file.SerializeToString())

    def methods(self) -> Iterator[Method]:
        """Every RPC of our own packages (`crm.<app>.v1`)."""
        for file in self._files:
            parts = file.package.split(".")
            if parts[0] != "crm" or len(parts) < 2:
                continue
            for service in file.service:
                described = self.pool.FindServiceByName(f"{file.package}.{service.name}")
                for method in described.methods:
                    yield Method(
                        parts[1], method, self.option(method, HTTP), self.option(method, PERMISSION) or ""
                    )

    def messages(self) -> Iterator[Descriptor]:
        """Every top-level message of our own packages."""
        for file in self._files:
            if file.package.startswith("crm."):
                for message in file.message_type:
                    yield self.pool.FindMessageTypeByName(f"{file.package}.{message.name}")

    def enums(self, name: str) -> Iterator[EnumDescriptor]:
        """The top-level enums of that short name in all packages."""
        for file in self._files:
            for enum in file.enum_type:
                if enum.name == name:
                    yield self.pool.FindEnumTypeByName(f"{file.package}.{name}")

    def knows(self, full_name: str) -> bool:
        """True where there is such a message."""
        try:
            self.pool.FindMessageTypeByName(full_name)
        except KeyError:
            return False
        return True

    def option(self, described: Any, name: str) -> Any:
        """The value of an option, None where it is not set; repeated ones as a list."""
        if name not in self._extensions:
            return None
        options_type, extension = self._extensions[name]
        options = options_type.FromString(described.GetOptions().SerializeToString())
        if extension.is_repeated:
            return list(options.Extensions[extension])
        return options.Extensions[extension] if options.HasExtension(extension) else None

    def comment(self, full_name: str) -> str:
        """The sentence above a declaration, without its line breaks."""
        return self._comments.get(full_name, "")

    @cached_property
    def _extensions(self) -> dict[str, tuple[Any, Any]]:
        found: dict[str, tuple[Any, Any]] = {}
        for file in self._files:
            for extension in file.extension:
                described: Any = self.pool.FindExtensionByName(f"{file.package}.{extension.name}")
                found[described.full_name] = (
                    message_factory.GetMessageClass(described.containing_type),
                    described,
                )
        return found

    @cached_property
    def _comments(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for file in descriptor_pb2.FileDescriptorSet.FromString(self.data).file:
            for location in file.source_code_info.location:
                if location.leading_comments and (name := _declared(file, list(location.path))):
                    found[name] = " ".join(location.leading_comments.split())
        return found


def _without_sources(descriptor_set: bytes) -> Any:
    """The files without where each line of them stood: read anew, since a cleared field gives no memory back."""
    whole = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set)
    for file in whole.file:
        file.ClearField("source_code_info")
    return descriptor_pb2.FileDescriptorSet.FromString(whole.SerializeToString()).file


@lru_cache(maxsize=1)
def descriptors_of(descriptor_set: bytes) -> Descriptors:
    """The descriptors of a set, read once."""
    return Descriptors(descriptor_set)


def _declared(file: Any, path: list[int]) -> str:
    """The full name of what a source path points at; empty for what has none."""
    node, name = file, file.package
    while path:
        number, index, *path = path if len(path) > 1 else (*path, 0)
        field = node.DESCRIPTOR.fields_by_number.get(number)
        if field is None or field.name not in _declarations:
            return ""
        node = getattr(node, field.name)[index]
        name = f"{name}.{node.name}"
    return name


_declarations = {"message_type", "nested_type", "enum_type", "value", "service", "method", "field"}
