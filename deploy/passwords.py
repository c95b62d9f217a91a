"""`python deploy/passwords.py .env`: a fresh password for every name that compose.yaml and the chart read.

What the file has already is kept, so that calling it again after a new service adds only what is new.
"""

import base64
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from crmkit.map import APPS


def names() -> Iterator[str]:
    """Every secret of an installation, but those of an object store."""
    yield "SECRET_KEY"
    for app in APPS:
        yield f"{app.name.upper()}_NATS_PASSWORD"
        if app.database:
            yield f"{app.name.upper()}_PASSWORD"
            yield f"{app.name.upper()}_OWNER_PASSWORD"
    yield from ("GUANXI_ADMIN_SECRET", "POSTGRES_PASSWORD", "KEYCLOAK_PASSWORD", "KEYCLOAK_ADMIN_PASSWORD")


def fresh() -> str:
    """32 random bytes as base64url: a key where a key is asked for, and safe within a URL."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def write(file: Path) -> None:
    """Add what is missing; the file is readable by its owner alone."""
    lines = file.read_text().splitlines() if file.exists() else ["KEYCLOAK_ADMIN=admin"]
    known = {line.partition("=")[0] for line in lines}
    lines += [f"{name}={fresh()}" for name in names() if name not in known]
    draft = file.with_name(f"{file.name}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write("\n".join(lines) + "\n")
    draft.replace(file)
    print(f"{file.name}: {len(lines)} secrets, readable by you alone")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
