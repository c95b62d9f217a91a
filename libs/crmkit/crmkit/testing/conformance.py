"""One body of tests over every resource of every service.

    class TestCustomer(Conformance):
        app = app()
        samples = {"consents": {"subject": "accounts/{accounts}"}}

A service whose rules ask for more than required fields gives them in `samples`; `{accounts}` stands for the id of a
fresh account. What is checked is what `docs/kit.md` promises for the standard methods, data scope on every path
included.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid4

import grpc
import pytest
from crm.options.v1 import options_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from crmkit import listing, privileges, reading, scope
from crmkit.access import Given, Reach
from crmkit.app import App
from crmkit.auth import Caller, system
from crmkit.catalog import resources
from crmkit.describe import COMMON, Described, Field, describe_field
from crmkit.errors import NotFound, Validation
from crmkit.listing import Query
from crmkit.mapping import mapper
from crmkit.mapping import read as read_values
from crmkit.reading import Seen
from crmkit.resource import Resource, snake
from crmkit.secretfields import told
from crmkit.sheetfields import columns
from crmkit.testing import Client, Refused, Service, hostile, matrix, personas, plans
from crmkit.testing.leaves import Leaf, filled, leaves, named
from crmkit.text import clean_name

T = TypeVar("T", bound=Callable[..., Any])
OVER_MANY = {"List", "BatchGet", "BatchUpdate", "Aggregate"}

ANSWERS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
)


def applies_to(condition: Callable[[Described], bool]) -> Callable[[T], T]:
    """Lets a test of the suite run for those resources alone: of the others it has no case at all."""

    def marked(test: T) -> T:
        vars(test)["applies"] = condition
        return test

    return marked


def needs(*standards: str, owned: bool = False) -> Callable[[T], T]:
    """For resources with these standard methods; with `owned`, for those that belong to somebody and are seen by scope."""

    def has_them(described: Described) -> bool:
        without = {options_pb2.StandardMethod.Name(method) for method in described.rule.without}
        return without.isdisjoint(standards) and not (owned and described.scope != "OWNED")

    return applies_to(has_them)


def cases(test: Callable[..., Any], app: App) -> list[str]:
    """The collections of the app that a test of the suite runs for."""
    applies: Callable[[Described], bool] = getattr(test, "applies", lambda _: True)
    return [model.described.collection for model in app.models if applies(model.described)]


class Conformance:
    """Subclass in a service's tests; `collection` runs over the app's resources."""

    app: ClassVar[App]
    samples: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    # Text fields that a rule changes, such as "employees.email".
    altered: ClassVar[frozenset[str]] = frozenset()
    # Text fields that take a form of their own alone (a code, an address), and so refuse most texts by name.
    formed: ClassVar[frozenset[str]] = frozenset()
    # What the messages within a record need beyond their required fields, for texts to be written into them.
    whole: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @pytest.fixture
    def at(self, service: Service, collection: str, unchanged: dict[str, list[Any]]) -> At:
        """The resource under test."""
        return At(
            service,
            service.running.models_by_collection[collection],
            self.samples,
            self.altered,
            self.formed,
            self.whole,
            unchanged.setdefault(collection, []),
        )

    @needs("CREATE")
    async def test_what_was_created_is_read_back_and_told(self, at: At) -> None:
        made = await at.create()
        read = await at.call("Get", name=made.name)
        assert read == made, (read, made)
        assert made.etag == "1"
        facts = await at.service.facts(f"crm.{at.area}.v1.ResourceChanged", made.name)
        assert [fact["action"] for fact in facts] == ["CREATED"]
        assert facts[0]["resource"]["name"] == made.name
        assert facts[0]["actor"] == at.service.person("everything").employee

    @needs("CREATE")
    async def test_pages_hold_every_record_once(self, at: At) -> None:
        names = {one.name for one in await at.kept(3)}
        filter_text = " OR ".join(f'name = "{name}"' for name in names)
        seen: list[str] = []
        token = ""
        while True:
            page = await at.call("List", filter=filter_text, pageSize=2, pageToken=token)
            rows = getattr(page, at.plural_field)
            assert len(rows) <= 2
            seen += [row.name for row in rows]
            token = page.next_page_token
            if not token:
                break
        assert sorted(seen) == sorted(names)

    @needs("CREATE")
    async def test_a_page_token_belongs_to_its_query_and_caller(self, at: At) -> None:
        names = [one.name for one in await at.kept(2)]
        filter_text = " OR ".join(f'name = "{name}"' for name in names)
        page = await at.call("List", filter=filter_text, pageSize=1)
        token = page.next_page_token
        for bent in (
            {"filter": f"({filter_text})"},
            {"pageToken": token[:-2] + ("AA" if token[-2:] != "AA" else "BB")},
        ):
            with pytest.raises(Refused) as refused:
                await at.call("List", **{"filter": filter_text, "pageSize": 1, "pageToken": token, **bent})
            assert refused.value.reason == "PAGE_TOKEN_INVALID"
        with pytest.raises(Refused) as refused:
            other = at.service.client("everything2")
            await at.call("List", other, filter=filter_text, pageSize=1, pageToken=token)
        assert refused.value.reason == "PAGE_TOKEN_INVALID"

    @needs("CREATE")
    async def test_a_list_and_a_search_read_little_more_than_they_show(self, at: At) -> None:
        [made] = await at.kept(1)
        key, parts = UUID(made.name.rpartition("/")[2]), at.service.parts
        async with plans.multiplied(
            parts.admin_url, at.service.running.app.name, at.model, key
        ) as connection:
            most = 0
            for who, caller in plans.callers():
                hot = reading.plain(at.model) and reading.planned_once(Seen.by(caller, at.model))
                for what, statement in plans.statements(at.model, caller):
                    planned = hot and what == "list"
                    read, shown, plan = await plans.read_and_shown(
                        connection, at.model, statement, caller, planned
                    )
                    assert read <= plans.READ_FOR_ONE * max(shown, 1), (who, what, read, shown, plan)
                    most = max(most, shown)
            # A page, and the one behind it that says there is more.
            assert most == plans.PAGE + 1

    async def test_a_wrong_filter_or_order_names_what_is_wrong(self, at: At) -> None:
        with pytest.raises(Refused) as refused:
            await at.call("List", filter="name = = 1")
        assert (refused.value.reason, refused.value.info.metadata["position"]) == ("FILTER_INVALID", "8")
        with pytest.raises(Refused) as refused:
            await at.call("List", filter="no_such_field = 1")
        assert refused.value.reason == "FILTER_INVALID"
        with pytest.raises(Refused) as refused:
            await at.call("List", orderBy="no_such_field")
        assert refused.value.reason == "ORDER_BY_INVALID"

    @needs("CREATE", "UPDATE")
    async def test_an_unknown_field_in_the_mask_is_refused(self, at: At) -> None:
        made = await at.create()
        with pytest.raises(Refused) as refused:
            await at.update(made.name, {}, "noSuchField")
        assert refused.value.reason == "VALIDATION"

    @needs("CREATE", "UPDATE")
    async def test_output_only_fields_are_not_set_and_immutable_ones_not_changed(self, at: At) -> None:
        made = await at.create()
        changed = await at.update(
            made.name, {"number": "HACKED"} if at.model.described.rule.number else {}, "createTime"
        )
        assert changed.create_time == made.create_time
        for field in at.model.described.fields.values():
            if field.immutable and field.kind == "text":
                with pytest.raises(Refused) as refused:
                    await at.update(
                        made.name, {field.json_name: "changed"[: field.max_length]}, field.json_name
                    )
                assert "IMMUTABLE" in refused.value.violations.values()

    @needs("CREATE", "UPDATE")
    async def test_a_stale_etag_is_refused_and_changes_nothing(self, at: At) -> None:
        made = await at.create()
        field, value = at.harmless_change(made)
        changed = await at.update(made.name, {field.json_name: value, "etag": made.etag}, field.json_name)
        assert changed.etag == "2"
        with pytest.raises(Refused) as refused:
            await at.update(made.name, {field.json_name: value, "etag": made.etag}, field.json_name)
        assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        assert await at.call("Get", name=made.name) == changed

    @needs("CREATE")
    async def test_the_same_key_gives_the_same_reply_and_another_body_is_refused(self, at: At) -> None:
        key = uuid4().hex
        body = await at.sample()
        first = await at.call("Create", **{at.singular_json: body, "requestId": key})
        assert await at.call("Create", **{at.singular_json: body, "requestId": key}) == first
        with pytest.raises(Refused) as refused:
            await at.call(
                "Create", **{at.singular_json: {**body, "collaborators": ["employees/x"]}, "requestId": key}
            )
        assert refused.value.reason == "IDEMPOTENCY_KEY_REUSED"

    async def test_without_permission_nothing_answers(self, service: Service) -> None:
        nobody = service.client("nobody")
        for name, method in service.running.pipeline.methods.items():
            if method.permission in {"*", "public"}:
                continue
            with pytest.raises(Refused) as refused:
                await nobody.send(name, b"")
            assert (refused.value.code, refused.value.reason) == (
                grpc.StatusCode.PERMISSION_DENIED,
                "PERMISSION_DENIED",
            ), name

    async def test_every_operation_answers_every_kind_of_caller_as_the_matrix_says(self, at: At) -> None:
        """A-1: who lacks the permission by the shipped roles is refused, and nothing has been written."""
        roles = matrix.shipped()
        people = at.service.parts.people.values()
        kinds = [
            (person, at.service.client(person.username))
            for person in people
            if set(person.roles) <= set(roles)
        ]
        # What is heard meanwhile writes too, but not each time.
        for _ in range(3):
            before = await at.written()
            for name, method in at.service.running.pipeline.methods.items():
                if method.permission.split(".")[1:2] != [at.model.described.collection]:
                    continue
                for person, client in kinds:
                    allowed = any(matrix.holds(roles[code], method.permission) for code in person.roles)
                    if allowed and not method.read_only:
                        continue  # what it does then is for the tests of the operation
                    code = await at.answer(client, name)
                    assert (code == grpc.StatusCode.PERMISSION_DENIED) != allowed, (
                        name,
                        person.username,
                        code,
                    )
                for header in ({"authorization": ""}, {"authorization": "", "x-user-id": "admin"}):
                    if method.permission != "public":
                        with pytest.raises(Refused) as refused:
                            await at.anybody.send(name, b"", header)
                        assert refused.value.code == grpc.StatusCode.UNAUTHENTICATED, name
            if await at.written() == before:
                return
        raise AssertionError("calls that were refused have written")

    async def test_without_a_valid_token_nobody_comes_in(self, at: At) -> None:
        for header in ("", "Bearer ", "Bearer not.a.token", "Basic YTpi"):
            with pytest.raises(Refused) as refused:
                name = at.method("List")
                await at.anybody.send(name, b"", {"authorization": header, "x-user-id": "admin"})
            assert refused.value.code == grpc.StatusCode.UNAUTHENTICATED

    @needs("CREATE")
    async def test_missing_required_fields_are_named(self, at: At) -> None:
        required = {f"{at.singular_field}.{f.name}" for f in at.model.described.fields.values() if f.required}
        if not required:
            return
        with pytest.raises(Refused) as refused:
            await at.call("Create", **{at.singular_json: {"custom": {}}})
        assert required <= set(refused.value.violations)

    @needs("CREATE")
    async def test_bad_values_are_refused_at_their_field(self, at: At) -> None:
        body = await at.sample()
        for field in at.model.described.fields.values():
            if field.name in COMMON or field.name == "name" or field.output_only:
                continue
            bad = {"text": "x" * (field.max_length + 1), "money": {"currencyCode": "CNY", "amount": "1.234"}, "decimal": "NaN",
                   "date": {"year": 2026, "month": 2, "day": 30}, "reference": f"{uuid4().hex}"}.get(field.kind)  # fmt: skip
            if bad is None:
                continue
            with pytest.raises(Refused) as refused:
                await at.call("Create", **{at.singular_json: {**body, field.json_name: bad}})
            assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT, field.name
            assert f"{at.singular_field}.{field.name}" in refused.value.violations, field.name

    @needs("CREATE")
    async def test_hostile_texts_come_back_as_they_went_in(self, at: At) -> None:
        """In every text field at once, those within lines and lists too: statements, markup, templates, formulas,
        scripts of the world, directions; when a record is made and when it is changed.

        Long fields carry the whole public list; short ones carry other parts of it in every record.
        """
        taken, changed = set[Leaf](), set[Leaf]()
        for turn in range(hostile.RECORDS):
            made, carried = await at.carrying(turn)
            for leaf, sent in carried.items():
                same = leaf.took(made, sent) or at.path(leaf) in at.altered
                assert same, (at.path(leaf), sent, leaf.read(made))
            taken |= set(carried)
            if at.has("Update") and turn % 2:
                changed |= await at.changing(made, turn + 1, carried)
            await at.drop(made.name)
        refused = {at.path(leaf) for leaf in leaves(at.model.described) if leaf not in taken}
        assert refused <= at.formed, {path: at.why.get(path) for path in refused - at.formed}
        kept = {at.path(leaf) for leaf in taken - changed if not leaf.immutable}
        assert not at.has("Update") or kept <= at.formed, {
            path: at.why.get(path) for path in kept - at.formed
        }

    def test_every_naughty_string_passes_the_edge_of_every_text_field(self, at: At) -> None:
        """One by one, as long as the field is: what the row keeps, and what is read from it, is what was typed."""
        row = at.model()
        for leaf in leaves(at.model.described):
            top, field = leaf.path[0], leaf.field
            for typed in hostile.strings():
                sent = typed[: field.max_length]
                message = json_format.ParseDict(filled(leaf.way(), {leaf: [sent]}), at.model.__message__())
                kept: Any = None
                try:
                    kept = read_values([top], message)[top.name]
                except Validation as wrong:
                    # What else a line requires is not there.
                    assert not named(leaf, "", (one.field for one in wrong.violations)), wrong.violations
                    kept = getattr(message, top.name)
                if top.kind in {"message", "messages"}:
                    column: Any = at.model.__table__.c[top.name].type
                    kept = column.process_result_value(json.loads(column.text_of(kept)), None)
                if at.path(leaf) not in at.altered:
                    setattr(row, top.name, kept)
                    wanted = clean_name(sent) if field.name.endswith("name") else sent
                    assert leaf.read(mapper(at.model).message(row)) == [wanted], at.path(leaf)

    def test_every_naughty_string_comes_in_from_a_cell(self, at: At) -> None:
        """As it was typed but for white space around it: what a table brings in is what the field takes."""
        for column in columns(at.model.described, at.service.running.config.get).values():
            if (
                column.target.kind != "text"
                or column.target.repeated
                or column.dictionary
                or column.field is None
            ):
                continue
            for typed in hostile.strings():
                sent = typed[: column.target.max_length].strip()
                value = column.read(typed[: column.target.max_length])
                assert value == (sent or None), (column.path, typed)

    async def test_the_apps_role_owns_nothing_alters_nothing_and_goes_around_no_wall(
        self, service: Service
    ) -> None:
        """By the catalogue of the running database, and by trying."""
        running = service.running
        tables = [model.__table__.name for model in running.app.models]
        async with running.sessions() as session:
            assert await privileges.excesses(session, tables) == []
        table = tables[0] if tables else "outbox"
        for statement in (
            "CREATE TABLE mine (id int)",
            "CREATE TEMPORARY TABLE mine (id int)",
            "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} ADD COLUMN mine int",
            f"CREATE POLICY mine ON {table} USING (true)",
            f"TRUNCATE {table}",
            f"DROP TABLE {table}",
            f"SET ROLE {running.app.name}_owner",
            "ALTER ROLE CURRENT_USER BYPASSRLS",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "SELECT pg_read_file('/etc/passwd')",
        ):
            async with running.engine.connect() as connection:
                with pytest.raises(DBAPIError) as refused:
                    await connection.exec_driver_sql(statement)
                assert getattr(refused.value.orig, "sqlstate", "") == "42501", (statement, refused.value)

    async def test_what_cannot_be_read_is_malformed(self, at: At) -> None:
        with pytest.raises(Refused) as refused:
            await at.anybody.send(at.method("List"), b"\xff\xff\xff")
        assert refused.value.reason == "MALFORMED"

    @needs("CREATE", owned=True)
    async def test_an_invisible_record_does_not_exist_on_any_path(self, at: At) -> None:
        made = await at.create()
        stranger = at.service.client("stranger")
        one = f'name = "{made.name}"'
        for verb, fields in (
            ("Get", {"name": made.name}),
            ("BatchGet", {"names": [made.name]}),
            ("Explain", {"name": made.name}),
            ("Delete", {"name": made.name}),
            ("Update", {at.singular_json: {"name": made.name}, "updateMask": "owner"}),
            (
                "BatchUpdate",
                {"requests": [{at.singular_json: {"name": made.name}, "updateMask": "owner"}]},
            ),
        ):
            if not at.has(verb):
                continue
            with pytest.raises(Refused) as refused:
                await at.call(verb, stranger, **fields)
            assert refused.value.code == grpc.StatusCode.NOT_FOUND, verb
        page = await at.call("List", stranger, filter=one)
        assert not getattr(page, at.plural_field)
        figures = await at.call("Aggregate", stranger, filter=one)
        assert [row.count for row in figures.rows] in ([], ["0"])
        if at.model.search_table is not None and at.searched(made):
            assert made.name in [
                r.name for r in getattr(await at.call("List", q=at.searched(made)), at.plural_field)
            ]
            page = await at.call("List", stranger, q=at.searched(made))
            assert made.name not in [row.name for row in getattr(page, at.plural_field)]
        read = await at.call("Get", name=made.name)
        assert read == made, (read, made)

    @needs("CREATE", owned=True)
    async def test_nine_kinds_of_callers_see_what_the_model_says_on_every_path(self, at: At) -> None:
        laid = {(await at.create()).name: place for place in personas.PLACES}
        accounts = await at.lay(laid)
        for who, caller in personas.personas(next(filter(None, accounts.values()), "")):
            seen = {
                name
                for name, place in laid.items()
                if personas.sees(who, place, own_account=caller.account == accounts[name])
            }
            for path, found in (await at.seen_by(caller, [*laid])).items():
                # A condition of the model's own may take further records away, and gives none.
                right = found == seen if reading.narrow(at.model) else found <= seen
                assert right, (who, path, [laid[name] for name in found ^ seen])
        for name in laid:
            await at.drop(name)

    # What a system administrator shapes is workspace: no customers, prices or money.
    @applies_to(lambda described: described.area != "workspace")
    async def test_a_system_administrator_reads_no_business_record(self, at: At) -> None:
        config = at.service.running.config
        assert "workspace.roles.*" in config.get("role.system_administrator")["permissions"]
        name = f"employees/{uuid4()}"
        shapes = at.service.client("stranger", employee=name, sub=name, roles=["system_administrator"])
        for verb, fields in (
            ("List", {}),
            ("Aggregate", {}),
            ("BatchGet", {"names": [f"{at.model.described.collection}/{uuid4()}"]}),
            ("Get", {"name": f"{at.model.described.collection}/{uuid4()}"}),
        ):
            if at.has(verb):
                with pytest.raises(Refused) as refused:
                    await getattr(shapes, at.method(verb))(**fields)
                assert refused.value.reason == "PERMISSION_DENIED", verb
        if at.model.described.scope == "OWNED":
            # Whatever went wrong above it, the database shows none either.
            claims = {"iss": "", "sub": name, "employee": name, "roles": ["system_administrator"]}
            caller = at.service.running.directory.caller(claims, "en", "")
            async with at.service.running.call("test", caller, read_only=True) as call:
                count = text(f"SELECT count(*) FROM {at.model.__table__.name}")
                assert await call.db.scalar(count) == 0

    @needs("CREATE", owned=True)
    async def test_verbs_do_not_reach_an_invisible_record(self, at: At) -> None:
        [made] = await at.kept(1)
        stranger = at.service.client("stranger")
        for name, method in at.service.running.pipeline.methods.items():
            takes = method.descriptor.input_type
            if (
                not method.verb
                or "name" not in takes.fields_by_name
                or method.reply is not at.model.__message__
            ):
                continue
            fields = {"name": made.name, **_required_of(takes)}
            if "request_id" in takes.fields_by_name:
                fields["requestId"] = uuid4().hex
            with pytest.raises(Refused) as refused:
                await getattr(stranger, name)(**fields)
            assert refused.value.code == grpc.StatusCode.NOT_FOUND, name

    @needs("CREATE")
    async def test_the_second_wall_stands_alone(self, at: At) -> None:
        [made] = await at.kept(1)
        running, table = at.service.running, at.model.__table__.name
        count = text(f"SELECT count(*) FROM {table} WHERE id = :id")
        key = {"id": made.name.rpartition("/")[2]}
        async with running.sessions() as session, session.begin():
            assert await session.scalar(count, key) == 0
        if at.model.described.scope == "OWNED":
            stranger = running.directory.explained(at.service.person("stranger").employee or "")
            assert stranger is not None
            async with running.sessions() as session, session.begin():
                await scope.enter(session, stranger)
                assert await session.scalar(count, key) == 0
        owner = running.directory.explained(at.service.person("everything").employee or "")
        assert owner is not None
        async with running.sessions() as session, session.begin():
            await scope.enter(session, owner)
            assert await session.scalar(count, key) == 1
        if at.model.described.scope == "PRIVATE" or at.model.further_policies():
            return  # row rules speak of neither
        for rule, shown in (('owner = "employees/nobody"', 0), ('owner != "employees/nobody"', 1)):
            ruled = Caller("employees/x", "employees/x", access=Given(Reach(everything=True, rules=(rule,))))
            async with running.sessions() as session, session.begin():
                await scope.enter(session, ruled)
                assert await session.scalar(count, key) == shown, rule

    @needs("CREATE", "UPDATE", owned=True)
    async def test_a_collaborator_and_the_department_see_it(self, at: At) -> None:
        made = await at.create()
        stranger = at.service.client("stranger")
        employee = at.service.person("stranger").employee
        await at.update(made.name, {"collaborators": [employee]}, "collaborators")
        assert (await at.call("Get", stranger, name=made.name)).name == made.name
        page = await at.call("List", stranger, filter=f'name = "{made.name}"')
        assert [row.name for row in getattr(page, at.plural_field)] == [made.name]
        grounds = (await at.call("Explain", stranger, name=made.name)).grounds
        assert "COLLABORATOR" in [ground.kind for ground in grounds]
        await at.update(made.name, {"collaborators": []}, "collaborators")
        with pytest.raises(Refused):
            await at.call("Get", stranger, name=made.name)

    @needs("CREATE", "UPDATE", owned=True)
    async def test_a_record_handed_over_leaves_its_owners_scope(self, at: At) -> None:
        made = await at.create()
        employee = at.service.person("stranger").employee
        try:
            given = await at.update(made.name, {"owner": employee}, "owner")
        except Refused as refused:
            assert refused.code in {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED}
            return  # a rule of its own keeps it with its owner
        assert given.owner == employee
        assert (await at.call("Get", at.service.client("stranger"), name=made.name)).owner == employee
        with pytest.raises(Refused) as refused:
            await at.call("Get", name=made.name)
        assert refused.value.code == grpc.StatusCode.NOT_FOUND

    @needs("CREATE", "DELETE")
    async def test_a_deleted_record_is_gone_and_told(self, at: At) -> None:
        made = await at.create()
        try:
            await at.call("Delete", name=made.name, etag=made.etag)
        except Refused as refused:
            assert refused.code == grpc.StatusCode.FAILED_PRECONDITION  # a rule of its own keeps it
            return
        with pytest.raises(Refused) as refused:
            await at.call("Get", name=made.name)
        assert refused.value.code == grpc.StatusCode.NOT_FOUND
        facts = await at.service.facts(f"crm.{at.area}.v1.ResourceChanged", made.name)
        assert facts[-1]["action"] == "DELETED"


class At:
    """One resource of one running service, as the tests speak of it."""

    def __init__(
        self,
        service: Service,
        model: type[Resource],
        samples: Mapping[str, Mapping[str, Any]],
        altered: frozenset[str] = frozenset(),
        formed: frozenset[str] = frozenset(),
        whole: Mapping[str, Mapping[str, Any]] | None = None,
        unchanged: list[Any] | None = None,
    ) -> None:
        self.service, self.model, self.samples = service, model, samples
        self.altered, self.formed, self.whole = altered, formed, whole or {}
        self.unchanged: list[Any] = [] if unchanged is None else unchanged
        # Why a text was refused, by path.
        self.why: dict[str, str] = {}
        self.area = model.described.area
        self.noun = model.__message__.DESCRIPTOR.name
        self.nouns = model.described.collection[0].upper() + model.described.collection[1:]
        self.singular_field = snake(self.noun).lstrip("_")
        self.plural_field = snake(self.nouns).lstrip("_")
        self.singular_json = self.noun[0].lower() + self.noun[1:]
        self.anybody: Client = service.client("everything")

    def path(self, leaf: Leaf) -> str:
        """A text field as the lists of exceptions name it, such as `orders.items.unit`."""
        return f"{self.model.described.collection}.{leaf.dotted}"

    async def carrying(self, turn: int) -> tuple[Any, dict[Leaf, list[str]]]:
        """A new record whose text fields carry the hostile texts of the turn, all but those that refuse them by rule."""
        whole = leaves(self.model.described)
        carried = {
            leaf: leaf.texts(turn, place)
            for place, leaf in enumerate(whole)
            # What has a form of its own is tried once, for it may refuse and may not break.
            if turn == 0 or self.path(leaf) not in self.formed
        }
        while True:
            body = {
                **await self.sample(),
                **await self._filled(self.whole.get(self.model.described.collection, {})),
            }
            body = filled(await self._way(body, carried), carried)
            try:
                made = await self.call("Create", **{self.singular_json: body})
            except Refused as refused:
                self._less(carried, refused)
                continue
            return await self.call("Get", name=made.name), carried

    async def changing(self, made: Any, turn: int, among: Iterable[Leaf]) -> set[Leaf]:
        """The text fields of the record that other texts were written into, and came back so."""
        places = {leaf: place for place, leaf in enumerate(leaves(self.model.described))}
        carried = {leaf: leaf.texts(turn, places[leaf]) for leaf in among if not leaf.immutable}
        now = json_format.MessageToDict(made)
        while carried:
            tops = {leaf.path[0].json_name for leaf in carried}
            body = await self._way({name: now[name] for name in tops if name in now}, carried)
            try:
                await self.update(made.name, filled(body, carried), ",".join(sorted(tops)))
            except Refused as refused:
                self._less(carried, refused)
                continue
            read = await self.call("Get", name=made.name)
            for leaf, sent in carried.items():
                same = leaf.took(read, sent) or self.path(leaf) in self.altered
                assert same, (self.path(leaf), sent, leaf.read(read))
            break
        return set(carried)

    def _less(self, carried: dict[Leaf, list[str]], refused: Refused) -> None:
        """Takes out what was refused by name; where nothing was named, one that may refuse, else the last."""
        assert refused.code in ANSWERS, (carried, refused)
        paths = refused.violations
        out = [leaf for leaf in carried if named(leaf, self.singular_field, paths)]
        # Something else that a message on the way needs.
        out = out or [
            leaf for leaf in carried if len(leaf.path) > 1 and leaf.beside(self.singular_field, paths)
        ]
        if not out:
            assert carried, (self.model.described.collection, refused)
            out = [next((leaf for leaf in carried if self.path(leaf) in self.formed), [*carried][-1])]
        for leaf in out:
            del carried[leaf]
            self.why.setdefault(self.path(leaf), f"{refused.reason} {dict(refused.violations)}")

    async def _way(self, body: Mapping[str, Any], carried: Iterable[Leaf]) -> dict[str, Any]:
        """The body with the messages that lie on the way to the fields, filled with what they require."""
        whole = deepcopy(dict(body))
        for leaf in carried:
            heads = [whole]
            for field in leaf.path[:-1]:
                for head in heads:
                    if not head.get(field.json_name):
                        one = await self._required(field.nested, set())
                        head[field.json_name] = [one] if field.kind == "messages" else one
                below = [head[field.json_name] for head in heads]
                heads = [each for one in below for each in (one if field.kind == "messages" else [one])]
        return whole

    async def answer(self, client: Client, method: str) -> grpc.StatusCode:
        """The code with which an empty request is answered."""
        try:
            await client.send(method, b"")
        except Refused as refused:
            return refused.code
        return grpc.StatusCode.OK

    async def written(self) -> str:
        """What stands in the table, as one text."""
        table = self.model.__table__.name
        statement = text(f"SELECT count(*) || coalesce(max(update_time)::text, '') FROM {table}")
        async with self.service.running.call("test", system(self.area), read_only=True) as call:
            return str(await call.db.scalar(statement))

    async def lay(self, places: Mapping[str, personas.Place]) -> dict[str, str]:
        """Lays the records where they are to lie; through which accounts portal callers see them, empty for none."""
        field, accounts = self.model.described.rule.account_field, dict[str, str]()
        async with self.service.running.system_call("test", None) as call:
            for name, place in places.items():
                row: Any = await call.find(self.model, self.model.id == UUID(name.partition("/")[2]))
                row.owner, row.department = place.owner, place.department
                row.collaborators = list(place.collaborators)
                itself = self.model.described.collection == "accounts"
                accounts[name] = name if itself else str(getattr(row, field)) if field else ""
        return accounts

    async def seen_by(self, caller: Caller, names: Sequence[str]) -> dict[str, set[str]]:
        """Which of the records the caller gets, by every path that reads."""
        running, model = self.service.running, self.model
        found: dict[str, set[str]] = {"load": set()}
        if reading.plain(model):
            found["get"] = set()
            for name in names:
                with suppress(NotFound):
                    await reading.get(running.engine, model, name, caller)
                    found["get"].add(name)
        query = Query(" OR ".join(f'name = "{name}"' for name in names))
        table, keys = model.__table__.name, [name.partition("/")[2] for name in names]
        async with running.call("test", caller, read_only=True) as call:
            for name in names:
                with suppress(NotFound):
                    await call.load(model, name, lock=False)
                    found["load"].add(name)
            size, secret = len(names) + 1, running.settings.secret
            page = await listing.page(call.db, model, query, size, "", caller, call.now, secret)
            found["list"] = {f"{model.described.collection}/{row.id}" for row in page.rows}
            figures = await listing.aggregate(call.db, model, query, [], [], [], caller, call.now)
            assert sum(row[1] for row in figures) == len(found["list"])
            wall = text(f"SELECT id FROM {table} WHERE id::text = ANY (:keys)")
            walled = await call.db.scalars(wall, {"keys": keys})
            found["second wall"] = {f"{model.described.collection}/{key}" for key in walled}
        return found

    def method(self, verb: str) -> str:
        """The RPC of a standard verb."""
        if verb == "Explain":
            return f"Explain{self.noun}Access"
        return f"{verb}{self.nouns if verb in OVER_MANY else self.noun}"

    def has(self, verb: str) -> bool:
        """True where the resource has the method."""
        return self.method(verb) in self.service.running.pipeline.methods

    async def call(self, verb: str, client: Client | None = None, /, **fields: Any) -> Any:
        """Calls a standard method, as somebody who may do everything unless told otherwise."""
        if verb == "Create" and self.model.described.rule.create_key_required:
            fields.setdefault("requestId", uuid4().hex)
        answer = await getattr(client or self.anybody, self.method(verb))(**fields)
        if verb == "Create":
            answer = told(answer)
        return answer

    async def create(self) -> Any:
        """A new record."""
        return await self.call("Create", **{self.singular_json: await self.sample()})

    async def kept(self, count: int) -> list[Any]:
        """So many records for tests that change none: they are made once for all of these."""
        while len(self.unchanged) < count:
            self.unchanged.append(await self.create())
        return self.unchanged[:count]

    async def drop(self, name: str) -> None:
        """Deletes or revokes a record where that is possible: of some there may not be many of one person."""
        for verb in ("Delete", "Revoke"):
            if self.has(verb):
                with contextlib.suppress(Refused):
                    await self.call(verb, name=name)

    async def update(self, name: str, values: Mapping[str, Any], mask: str) -> Any:
        """Changes fields."""
        return await self.call("Update", **{self.singular_json: {"name": name, **values}, "updateMask": mask})

    async def sample(self) -> dict[str, Any]:
        """A body that Create takes: required fields, and what the service's rules ask for beyond."""
        own = self.samples.get(self.model.described.collection, {})
        body = await self._required(self.model.described.message, set(own))
        return {**body, **await self._filled(own)}

    async def _filled(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """The sample with what is to be unique, and with the ids of records made for it."""
        said = json.dumps(dict(sample)).replace("{unique}", uuid4().hex[:12])
        for model in self.service.running.app.models:
            mark = "{" + model.described.collection + "}"
            if mark in said:
                made = await At(self.service, model, self.samples).create()
                said = said.replace(mark, made.name.rpartition("/")[2])
        return json.loads(said)

    async def _required(self, message: Descriptor, given: set[str]) -> dict[str, Any]:
        body: dict[str, Any] = {}
        for descriptor in message.fields:
            field = describe_field(descriptor)
            if field.required and not field.output_only and field.json_name not in given:
                body[field.json_name] = await self._value(field)
        return body

    async def _value(self, field: Field) -> Any:
        now = datetime.now(UTC) - timedelta(hours=1)
        match field.kind:
            case "text":
                return (f"样例{uuid4().hex}")[: field.max_length]
            case "enum":
                return field.enum_names[sorted(n for n in field.enum_names if n)[0]]
            case "enums":
                return [field.enum_names[sorted(n for n in field.enum_names if n)[0]]]
            case "texts":
                return [uuid4().hex]
            case "time":
                return now.isoformat().replace("+00:00", "Z")
            case "date":
                return {"year": now.year, "month": now.month, "day": now.day}
            case "money":
                return {"currencyCode": "CNY", "amount": "100.00"}
            case "decimal":
                return "1"
            case "int" | "float":
                return 1
            case "bool":
                return True
            case "reference":
                return await self.referenced(field.references)
            case "references":
                return [await self.referenced(field.references)]
            case "message":
                return await self._required(field.nested, set())
            case "messages":
                return [await self._required(field.nested, set())]
            case _:
                return {}

    async def referenced(self, kind: str) -> str:
        """The name of a record of the type: made here, or told as its own service would tell it."""
        running = self.service.running
        if kind in running.models_by_type:
            return (await At(self.service, running.models_by_type[kind], self.samples).create()).name
        described = resources()[kind]
        if described.collection in {"employees", "departments"}:
            person = self.service.person("everything")
            return str(person.employee if described.collection == "employees" else person.department)
        from uuid_utils.compat import uuid7

        name = f"{described.collection}/{uuid7()}"
        person = self.service.person("everything")
        resource = {
            "name": name, "displayName": "样例", "owner": person.employee, "department": person.department,
            "state": "ACTIVE", "etag": "1",
        }  # fmt: skip
        payload = {"name": name, "action": "CREATED", "actor": "system/test", "resource": resource}
        await self.service.tell(f"crm.{described.area}.v1.ResourceChanged", payload, name)
        return name

    def harmless_change(self, made: Any) -> tuple[Field, Any]:
        """A field that any rule lets change, with a new value."""
        return self.model.described.fields["collaborators"], [str(self.service.person("stranger").employee)]

    def searched(self, made: Any) -> str:
        """A fragment that finds the record."""
        if self.model.described.rule.number and made.number:
            return str(made.number)
        title = getattr(made, self.model.described.searchable[0], "")
        return title[-12:] if isinstance(title, str) else ""


def _required_of(message: Descriptor) -> dict[str, Any]:
    """Values for the required fields of a verb's request, beyond the name."""
    values: dict[str, Any] = {}
    for descriptor in message.fields:
        field = describe_field(descriptor)
        if field.required and field.name != "name":
            inner = descriptor.message_type if field.kind in {"message", "messages"} else None
            values[field.json_name] = {
                "text": "样例", "decimal": "1", "int": 1, "float": 1, "money": {"currencyCode": "CNY", "amount": "1.00"},
                "enum": next((n for n in field.enum_names.values() if n), "") if field.kind == "enum" else "",
                "reference": f"x/{uuid4()}", "references": [f"x/{uuid4()}"], "texts": ["x"],
                "time": "2026-01-01T00:00:00Z", "date": {"year": 2026, "month": 1, "day": 1}, "bool": True,
                "messages": [_required_of(inner)] if inner else [], "message": _required_of(inner) if inner else {},
            }.get(field.kind, "")  # fmt: skip
    return values
