"""Template tags: ``{% load voicews %}``."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from voicews.conf import settings

register = template.Library()

_RENDERED = "voicews_call_button"


@register.simple_tag(takes_context=True)
def voicews_nonce(context: template.Context) -> SafeString:
    """The attribute `nonce` for a tag, where a middleware has one for this response."""
    request = context.get("request")
    # Django's own middleware from 6.0 on keeps it there, django-csp and its like in `csp_nonce`.
    # Both are false until they are used, and then in the header.
    nonce = getattr(request, "csp_nonce", None)
    if nonce is None:
        nonce = getattr(request, "_csp_nonce", None)
    if nonce is None:
        nonce = context.get("csp_nonce")
    return SafeString("") if nonce is None else format_html(' nonce="{}"', str(nonce))


@register.inclusion_tag("voicews/call_button.html", takes_context=True)
def voicews_call_button(
    context: template.Context, bot: str | None = None, label: str = "Call"
) -> dict[str, Any]:
    """A button that calls ``bot``, a name in ``VOICEWS["BOTS"]``; the default bot without one.

    The first one of a page brings its stylesheet and its script, both static files. Raises
    TemplateSyntaxError for an unknown bot.
    """
    found = settings.bot(bot)
    if found is None:
        names = ", ".join(settings.BOTS) or "none"
        raise template.TemplateSyntaxError(
            f'voicews_call_button: expected a bot of VOICEWS["BOTS"] ({names}), found {bot!r}'
        )
    first = _RENDERED not in context.render_context
    context.render_context[_RENDERED] = True
    return {
        "bot": found.name,
        "label": label,
        "connect_url": reverse("voicews:connect"),
        "first": first,
        "request": context.get("request"),
        "csp_nonce": context.get("csp_nonce"),
    }
