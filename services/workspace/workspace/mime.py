"""Mail as others write it: whatever comes is read, however broken, without believing what it says of itself.

The standard library's own decoding gives up on unknown charsets and broken parts; here every part is decoded by what
it names, then by what it looks like, and at last byte by byte.
"""

import email.policy
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser
from email.utils import getaddresses, parsedate_to_datetime
from html import unescape
from typing import cast

import nh3
from crmkit.text import clean_name

LARGEST_TEXT = 2_000_000
MOST_FILES = 50
MOST_PARTIES = 200
MOST_REFERENCES = 100
DEEPEST = 20
# What Chinese mails call themselves and what they are in truth.
CHARSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "hz-gb-2312": "hz",
    "ks_c_5601-1987": "cp949",
}
GUESSES = ("utf-8", "gb18030", "latin-1")
MESSAGE_ID = re.compile(r"<[^<>\s]{1,900}>")
ADDRESS = re.compile(r"[^@\s\"<>,;:]{1,64}@[^@\s\"<>,;:]{1,253}")
PREFIX = re.compile(
    r"^\s*((re|fw|fwd|aw|sv|antw|回复|答复|转发|轉寄|回覆)(\[\d+\])?\s*[:：]\s*)+", re.IGNORECASE
)
# Where what is quoted begins: in the words of the programs that people use.
QUOTED = re.compile(
    r"^[ \t]*(?:>.*|-{2,}\s*(?:original message|forwarded message|原始邮件|原邮件|转发的?邮件|回复的原邮件).*"
    r"|on\b.{4,200}\bwrote:|在.{4,200}写道[:：]|.{4,120}于.{4,80}写道[:：]|_{20,}"
    r"|(?:from|发件人|寄件者)[:：].{2,200}\n[ \t]*(?:sent|date|to|发送时间|发送日期|日期|时间|收件人)[:：].*)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
SIGNATURE = re.compile(r"^(?:-- ?|—{2,}|发自我的.{1,30}|sent from my .{1,40})$", re.IGNORECASE | re.MULTILINE)
TAGS = nh3.ALLOWED_TAGS - {"article", "aside"} | {"font"}
ATTRIBUTES = {
    **{tag: set(found) for tag, found in nh3.ALLOWED_ATTRIBUTES.items()},
    "*": {"style", "align", "dir", "title"}, "font": {"color", "size", "face"},
    "td": {"colspan", "rowspan", "width", "valign"}, "th": {"colspan", "rowspan", "width", "valign"},
    "table": {"border", "cellpadding", "cellspacing", "width"}, "img": {"src", "alt", "width", "height"},
}  # fmt: skip
STYLES = {
    "color", "background-color", "font-size", "font-weight", "font-style", "font-family", "text-align", "text-decoration",
    "margin", "padding", "border", "border-collapse", "width", "line-height", "vertical-align", "white-space",
}  # fmt: skip
BREAKS = re.compile(r"<(?:br|/p|/div|/tr|/li|/h[1-6])\b[^>]*>", re.IGNORECASE)
UNSEEN = re.compile(r"<(style|script|head|title)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
CONTROLS = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
LINK = re.compile(r"(?:https?|mailto|tel):", re.IGNORECASE)
REMOTE = re.compile(r"https?://|cid:", re.IGNORECASE)
PICTURE = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,", re.IGNORECASE)
FETCHES = re.compile(r"url|expression|import|[\\@]|/\*", re.IGNORECASE)


@dataclass
class Attachment:
    """A file that comes with a mail."""

    display_name: str
    media_type: str
    content: bytes
    content_id: str = ""
    # What the scanner calls what it has found, and the hash under which the bytes lie in quarantine.
    infected: str = ""
    sha256: str = ""


@dataclass
class Bounce:
    """What a server says that could not deliver a mail."""

    message_id: str
    failed: list[tuple[str, str, str]]


@dataclass
class Mail:
    """What a mail says."""

    message_id: str = ""
    digest: str = ""
    references: list[str] = field(default_factory=list[str])
    subject: str = ""
    sender: tuple[str, str] = ("", "")
    to: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    cc: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    time: datetime | None = None
    text: str = ""
    quote: str = ""
    html: str = ""
    files: list[Attachment] = field(default_factory=list[Attachment])
    bounce: Bounce | None = None
    # True where a calendar comes with it.
    calendar: bool = False


def read(raw: bytes) -> Mail:
    """What a mail says. Nothing that anybody can send makes it raise."""
    message = _parsed(raw)
    mail = Mail(digest=hashlib.sha256(raw).hexdigest())
    ids = MESSAGE_ID.findall(_header(message, "Message-ID"))
    mail.message_id = ids[0] if ids else f"<{mail.digest}@hash.invalid>"
    mail.references = list(
        dict.fromkeys(
            MESSAGE_ID.findall(_header(message, "References"))
            + MESSAGE_ID.findall(_header(message, "In-Reply-To"))
        )
    )[-MOST_REFERENCES:]
    mail.subject = _line(_header(message, "Subject"))[:500]
    mail.sender = next(iter(_parties(message, "From") or _parties(message, "Sender")), ("", ""))
    mail.to, mail.cc = _parties(message, "To"), _parties(message, "Cc")
    mail.time = _time(_header(message, "Date"))
    plain: list[str] = []
    rich: list[str] = []
    for part in _parts(message):
        _take(part, mail, plain, rich)
    mail.bounce = _bounce(message)
    formatted = "\n".join(rich)[:LARGEST_TEXT]
    mail.html = kept_html(formatted)
    text = "\n".join(plain)[:LARGEST_TEXT] or words_of(formatted)
    mail.text, mail.quote = split(text)
    return mail


def _parsed(raw: bytes) -> Message:
    try:
        return message_from_bytes(raw, policy=email.policy.compat32)
    except (RecursionError, ValueError, LookupError, AttributeError):
        # Parts in parts in parts: the head is read, and what follows is text.
        return BytesParser(policy=email.policy.compat32).parsebytes(raw, headersonly=True)


def _parts(message: Message, depth: int = 0) -> Iterator[Message]:
    """The leaves; a mail within a mail is a leaf."""
    payload = message.get_payload()
    if not isinstance(payload, list) or message.get_content_type() == "message/rfc822" or depth > DEEPEST:
        yield message
        return
    for part in payload:
        if isinstance(part, Message):
            yield from _parts(part, depth + 1)


def _take(part: Message, mail: Mail, plain: list[str], rich: list[str]) -> None:
    kind = part.get_content_type()
    name = _file_name(part)
    mail.calendar = mail.calendar or kind == "text/calendar"
    attached = _header(part, "Content-Disposition").strip().lower().startswith("attachment")
    if kind in {"text/plain", "text/html"} and not attached and not (name and (plain or rich)):
        text = _decoded(content_of(part), _charset(part)).replace("\r\n", "\n").replace("\r", "\n")
        text = CONTROLS.sub("", text)
        (plain if kind == "text/plain" else rich).append(text)
        return
    if kind.startswith("multipart/") or len(mail.files) >= MOST_FILES:
        return
    content = content_of(part)
    if content:
        name = name or ("mail.eml" if kind == "message/rfc822" else f"part-{len(mail.files) + 1}")
        identifier = _header(part, "Content-ID").strip().strip("<>")[:200]
        mail.files.append(Attachment(name, kind[:100], content, identifier))


def content_of(part: Message) -> bytes:
    """The bytes of a part, whatever its encoding has lost on the way."""
    with suppress(Exception):
        if part.is_multipart():
            return b"\r\n".join(
                inner.as_bytes() for inner in part.get_payload() if isinstance(inner, Message)
            )
        return bytes(cast("bytes", part.get_payload(decode=True) or b""))
    return b""


def _charset(part: Message) -> str:
    with suppress(Exception):
        return str(part.get_content_charset() or "")
    return ""


def _decoded(raw: bytes, charset: str) -> str:
    """The text: by the charset that is named where it fits, else by what it looks like."""
    charset = CHARSETS.get(charset.lower(), charset.lower())
    for guess in (charset, *GUESSES):
        with suppress(LookupError, UnicodeDecodeError, ValueError):
            if guess:
                return raw.decode(guess)
    return raw.decode("utf-8", "replace")


def _raw(message: Message, name: str) -> list[str]:
    """A header as it came: bytes that are no ASCII are surrogates."""
    return [str(value) for key, value in message.raw_items() if key.lower() == name.lower()]


def _header(message: Message, name: str) -> str:
    found = _raw(message, name)
    return _words(found[0][:20_000]) if found else ""


def _words(raw: str) -> str:
    """What a header says, encoded words decoded."""
    text = _decoded(raw.encode("utf-8", "surrogateescape"), "")
    if "=?" in text:
        with suppress(Exception):
            pieces = decode_header(text)
            text = "".join(p if isinstance(p, str) else _piece(p, charset) for p, charset in pieces)
    return CONTROLS.sub("", text)


def _piece(raw: bytes, charset: str | None) -> str:
    return raw.decode("raw-unicode-escape") if charset is None else _decoded(raw, charset)


def _line(text: str) -> str:
    return " ".join(text.split())


def _parties(message: Message, name: str) -> list[tuple[str, str]]:
    """Addresses, in lower case, with names; what is no address is left out."""
    raw = _raw(message, name)
    if any("=?" in one for one in raw):
        # A name is decoded behind the address: a comma that was encoded divides nothing.
        pairs = [(_words(shown), address) for shown, address in _pairs(raw)]
    else:
        pairs = _pairs([_words(one) for one in raw])
    found: dict[str, str] = {}
    for shown, address in pairs[: 2 * MOST_PARTIES]:
        plain = CONTROLS.sub("", address).strip().lower()
        if ADDRESS.fullmatch(plain):
            found.setdefault(plain, _line(clean_name(CONTROLS.sub("", shown)))[:200])
    return list(found.items())[:MOST_PARTIES]


def _pairs(values: list[str]) -> list[tuple[str, str]]:
    try:
        return getaddresses(values, strict=False)
    except TypeError:
        # Before Python 3.11.10 there is no strict reading that could be put off.
        return getaddresses(values)


def _time(said: str) -> datetime | None:
    with suppress(Exception):
        found = parsedate_to_datetime(said)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    return None


def _file_name(part: Message) -> str:
    name = ""
    with suppress(Exception):
        name = _words(str(part.get_filename() or ""))
    return _line(clean_name(CONTROLS.sub("", name))).replace("/", "_").replace("\\", "_")[:200]


def _bounce(message: Message) -> Bounce | None:
    """What a delivery status notification says (RFC 3464); None for any other mail."""
    if message.get_content_type() != "multipart/report":
        return None
    failed: list[tuple[str, str, str]] = []
    original = ""
    for part in _all(message):
        kind = part.get_content_type()
        if kind == "message/delivery-status":
            blocks = part.get_payload()
            for block in blocks if isinstance(blocks, list) else []:
                if isinstance(block, Message) and _header(block, "Action").strip().lower() == "failed":
                    address = _header(block, "Final-Recipient") or _header(block, "Original-Recipient")
                    plain = address.rpartition(";")[2].strip().lower()
                    code = _header(block, "Status").split(" ")[0][:20]
                    if ADDRESS.fullmatch(plain):
                        failed.append(
                            (plain, code or "5.0.0", _line(_header(block, "Diagnostic-Code"))[:300])
                        )
        elif kind in {"message/rfc822", "text/rfc822-headers", "message/rfc822-headers"} and not original:
            inner = part.get_payload()
            held = inner[0] if isinstance(inner, list) and inner else None
            said = (
                _header(held, "Message-ID")
                if isinstance(held, Message)
                else content_of(part).decode("latin-1")
            )
            named = re.search(r"^message-id:\s*(<[^<>\s]+>)", said, re.IGNORECASE | re.MULTILINE)
            ids = [named[1]] if named else MESSAGE_ID.findall(said)
            original = ids[0] if ids else ""
    return Bounce(original, failed) if failed else None


def _all(message: Message, depth: int = 0) -> Iterator[Message]:
    yield message
    payload = message.get_payload() if message.is_multipart() and depth < DEEPEST else []
    for part in payload:
        if isinstance(part, Message):
            yield from _all(part, depth + 1)


def split(text: str) -> tuple[str, str]:
    """The own words of a mail and what it quotes; the signature goes with what is quoted."""
    text = text.strip("\n")
    cut = len(text)
    if found := QUOTED.search(text):
        cut = found.start()
    if found := SIGNATURE.search(text, 0, cut):
        cut = found.start()
    own = text[:cut].strip()
    # A mail that answers beneath what it quotes is its own words whole.
    return (own, text[cut:].strip()) if own else (text.strip(), "")


def base_subject(subject: str) -> str:
    """The subject without what programs put before it."""
    return _line(PREFIX.sub("", subject)).casefold()


def words_of(html: str) -> str:
    """The text of formatted text."""
    shown = BREAKS.sub("\n", UNSEEN.sub("", html))
    plain = unescape(nh3.clean(shown, tags=set(), attributes={}))
    return "\n".join(line.strip() for line in plain.replace("\xa0", " ").split("\n")).strip()


def kept_html(html: str) -> str:
    """Formatted text as it is stored: nothing in it acts, and its pictures stay where they are."""

    def kept(tag: str, attribute: str, value: str) -> str | None:
        if tag == "img" and attribute == "src":
            return value if PICTURE.match(value) or REMOTE.match(value) else None
        return _harmless(attribute, value)

    return _cleaned(html, kept)


def safe_html(html: str, show_images: bool = False) -> tuple[str, int]:
    """Formatted text without anything that acts or leaves the page, and how many pictures were left out."""
    blocked = 0

    def kept(tag: str, attribute: str, value: str) -> str | None:
        nonlocal blocked
        if tag == "img" and attribute == "src" and not PICTURE.match(value):
            shown = show_images and value.lower().startswith("https://")
            # Pictures that come with the mail are among its files.
            blocked += not shown and not value.lower().startswith("cid:")
            return value if shown else None
        return _harmless(attribute, value)

    return _cleaned(html, kept), blocked


def _harmless(attribute: str, value: str) -> str | None:
    if attribute == "href" and not LINK.match(value):
        return None
    return None if attribute == "style" and FETCHES.search(value) else value


def _cleaned(html: str, kept: Callable[[str, str, str], str | None]) -> str:
    return nh3.clean(
        html, tags=TAGS, attributes=ATTRIBUTES, attribute_filter=kept, filter_style_properties=STYLES,
        url_schemes={"http", "https", "mailto", "tel", "data", "cid"}, link_rel="noopener noreferrer nofollow",
        strip_comments=True,
    )  # fmt: skip
