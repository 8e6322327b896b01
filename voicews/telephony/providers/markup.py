"""The XML documents that providers take as answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from voicews.exceptions import ConfigurationError
from voicews.telephony.providers.base import WebhookResponse

#: What XML 1.0 can't carry, not even escaped.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def element(
    tag: str,
    attributes: Mapping[str, str] | None = None,
    *children: ET.Element,
    text: str = "",
) -> ET.Element:
    """An element; attributes that are empty are left out.

    Raises `ConfigurationError` for a character that XML doesn't have.
    """
    kept = {name: value for name, value in (attributes or {}).items() if value}
    if any(_FORBIDDEN.search(value) for value in (*kept.values(), text)):
        raise ConfigurationError(f"<{tag}>: expected text without control characters")
    made = ET.Element(tag, kept)
    made.text = text or None
    made.extend(children)
    return made


def parameter(name: str, value: str) -> ET.Element:
    """A `<Parameter>`, whose value may be empty."""
    made = element("Parameter", {"name": name, "value": value})
    made.attrib.setdefault("value", "")
    return made


def document(verb: ET.Element) -> WebhookResponse:
    """The document that says to do this."""
    root = element("Response", None, verb)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return WebhookResponse(body=text.decode(), content_type="text/xml; charset=utf-8")
