"""Generated secrets of one installation, kept in one file that only its owner reads."""

import fcntl
import json
import os
import secrets
from pathlib import Path

from local_platform.layout import STATE


class Secrets:
    """Every name has one secret: made on first use, the same ever after."""

    def __init__(self, path: Path = STATE / "secrets.json") -> None:
        self.path = path

    def get(self, name: str) -> str:
        """Return 32 random bytes as base64url."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The lock is a file of its own, because replacing the file would release a lock on it.
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known: dict[str, str] = json.loads(self.path.read_text()) if self.path.exists() else {}
            if name not in known:
                known[name] = secrets.token_urlsafe(32)
                self._write(known)
            return known[name]

    def _write(self, known: dict[str, str]) -> None:
        draft = self.path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(known, file, indent=2, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
