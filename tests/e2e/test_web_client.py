"""The web client in every run: one story of the browser, the shortest that begins at home; `make browser` has all."""

import os
import shutil

import pytest
from local_platform.launcher import Running

from tests.browser.stories import comes_to_its_end


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.skipif(os.environ.get("IDENTITY", "dev") != "dev", reason="the story signs in at the dev issuer")
def test_a_person_on_the_way_makes_a_customer_from_home_and_no_page_is_too_wide(platform: Running) -> None:
    comes_to_its_end("phone", platform.url, {"STEP_SECONDS": "50"})
