"""Generated requests to every operation: what is wrong is refused as documented, and nothing breaks.

`make fuzz` runs it; `FUZZ_EXAMPLES` says how many requests each operation gets. Five take about ten minutes.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.people import Person

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.skipif(not EXAMPLES, reason="make fuzz runs it: it takes minutes")
@pytest.mark.parametrize("username", ["manager", "partner"])
def test_generated_requests_get_documented_answers(
    person: Callable[..., Person], username: str, tmp_path: Path
) -> None:
    caller = person(username)
    run = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{caller.http.base_url}/openapi.json",
            "--header", f"Authorization: Bearer {caller.token()}", "--checks", CHECKS, "--phases", "fuzzing",
            "--max-examples", str(EXAMPLES), "--seed", "7", "--no-color", "--request-timeout", "20",
            # Sessions belong to browsers, and a stream does not end.
            "--exclude-path-regex", "^/session|^/v1/stream",
            "--suppress-health-check", "all", "--warnings", "off",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=60 + 600 * EXAMPLES, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
