"""A small IMAP server of the tests' own process, which says what real ones say.

What it does not do, a real server (dovecot) proves in `test_mail_accounts.py` where one is installed.
"""

import asyncio
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager

WORDS = re.compile(rb'"((?:[^"\\]|\\.)*)"|(\S+)')


class ImapServer:
    """One mailbox for each user; folders hold mails by UID."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, list[bytes]]] = {}
        self.passwords: dict[str, str] = {}
        self.validity = 7
        self.logins: list[tuple[str, bool]] = []
        # Says of a user after how many fetches the connection is cut.
        self.cut: dict[str, int] = {}
        self.port = 0

    def mailbox(self, user: str, password: str = "secret") -> list[bytes]:
        """The INBOX of a user."""
        self.passwords[user] = password
        return self.folders.setdefault(user, {}).setdefault("INBOX", [])

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        user, chosen = "", list[bytes]()
        writer.write(b"* OK ready\r\n")
        while line := await reader.readline():
            tag, _, rest = line.strip().partition(b" ")
            words = [(quoted or plain).decode() for quoted, plain in WORDS.findall(rest)]
            verb = words[0].upper() if words else ""
            said, done = b"", b"OK done"
            if verb == "CAPABILITY":
                said = b"* CAPABILITY IMAP4rev1 ID\r\n"
            elif verb == "ID":
                said = b'* ID ("name" "test")\r\n'
            elif verb == "LOGIN":
                good = self.passwords.get(words[1]) == words[2]
                self.logins.append((words[1], good))
                user, done = (words[1], done) if good else ("", b"NO [AUTHENTICATIONFAILED] wrong")
            elif verb in {"SELECT", "EXAMINE"}:
                found = self.folders.get(user, {}).get(words[1])
                if found is None:
                    done = b"NO no such folder"
                else:
                    chosen = found
                    said = b"* %d EXISTS\r\n* OK [UIDVALIDITY %d] x\r\n" % (len(chosen), self.validity)
            elif verb == "UID" and words[1].upper() == "SEARCH":
                first = int(words[3].partition(":")[0]) if words[2].upper() == "UID" else 1
                uids = [uid for uid in range(1, len(chosen) + 1) if uid >= first] or (
                    [len(chosen)] if chosen else []
                )
                said = b"* SEARCH " + b" ".join(str(uid).encode() for uid in uids) + b"\r\n"
            elif verb == "UID" and words[1].upper() == "FETCH":
                raw, uid = chosen[int(words[2]) - 1], int(words[2])
                if b"SIZE" in rest:
                    said = b"* %d FETCH (UID %d RFC822.SIZE %d)\r\n" % (uid, uid, len(raw))
                else:
                    if self.cut.get(user, -1) == 0:
                        self.cut.pop(user)
                        writer.close()
                        return
                    self.cut = {one: left - (one == user) for one, left in self.cut.items()}
                    said = b"* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n" % (uid, uid, len(raw), raw)
            elif verb == "LOGOUT":
                said = b"* BYE\r\n"
            writer.write(said + tag + b" " + done + b"\r\n")
            await writer.drain()
            if verb == "LOGOUT":
                break
        writer.close()


@contextmanager
def imap_server() -> Generator[ImapServer]:
    """A server on a port of its own, in a thread of its own."""
    server, loop, ready = ImapServer(), asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        listening = await asyncio.start_server(server.talk, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        ready.set()
        async with listening:
            await listening.serve_forever()

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(serve())
        except asyncio.CancelledError:
            pass
        finally:
            loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(10)
    yield server
    for task in asyncio.all_tasks(loop):
        loop.call_soon_threadsafe(task.cancel)
    thread.join(10)
