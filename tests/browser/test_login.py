"""Who must log in to call is led there, and back."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.chromium import microphone
from tests.browser.conftest import Complaints, OpenPage
from tests.browser.sound import sentence, silence, write_microphone
from tests.conftest import Serve
from tests.operators import PASSWORD, make_operators

SETTINGS = "tests.browser.login_settings"


def test_log_in_to_call(
    start: Serve, open_page: OpenPage, complaints: Complaints, sounds: Path
) -> None:
    complaints.expect(r"403|favicon\.ico")
    site = start("uvicorn", environment={"DJANGO_SETTINGS_MODULE": SETTINGS})
    make_operators(site.database, SETTINGS)
    words = microphone(write_microphone(sounds / "words.wav", silence(0.3), sentence(1)))
    page = open_page(f"{site.http_url}/voice/demo/?a=b", *words)
    page.get_by_role("button", name="Start call").click()
    link = page.get_by_role("link", name="Log in to call")
    expect(link).to_have_attribute(
        "href", f"{site.http_url}/admin/login/?next=%2Fvoice%2Fdemo%2F%3Fa%3Db"
    )
    page.goto(f"{site.http_url}/")
    element = page.locator("voicews-call")
    element.get_by_role("button").click()
    element.get_by_role("link", name="Log in to call").click()
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{site.http_url}/")
    element.get_by_role("button").click()
    expect(element).to_have_attribute("data-state", "ready")
    expect(element.get_by_role("alert")).to_have_text("")
