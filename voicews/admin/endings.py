"""What the close codes of a call mean to an operator."""

from __future__ import annotations

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Text = str | Promise


class Ending(NamedTuple):
    """What a close code means, and whether somebody should look into it."""

    meaning: Text
    is_trouble: bool = False


ENDINGS = {
    1000: Ending(_("hung up")),
    1001: Ending(_("the client left")),
    1005: Ending(_("the client left")),
    1006: Ending(_("the connection was lost"), is_trouble=True),
    1007: Ending(_("bad data"), is_trouble=True),
    1008: Ending(_("not allowed"), is_trouble=True),
    1009: Ending(_("message too big"), is_trouble=True),
    1011: Ending(_("server error"), is_trouble=True),
    1012: Ending(_("server restart"), is_trouble=True),
    1013: Ending(_("busy"), is_trouble=True),
    4000: Ending(_("time limit")),
    4001: Ending(_("replaced")),
    4002: Ending(_("ended by an operator")),
}

TROUBLE_CODES = [code for code, ending in ENDINGS.items() if ending.is_trouble]


def ending(close_code: int | None) -> Ending:
    """What a close code means; an unknown one is shown as it is."""
    if close_code is None:
        return Ending("")
    return ENDINGS.get(close_code) or Ending(str(close_code))
