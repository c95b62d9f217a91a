"""The stories of `web/tests` in Chromium, on the whole platform."""

import os
import subprocess
from pathlib import Path

import pytest
from local_platform.launcher import Running

WEB = Path(__file__).parents[2] / "web"
STORIES = sorted(path.name.removesuffix(".browser.ts") for path in (WEB / "tests").glob("*.browser.ts"))


@pytest.mark.parametrize("story", STORIES)
def test_a_story_of_the_web_client_comes_to_its_end(
    story: str, platform: Running, mailbox: dict[str, str]
) -> None:
    command = ["npm", "run", "--silent", "test:browser", "--", f"{story}.browser.ts"]
    told = subprocess.run(
        command,
        cwd=WEB,
        env={**os.environ, **mailbox, "CRM_URL": platform.url},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-2000:]
