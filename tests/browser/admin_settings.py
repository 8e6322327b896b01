"""The browser tests' project, its admin under the strictest policy that it can have."""

from collections.abc import Callable
from typing import Any

from tests.browser.settings import *  # noqa: F403

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def strict_policy(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Middleware: no inline code, nothing from elsewhere."""

    def respond(request: Any) -> Any:
        response = get_response(request)
        response.setdefault("Content-Security-Policy", POLICY)
        return response

    return respond


MIDDLEWARE = ["tests.browser.admin_settings.strict_policy", *MIDDLEWARE]  # noqa: F405
