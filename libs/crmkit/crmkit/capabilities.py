"""`make capabilities`: which test proves which capability of the product."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
TAGS = ROOT / "docs" / "capabilities.txt"
FOLDERS = ("libs", "services", "gateway", "deploy", "tests")


def marks() -> dict[str, list[str]]:
    """Tag → tests, read from the source: a mark counts whether or not the test runs today."""
    found: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("test_*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    for decorator in node.decorator_list:
                        if (
                            isinstance(decorator, ast.Call)
                            and ast.unparse(decorator.func) == "pytest.mark.capability"
                        ):
                            for argument in decorator.args:
                                tag = str(ast.literal_eval(argument))
                                found.setdefault(tag, []).append(f"{path.relative_to(ROOT)}::{node.name}")
    return found


def main() -> int:
    """Prints the table; 1 where a mark names an unknown tag."""
    tags = TAGS.read_text().split()
    found = marks()
    for tag in tags:
        for test in found.get(tag, []):
            print(f"{tag:14} {test}")
    unknown = sorted(set(found) - set(tags))
    for tag in unknown:
        print(f"unknown tag {tag}: {', '.join(found[tag])}", file=sys.stderr)
    print(f"{len(set(found) & set(tags))} of {len(tags)}")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
