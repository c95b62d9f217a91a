"""The sign-in page of the dev issuer, in Chinese and English."""

from collections.abc import Iterable
from html import escape

import yaml

from local_platform.layout import ROLES
from local_platform.people import Person

TEXTS = {
    "zh": {
        "title": "登录关系 CRM",
        "hint": "本机演示登录：点选一位同事即可进入，无需密码。",
        "out": "您已退出登录。",
    },
    "en": {
        "title": "Sign in to Guanxi CRM",
        "hint": "Local demo: choose a person to come in; no password is asked.",
        "out": "You are signed out.",
    },
}

STYLE = """
body { font: 16px/1.5 system-ui, "PingFang SC", "Noto Sans CJK SC", sans-serif; background: #f3f5f8; color:
#1c2433; margin: 0; display: grid; place-items: center; min-height: 100vh; } main { background: #fff;
border-radius: 12px; box-shadow: 0 2px 16px #1c243318; padding: 32px; width: min(560px, 88vw); margin: 24px
0; } h1 { font-size: 22px; margin: 0 0 4px; } p { color: #55607a; margin: 0 0 20px; } form { display: grid;
grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 10px; } button { font: inherit;
text-align: left; background: #fff; border: 1px solid #cfd6e4; border-radius: 8px; padding: 10px 14px;
cursor: pointer; } button:hover, button:focus-visible { border-color: #1256c4; outline: 2px solid #1256c455;
} small { display: block; color: #55607a; }
"""


def language(ui_locales: str | None, accept_language: str | None) -> str:
    """Choose `zh` or `en`; Chinese when nobody asks for English."""
    wish = (ui_locales or accept_language or "zh").strip().lower()
    return "en" if wish.startswith("en") else "zh"


def render(people: Iterable[Person], language: str, login_hint: str | None) -> str:
    """Return the page that lists the people; the hinted one has the focus."""
    labels = yaml.safe_load(ROLES.read_text())
    buttons = []
    for person in people:
        name = person.zh if language == "zh" else person.en
        # Roles that an administrator has made have no label here.
        roles = "、".join(
            labels[role]["label"][language] if role in labels else role for role in person.roles
        )
        focus = " autofocus" if person.username == login_hint else ""
        buttons.append(
            f'<button name="username" value="{escape(person.username)}"{focus}>{escape(name)}'
            f"<small>{escape(roles)} · {escape(person.username)}</small></button>"
        )
    text = TEXTS[language]
    # Without an action the form goes back to this very address, query included.
    return _page(
        language, text["title"], f'<p>{text["hint"]}</p><form method="post">{"".join(buttons)}</form>'
    )


def signed_out(language: str) -> str:
    """Return the page after signing out."""
    return _page(language, TEXTS[language]["title"], f"<p>{TEXTS[language]['out']}</p>")


def _page(language: str, title: str, content: str) -> str:
    return (
        f'<!doctype html><html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><main><h1>{title}</h1>{content}</main></body></html>"
    )
