"""What the image is made of: `make sbom` writes it as CycloneDX, and the tests ask whether all of it is pinned.

A scan for known weaknesses belongs into the pipeline of who runs the platform: it needs a data base from outside.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def bill(root: Path = ROOT) -> dict[str, Any]:
    """The bill of materials: Python's packages from `uv.lock`, the web client's from `package-lock.json`."""
    exported = subprocess.run(
        ["uv", "export", "--format", "cyclonedx1.5", "--preview-features", "sbom-export", "--all-packages",
         "--frozen", "--no-dev", "--quiet"],
        cwd=root, capture_output=True, check=True, text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(exported.stdout)
    packages: dict[str, dict[str, Any]] = json.loads((root / "web" / "package-lock.json").read_text())[
        "packages"
    ]
    for path, package in packages.items():
        if path and not package.get("dev"):
            name = path.rpartition("node_modules/")[2]
            purl = f"pkg:npm/{name.replace('@', '%40', 1)}@{package['version']}"
            component = {"type": "library", "name": name, "version": package["version"], "purl": purl}
            found["components"].append({**component, "bom-ref": f"npm-{path}"})
    # The same sources give the same bill.
    del found["serialNumber"], found["metadata"]["timestamp"]
    return found


def python_hashes(root: Path = ROOT) -> dict[tuple[str, str], list[str]]:
    """The SHA-256 of every file of every package from a registry, by name and version."""
    lock = tomllib.loads((root / "uv.lock").read_text())
    return {
        (package["name"], package["version"]): [
            file.get("hash", "").removeprefix("sha256:")
            for file in (*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else []))
        ]
        for package in lock["package"]
        if "registry" in package["source"]
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
