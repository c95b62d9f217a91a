"""Adds to the descriptor set what a resource declaration implies.

A message with `option (crm.options.v1.resource)` gets the common fields 85 to 99, and the service of its
package gets the standard methods of AIP-131 to 135 with their request messages. So a resource is written
once, and clients, gateway, OpenAPI and kit see the same complete API.
"""

from dataclasses import dataclass
from typing import Any

from crm.options.v1 import options_pb2
from google.api import annotations_pb2, field_behavior_pb2, resource_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

Field = FieldDescriptorProto
REQUIRED = field_behavior_pb2.REQUIRED
OUTPUT_ONLY = field_behavior_pb2.OUTPUT_ONLY
IMPORTS = (
    "crm/common/v1/common.proto",
    "crm/options/v1/options.proto",
    "google/api/annotations.proto",
    "google/api/field_behavior.proto",
    "google/api/resource.proto",
    "google/protobuf/empty.proto",
    "google/protobuf/field_mask.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/timestamp.proto",
)

# name, number, type, repeated, zh, en, sentence, output only, references
COMMON_FIELDS: tuple[tuple[str, int, str, bool, str, str, str, bool, str], ...] = (
    ("number", 85, "string", False, "编号", "Number", "Human number by the numbering rule.", True, ""),
    (
        "owner",
        86,
        "string",
        False,
        "负责人",
        "Owner",
        "The employee who answers for the record.",
        False,
        "crm.workspace/Employee",
    ),
    (
        "department",
        87,
        "string",
        False,
        "所属部门",
        "Department",
        "The department whose scope covers the record.",
        False,
        "crm.workspace/Department",
    ),
    (
        "collaborators",
        88,
        "string",
        True,
        "协作人",
        "Collaborators",
        "Employees who may see and work on the record beside the owner.",
        False,
        "crm.workspace/Employee",
    ),
    (
        "pending_approval",
        89,
        "string",
        False,
        "审批中",
        "Pending approval",
        "The held verb that waits for a decision.",
        True,
        "",
    ),
    (
        "create_time",
        90,
        ".google.protobuf.Timestamp",
        False,
        "创建时间",
        "Created",
        "When the record was made.",
        True,
        "",
    ),
    (
        "update_time",
        91,
        ".google.protobuf.Timestamp",
        False,
        "更新时间",
        "Updated",
        "When the record last changed.",
        True,
        "",
    ),
    (
        "delete_time",
        92,
        ".google.protobuf.Timestamp",
        False,
        "删除时间",
        "Deleted",
        "When the record was deleted.",
        True,
        "",
    ),
    (
        "creator",
        93,
        "string",
        False,
        "创建人",
        "Creator",
        "Who made the record.",
        True,
        "crm.workspace/Employee",
    ),
    (
        "custom",
        95,
        ".google.protobuf.Struct",
        False,
        "自定义字段",
        "Custom fields",
        "Fields that the administrators defined.",
        False,
        "",
    ),
    (
        "etag",
        99,
        "string",
        False,
        "版本",
        "Version",
        "Version of the record; send it back to detect other people's changes.",
        True,
        "",
    ),
)


def expand(descriptors: FileDescriptorSet) -> FileDescriptorSet:
    """The same set with common fields, standard methods and request messages added."""
    services = {f.package: f for f in descriptors.file if f.service and f.package.startswith("crm.")}
    for file in descriptors.file:
        for index, message in enumerate(file.message_type):
            if options_pb2.resource in _extensions(message):
                service_file = services.get(file.package)
                if service_file is None:
                    raise ValueError(
                        f"{file.name}: {message.name} is a resource, but {file.package} has no service"
                    )
                _add_common_fields(file, index, message)
                _Standard(service_file, file, message).add()
    files = {f.name: f for f in descriptors.file}
    ordered: dict[str, FileDescriptorProto] = {}

    def visit(file: FileDescriptorProto) -> None:
        if file.name not in ordered:
            for dependency in file.dependency:
                visit(files[dependency])
            ordered[file.name] = file

    for file in descriptors.file:
        visit(file)
    return FileDescriptorSet(file=ordered.values())


def _add_common_fields(file: FileDescriptorProto, index: int, message: DescriptorProto) -> None:
    rule = _extensions(message)[options_pb2.resource]
    for name, number, kind, repeated, zh, en, sentence, output_only, reference in COMMON_FIELDS:
        if (name == "number" and not rule.number) or any(f.name == name for f in message.field):
            continue
        field = _field(message, name, number, kind, repeated=repeated)
        label = _extensions(field)[options_pb2.field].label
        label.zh, label.en = zh, en
        if name in {"number", "owner", "update_time"}:
            _extensions(field)[options_pb2.field].listed = True
        if name == "number":
            _extensions(field)[options_pb2.field].searchable = True
        if output_only:
            _extensions(field)[field_behavior_pb2.field_behavior].append(OUTPUT_ONLY)
        if reference:
            _extensions(field)[resource_pb2.resource_reference].type = reference
        _comment(file, [4, index, 2, len(message.field) - 1], sentence)
    _import(file)


@dataclass
class _Standard:
    """Adds the standard methods of one resource to the service of its package."""

    service_file: FileDescriptorProto
    file: FileDescriptorProto
    message: DescriptorProto

    def add(self) -> None:
        rule = _extensions(self.message)[options_pb2.resource]
        resource = _extensions(self.message)[resource_pb2.resource]
        self.singular, self.plural = self.message.name, resource.plural[:1].upper() + resource.plural[1:]
        self.collection = resource.plural
        self.snake = _snake(self.message.name)
        self.snake_plural = _snake(self.plural)
        self.type = f".{self.file.package}.{self.message.name}"
        self.area = self.file.package.split(".")[1]
        if self.file is not self.service_file and self.file.name not in self.service_file.dependency:
            self.service_file.dependency.append(self.file.name)
        _import(self.service_file)
        for method in options_pb2.StandardMethod.values():
            if method and method not in rule.without:
                getattr(self, f"_{options_pb2.StandardMethod.Name(method).lower()}")()

    def _get(self) -> None:
        request = self._request("Get", [("name", "string", False, "Resource name.", True)])
        self._method(
            "Get", request, self.type, options_pb2.GET, "read", "get", "/v1/{name=%s/*}", "Reads one."
        )

    def _list(self) -> None:
        query = [
            ("page_size", "int32", False, "Records per page; 50 unless given, 200 at most.", False),
            (
                "page_token",
                "string",
                False,
                "Where to go on, from the previous answer to the same query.",
                False,
            ),
            ("filter", "string", False, "AIP-160 filter.", False),
            ("order_by", "string", False, 'Fields to order by, such as "update_time desc".', False),
            ("q", "string", False, "Fragment of a name, pinyin or number to search.", False),
            ("view", "string", False, "Saved view whose filter and order apply.", False),
        ]
        request = self._request("List", query, plural=True)
        answer = [
            (self.snake_plural, self.type, True, "The page.", False),
            ("next_page_token", "string", False, "Token of the next page; empty at the end.", False),
        ]
        response = self._message(f"List{self.plural}Response", answer, "A page.")
        self._method(
            "List", request, response, options_pb2.LIST, "read", "get", "/v1/%s", "Reads a page.", plural=True
        )

    def _create(self) -> None:
        request = self._request(
            "Create", [(self.snake, self.type, False, "What to make.", True), _REQUEST_ID]
        )
        self._method(
            "Create",
            request,
            self.type,
            options_pb2.CREATE,
            "create",
            "post",
            "/v1/%s",
            "Makes one.",
            body=self.snake,
        )

    def _update(self) -> None:
        mask = (
            "update_mask",
            ".google.protobuf.FieldMask",
            False,
            "Fields to change; those set in the body if empty.",
            False,
        )
        request = self._request(
            "Update", [(self.snake, self.type, False, "The fields' new values.", True), mask, _REQUEST_ID]
        )
        path = "/v1/{" + self.snake + ".name=%s/*}"
        self._method(
            "Update",
            request,
            self.type,
            options_pb2.UPDATE,
            "update",
            "patch",
            path,
            "Changes fields of one.",
            body=self.snake,
        )

    def _delete(self) -> None:
        request = self._request(
            "Delete", [("name", "string", False, "Resource name.", True), _ETAG, _REQUEST_ID]
        )
        self._method(
            "Delete",
            request,
            ".google.protobuf.Empty",
            options_pb2.DELETE,
            "delete",
            "delete",
            "/v1/{name=%s/*}",
            "Deletes one.",
        )

    def _batch_get(self) -> None:
        request = self._request(
            "BatchGet", [("names", "string", True, "Resource names, 100 at most.", True)], plural=True
        )
        response = self._message(
            f"BatchGet{self.plural}Response",
            [(self.snake_plural, self.type, True, "In the order asked for.", False)],
            "The records.",
        )
        self._method(
            "BatchGet",
            request,
            response,
            options_pb2.BATCH_GET,
            "read",
            "get",
            "/v1/%s:batchGet",
            "Reads up to 100 by name.",
            plural=True,
        )

    def _batch_update(self) -> None:
        requests = (
            "requests",
            f".{self.file.package}.Update{self.singular}Request",
            True,
            "The changes, 100 at most; all or none.",
            True,
        )
        request = self._request("BatchUpdate", [requests, _REQUEST_ID], plural=True)
        response = self._message(
            f"BatchUpdate{self.plural}Response",
            [(self.snake_plural, self.type, True, "As they are now.", False)],
            "The changed records.",
        )
        self._method(
            "BatchUpdate",
            request,
            response,
            options_pb2.BATCH_UPDATE,
            "update",
            "post",
            "/v1/%s:batchUpdate",
            "Changes up to 100, all or none.",
            body="*",
            plural=True,
        )

    def _aggregate(self) -> None:
        query = [
            ("filter", "string", False, "AIP-160 filter.", False),
            ("q", "string", False, "Fragment to search.", False),
            (
                "group_by",
                "string",
                True,
                "Fields to group by, three at most; a date or time may end in :day, :week, :month, :quarter or :year.",
                False,
            ),
            ("sum", "string", True, "Number or money fields to add up.", False),
            ("average", "string", True, "Number or money fields to average.", False),
        ]
        request = self._request("Aggregate", query, plural=True)
        rows = ("rows", ".crm.common.v1.AggregateRow", True, "One row for every group, 1,000 at most.", False)
        response = self._message(f"Aggregate{self.plural}Response", [rows], "The figures.")
        self._method(
            "Aggregate",
            request,
            response,
            options_pb2.AGGREGATE,
            "read",
            "get",
            "/v1/%s:aggregate",
            "Counts, sums and averages by fields.",
            plural=True,
        )

    def _explain_access(self) -> None:
        query = [
            ("name", "string", False, "Resource name.", True),
            (
                "employee",
                "string",
                False,
                "Whose access to explain, the caller's if empty; another's needs workspace.roles.explain.",
                False,
            ),
        ]
        request = self._request("Explain", query, suffix="Access")
        answer = [
            ("visible", "bool", False, "True where the person may see the record.", False),
            ("grounds", ".crm.common.v1.AccessGround", True, "Why, or why not.", False),
            ("actions", ".crm.common.v1.AccessAction", True, "What the person may do to it.", False),
            (
                "hidden_fields",
                ".crm.common.v1.HiddenField",
                True,
                "Fields that the person does not see.",
                False,
            ),
        ]
        response = self._message(f"Explain{self.singular}AccessResponse", answer, "The grounds.")
        self._method(
            "Explain",
            request,
            response,
            options_pb2.EXPLAIN_ACCESS,
            "read",
            "get",
            "/v1/{name=%s/*}:explainAccess",
            "Says why a person may or may not see a record.",
            suffix="Access",
        )

    def _request(self, verb: str, fields: "list[_FieldSpec]", plural: bool = False, suffix: str = "") -> str:
        noun = self.plural if plural else self.singular
        return self._message(f"{verb}{noun}{suffix}Request", fields, f"What {verb}{noun}{suffix} takes.")

    def _message(self, name: str, fields: "list[_FieldSpec]", sentence: str) -> str:
        message = self.service_file.message_type.add(name=name)
        index = len(self.service_file.message_type) - 1
        _comment(self.service_file, [4, index], sentence)
        for number, (field_name, kind, repeated, text, required) in enumerate(fields, start=1):
            field = _field(message, field_name, number, kind, repeated=repeated)
            if required:
                _extensions(field)[field_behavior_pb2.field_behavior].append(REQUIRED)
            _comment(self.service_file, [4, index, 2, number - 1], text)
        return f".{self.service_file.package}.{name}"

    def _method(
        self,
        verb: str,
        request: str,
        response: str,
        standard: "options_pb2.StandardMethod.ValueType",
        permission: str,
        http: str,
        path: str,
        sentence: str,
        body: str = "",
        plural: bool = False,
        suffix: str = "",
    ) -> None:
        name = f"{verb}{self.plural if plural else self.singular}{suffix}"
        service = self.service_file.service[0]
        if any(m.name == name for m in service.method):
            raise ValueError(
                f"{self.service_file.name}: {name} is a standard method; declare the resource `without` it first"
            )
        method: MethodDescriptorProto = service.method.add(
            name=name, input_type=request, output_type=response
        )
        _extensions(method)[options_pb2.permission] = f"{self.area}.{self.collection}.{permission}"
        _extensions(method)[options_pb2.standard] = standard
        if (
            standard == options_pb2.CREATE
            and _extensions(self.message)[options_pb2.resource].create_key_required
        ):
            _extensions(method)[options_pb2.idempotency_key_required] = True
        writes = (options_pb2.CREATE, options_pb2.UPDATE, options_pb2.DELETE, options_pb2.BATCH_UPDATE)
        if standard in writes and _extensions(self.message)[options_pb2.resource].step_up:
            _extensions(method)[options_pb2.step_up] = True
        rule = _extensions(method)[annotations_pb2.http]
        setattr(rule, http, path % self.collection)
        rule.body = body
        _comment(self.service_file, [6, 0, 2, len(service.method) - 1], sentence)


_FieldSpec = tuple[str, str, bool, str, bool]
_REQUEST_ID: _FieldSpec = ("request_id", "string", False, "Idempotency key.", False)
_ETAG: _FieldSpec = (
    "etag",
    "string",
    False,
    "Etag of the version that the caller saw; a stale one is refused.",
    False,
)
_SCALARS = {"string": Field.TYPE_STRING, "int32": Field.TYPE_INT32, "bool": Field.TYPE_BOOL}


def _field(
    message: DescriptorProto, name: str, number: int, kind: str, repeated: bool = False
) -> FieldDescriptorProto:
    first, *rest = name.split("_")
    field = message.field.add(
        name=name, number=number, json_name=first + "".join(part.capitalize() for part in rest)
    )
    field.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = Field.TYPE_MESSAGE, kind
    return field


def _comment(file: FileDescriptorProto, path: list[int], text: str) -> None:
    file.source_code_info.location.add(path=path, span=[0, 0, 0], leading_comments=f" {text}\n")


def _extensions(of: Any) -> Any:
    """The options of a message, field or method; protobuf's stubs do not know what its extensions are."""
    return of.options.Extensions


def _import(file: FileDescriptorProto) -> None:
    for name in IMPORTS:
        if name not in file.dependency and name != file.name:
            file.dependency.append(name)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
