"""`python -m crmprotos.breaking`: nothing that a released client relies on may change.

Compares the expanded protos with those of the newest release (tag `v*`), by `buf breaking` with WIRE_JSON.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from crmprotos.build import PACKAGE, PROTOS

ROOT = PROTOS.parent


def main() -> int:
    """0 where nothing breaks, or nothing has been released yet."""
    tags = _git("tag", "--list", "v*", "--sort=-v:refname").split()
    if not tags:
        print("no release yet: nothing to break")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", tags[0], "protos", "libs/crmprotos"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        released = Path(folder) / "libs" / "crmprotos"
        subprocess.run(
            [sys.executable, "-m", "crmprotos.build"],
            cwd=released,
            check=True,
            env={**os.environ, "PYTHONPATH": str(released)},
        )
        against = released / "crmprotos" / "descriptors.binpb"
        config = '{"version":"v2","breaking":{"use":["WIRE_JSON"],"ignore":["google"]}}'
        ours = PACKAGE / "descriptors.binpb"
        return subprocess.run(
            ["buf", "breaking", ours, "--against", against, "--config", config], check=False
        ).returncode


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    raise SystemExit(main())
