"""The stories of `web/tests` in Chromium, on the whole platform."""

import pytest
from local_platform.launcher import Running

from tests.browser.stories import WEB, comes_to_its_end

STORIES = sorted(path.name.removesuffix(".browser.ts") for path in (WEB / "tests").glob("*.browser.ts"))


@pytest.mark.parametrize("story", STORIES)
def test_a_story_of_the_web_client_comes_to_its_end(
    story: str, platform: Running, mailbox: dict[str, str]
) -> None:
    comes_to_its_end(story, platform.url, mailbox)
