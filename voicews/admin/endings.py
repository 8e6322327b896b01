"""What the close codes of a call mean to an operator."""

from __future__ import annotations

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from voicews.close_codes import CloseCode

Text = str | Promise


class Ending(NamedTuple):
    """What a close code means, and whether it needs attention."""

    meaning: Text
    is_trouble: bool = False


ENDINGS: dict[int, Ending] = {
    CloseCode.NORMAL: Ending(_("hung up")),
    CloseCode.GOING_AWAY: Ending(_("the client left")),
    CloseCode.NO_STATUS: Ending(_("the client left")),
    CloseCode.ABNORMAL: Ending(_("the connection was lost"), is_trouble=True),
    CloseCode.BAD_DATA: Ending(_("bad data"), is_trouble=True),
    CloseCode.NOT_ALLOWED: Ending(_("not allowed"), is_trouble=True),
    CloseCode.TOO_BIG: Ending(_("message too big"), is_trouble=True),
    CloseCode.SERVER_ERROR: Ending(_("server error"), is_trouble=True),
    CloseCode.SERVER_RESTARTING: Ending(_("server restart"), is_trouble=True),
    CloseCode.BUSY: Ending(_("busy"), is_trouble=True),
    CloseCode.SESSION_TIMEOUT: Ending(_("time limit")),
    CloseCode.REPLACED: Ending(_("replaced")),
    CloseCode.ENDED_BY_OPERATOR: Ending(_("ended by an operator")),
}

TROUBLE_CODES = [int(code) for code, ending in ENDINGS.items() if ending.is_trouble]


def ending(close_code: int | None) -> Ending:
    """What a close code means; an unknown one is shown as it is."""
    if close_code is None:
        return Ending("")
    return ENDINGS.get(close_code) or Ending(str(close_code))
