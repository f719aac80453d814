"""Markup: names that anybody may have written become text in a page, whatever stands in them.

Every piece of HTML of the Space is put together from these functions.
"""

from __future__ import annotations

import html
import unicodedata
from typing import Any

# What a template of the page might take for its own, beside what HTML does.
_TEMPLATE = str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;"})


def escaped(value: Any) -> str:
    """A value as text of an HTML page, also inside quoted attributes."""
    return html.escape(str(value), quote=True).translate(_TEMPLATE)


def one_line(value: Any, limit: int) -> str:
    """What a visitor wrote, as one line of visible characters of bounded length."""
    text = "".join(
        " " if unicodedata.category(mark)[0] in "CZ" else mark
        for mark in unicodedata.normalize("NFC", str(value or "")[: 4 * limit])
    )
    return " ".join(text.split())[:limit].strip()


_THUMB = (
    "M7 10v11H3V10h4Zm2 11h8.3a2 2 0 0 0 2-1.6l1.6-8a2 2 0 0 0-2-2.4H14l.8-4.2A2 2 0 0 0 12.9 2h-.4L8.6 9.4a2 2 0 0 "
    "0-.2.9L9 21Z"
)
ICONS = {
    "up": f'<svg viewBox="0 0 24 24" fill="currentColor" aria-hidden="true"><path d="{_THUMB}"/></svg>',
    "down": (
        '<svg viewBox="0 0 24 24" fill="currentColor" aria-hidden="true">'
        f'<path transform="rotate(180 12 12)" d="{_THUMB}"/></svg>'
    ),
}
"""Thumbs as drawings: not every machine has letters for them."""


def button(act: str, item_id: str, text: str, label: str, kind: str = "") -> str:
    """A button that tells Python which act was meant for which item.

    Args:
        act: name of the act.
        item_id: of the item.
        text: on the button, or the name of an icon; label: for those who do not see what it stands beside.
        kind: further class.
    """
    return (
        f'<button type="button" class="act {escaped(kind)}" data-act="{escaped(act)}" data-item="{escaped(item_id)}" '
        f'aria-label="{escaped(label)}" title="{escaped(label)}">{ICONS.get(text) or escaped(text)}</button>'
    )


def nothing(title: str, advice: str) -> str:
    """What stands where a list is empty."""
    return f'<div class="nothing"><strong>{escaped(title)}</strong><p>{escaped(advice)}</p></div>'


CLICKS = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-act]');
  if (button && element.contains(button)) {
    element.dataset.last = button.dataset.act;
    trigger('click', {act: button.dataset.act, item: button.dataset.item});
  }
});
watch('value', () => {
  // The button that was pressed is gone: those who use the keyboard go on at the next one of its kind.
  const last = element.dataset.last;
  delete element.dataset.last;
  if (!last || (document.activeElement && document.activeElement !== document.body)) return;
  const next = element.querySelector(`button[data-act="${last}"]`) || element.querySelector('button[data-act]');
  if (next) next.focus({preventScroll: true});
});
"""
"""Script of an HTML component whose buttons are made by `button`."""
