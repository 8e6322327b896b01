"""Script tags carry the nonce of the project's Content-Security-Policy."""

from __future__ import annotations

import re
from typing import Any

import django
import pytest
from django.contrib.auth.models import User
from django.test import Client

pytestmark = pytest.mark.django_db

POLICY = {"script-src": ["'strict-dynamic'"], "style-src": ["'self'"]}
MIDDLEWARES = ["csp.middleware.CSPMiddleware"]
if django.VERSION >= (6, 0):
    MIDDLEWARES.append("django.middleware.csp.ContentSecurityPolicyMiddleware")


@pytest.fixture(params=MIDDLEWARES)
def visitor(request: pytest.FixtureRequest, settings: Any) -> Client:
    """An operator in a project with a middleware that makes nonces."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, request.param]
    if request.param.startswith("csp."):
        from csp.constants import NONCE

        settings.CONTENT_SECURITY_POLICY = {"DIRECTIVES": _with(NONCE)}
    else:
        from django.utils.csp import CSP

        settings.SECURE_CSP = _with(CSP.NONCE)
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def _with(nonce: object) -> dict[str, list[object]]:
    return {name: [*values, nonce] for name, values in POLICY.items()}


@pytest.mark.parametrize(
    "path", ["/", "/voice/demo/", "/admin/voicews/voicesession/", "/admin/voicews/dashboard/"]
)
def test_our_tags_carry_the_nonce(visitor: Client, path: str) -> None:
    response = visitor.get(path)
    html = response.content.decode()
    ours = re.findall(r'<(?:script|link rel="stylesheet")[^>]*/voicews/[^>]*>', html)
    assert ours
    nonces = {found[1] for tag in ours if (found := re.search(r' nonce="([^"]+)"', tag))}
    assert len(nonces) == 1
    assert all(" nonce=" in tag for tag in ours)
    if path != "/voice/demo/":  # it has a policy of its own
        assert f"'nonce-{nonces.pop()}'" in response["Content-Security-Policy"]


def test_without_a_nonce_there_is_no_attribute(client: Client) -> None:
    assert "nonce" not in client.get("/").content.decode()
