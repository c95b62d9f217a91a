"""Signed-in sessions of the dev issuer: one family of refresh tokens each, kept over restarts."""

import hashlib
import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

LIFETIME = 12 * 3600


@dataclass(frozen=True)
class Session:
    """Who signed in through which client, and when."""

    id: str
    username: str
    client: str
    auth_time: int


class Sessions:
    """Refresh tokens rotate: each works once, and one that comes back ends its whole session."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        path.chmod(0o600)
        self._db.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA foreign_keys = ON;
            CREATE TABLE IF NOT EXISTS sessions (
                id TEXT PRIMARY KEY, username TEXT NOT NULL, client TEXT NOT NULL,
                auth_time INTEGER NOT NULL, expires INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS refresh_tokens (
                hash TEXT PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
                used INTEGER NOT NULL DEFAULT 0);
            """
        )
        self._db.execute("DELETE FROM sessions WHERE expires < ?", (int(time.time()),))

    def open(self, username: str, client: str) -> Session:
        """Start a session."""
        now = int(time.time())
        session = Session(secrets.token_urlsafe(16), username, client, now)
        self._db.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", (session.id, username, client, now, now + LIFETIME)
        )
        return session

    def issue(self, session: Session) -> str:
        """Return a new refresh token of the session."""
        token = secrets.token_urlsafe(32)
        self._db.execute(
            "INSERT INTO refresh_tokens (hash, session) VALUES (?, ?)", (_hash(token), session.id)
        )
        return token

    def redeem(self, token: str, client: str) -> Session | None:
        """Use up a refresh token and return its session; None if it is unknown, over or used before."""
        row = self._db.execute(
            "SELECT s.id, s.username, s.client, s.auth_time FROM refresh_tokens t"
            " JOIN sessions s ON s.id = t.session WHERE t.hash = ? AND s.client = ? AND s.expires > ?",
            (_hash(token), client, int(time.time())),
        ).fetchone()
        if row is None:
            return None
        session = Session(*row)
        first = self._db.execute(
            "UPDATE refresh_tokens SET used = 1 WHERE hash = ? AND used = 0", (_hash(token),)
        )
        if first.rowcount == 0:
            # Somebody has a copy, and which of the two is the thief cannot be known.
            self.end(session.id)
            return None
        return session

    def revoke(self, token: str, client: str) -> None:
        """End the session that a refresh token belongs to."""
        self._db.execute(
            "DELETE FROM sessions WHERE client = ?"
            " AND id IN (SELECT session FROM refresh_tokens WHERE hash = ?)",
            (client, _hash(token)),
        )

    def end(self, id: str) -> None:
        """End a session and all its refresh tokens."""
        self._db.execute("DELETE FROM sessions WHERE id = ?", (id,))

    def end_all(self, username: str) -> None:
        """End every session of a person."""
        self._db.execute("DELETE FROM sessions WHERE username = ?", (username,))

    def close(self) -> None:
        self._db.close()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
