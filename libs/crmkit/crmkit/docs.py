"""`make docs`: a page of reference for every area, from the descriptor set, into `docs/reference/`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crmprotos
from crm.options.v1 import options_pb2
from google.api import annotations_pb2  # pyright: ignore[reportMissingTypeStubs]

from crmkit.catalog import resources
from crmkit.describe import Described
from crmkit.errors import reasons
from crmkit.options import option

FOLDER = Path(__file__).parents[3] / "docs" / "reference"


def page(area: str) -> Iterator[str]:
    """The lines of an area's page."""
    yield f"# {area}\n"
    for described in resources().values():
        if described.area == area:
            yield from _resource(described)
    yield "\n## Calls\n\n| call | path | permission |\n|---|---|---|"
    for file in crmprotos.load().file:
        for service in file.service if file.package == f"crm.{area}.v1" else ():
            for method in service.method:
                http: Any = option(method, annotations_pb2.http)
                verb = str(http.WhichOneof("pattern"))
                permission: str = option(method, options_pb2.permission)
                yield f"| {method.name} | `{verb.upper()} {getattr(http, verb)}` | `{permission}` |"
    yield "\n## Reasons\n\n| reason | 中文 | English |\n|---|---|---|"
    for name, texts in reasons().items():
        if (text := texts.get(area)) and text.en:
            yield f"| {name} | {text.zh} | {text.en} |"


def _resource(described: Described) -> Iterator[str]:
    label = described.rule.label
    yield f"\n## {described.collection} ({label.zh}, {label.en})\n\n| field | 中文 | kind | rules |\n|---|---|---|---|"
    for field in described.fields.values():
        rules = [word for word, held in (("required", field.required), ("output only", field.output_only),
                 ("immutable", field.immutable)) if held]  # fmt: skip
        yield f"| {field.json_name} | {field.rule.label.zh} | {field.kind} | {', '.join(rules)} |"


def main() -> None:
    """Writes every page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for area in sorted({described.area for described in resources().values()}):
        (FOLDER / f"{area}.md").write_text("\n".join(page(area)) + "\n")
        print(FOLDER / f"{area}.md")


if __name__ == "__main__":
    main()
