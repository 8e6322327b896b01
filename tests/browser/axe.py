"""axe-core's rules for accessibility, run on a page as it stands."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from playwright.sync_api import Page

_SCRIPT = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"

_RUN = """async (context) => {
  const { violations } = await axe.run(context, { preload: false, resultTypes: ["violations"] });
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html }) => `${id}: ${help}: ${html.slice(0, 160)}`));
}"""


@cache
def _script() -> str:
    if not _SCRIPT.exists():
        pytest.fail(f"{_SCRIPT} was not found; run: npm ci")
    return _SCRIPT.read_text()


def violations(page: Page, *parts: str) -> list[str]:
    """What breaks a rule, each with its element; on the whole page, or where selectors say."""
    page.evaluate(_script())
    found: list[str] = page.evaluate(_RUN, list(parts) or ["body"])
    return found
