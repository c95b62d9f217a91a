"""Runs a story of `web/tests` in Chromium."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

WEB = Path(__file__).parents[2] / "web"


def comes_to_its_end(story: str, url: str, environment: Mapping[str, str]) -> None:
    """Runs the story against the platform there, 10 minutes at most; fails with what it said."""
    told = subprocess.run(
        ["npm", "run", "--silent", "test:browser", "--", f"{story}.browser.ts"],
        cwd=WEB,
        env={**os.environ, **environment, "CRM_URL": url, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-12_000:]
