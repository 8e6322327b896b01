"""The admin in Chromium, under a policy that allows nothing inline."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import cache

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Complaints, OpenPage
from tests.conftest import Serve, WaitFor
from tests.live_call import Caller, call
from tests.operators import PASSWORD, make_operators
from tests.server_processes import Server, ServerName

SETTINGS = "tests.browser.admin_settings"
LIST = "/admin/voicews/voicesession/"

OpenAdmin = Callable[..., Page]


#: For tests of what moves: sockets are the server program's work, pages are Django's.
each_server = pytest.mark.parametrize("admin_site", ["uvicorn", "daphne"], indirect=True)


@pytest.fixture(scope="module")
def started(start: Serve) -> Callable[[ServerName], Server]:
    """A function that starts a server with operators and a past, or returns the one that runs."""

    @cache
    def started(program: ServerName) -> Server:
        server = start(program, environment={"DJANGO_SETTINGS_MODULE": SETTINGS})
        make_operators(server.database, SETTINGS)
        return server

    return started


@pytest.fixture
def admin_site(request: pytest.FixtureRequest, started: Callable[[ServerName], Server]) -> Server:
    """A server with operators and a past: uvicorn, or the one that the test names."""
    return started(getattr(request, "param", "uvicorn"))


@pytest.fixture
def open_admin(admin_site: Server, open_page: OpenPage, complaints: Complaints) -> OpenAdmin:
    """A function that logs an operator in and opens a page of the admin."""
    complaints.expect("favicon")

    def open_admin(path: str, name: str = "operator") -> Page:
        page = open_page(f"{admin_site.http_url}/admin/login/?next={path}")
        page.fill("#id_username", name)
        page.fill("#id_password", PASSWORD)
        page.click("[type=submit]")
        page.wait_for_url(f"**{path}")
        return page

    return open_admin


def page_of(caller: Caller) -> str:
    return f"{LIST}{caller.session}/change/"


@each_server
def test_calls_appear_on_the_list_and_end_there(
    admin_site: Server, open_admin: OpenAdmin, wait_for: WaitFor
) -> None:
    page = open_admin(LIST)
    live = page.locator("#result_list .voicews-state-active")
    expect(live).to_have_count(0)
    page.locator("tr input.action-select").nth(1).check()
    # A mark that a reload would wipe out.
    page.evaluate("document.body.dataset.untouched = 'yes'")
    began = time.monotonic()
    with call(admin_site) as caller:
        expect(live).to_have_count(1)
        print(f"a call appears after {time.monotonic() - began:.1f} s")
        row = page.locator("#result_list tbody tr").first
        expect(row).to_contain_text(caller.session[:8])
        clock = row.locator(".voicews-clock")
        shown = clock.inner_text()
        expect(clock).not_to_have_text(shown)
        # What was chosen stays chosen, and the newcomer can be chosen with it.
        expect(page.locator("span.action-counter")).to_contain_text(re.compile(r"^1\D+\d+"))
        row.locator("input.action-select").check()
        expect(page.locator("span.action-counter")).to_contain_text(re.compile(r"^2\D+\d+"))
        page.select_option("select[name=action]", "end_calls")
        page.click("button[name=index]")
        expect(page.locator("#content")).to_contain_text("This call is live, and will be ended now")
        page.fill("#voicews-reason", "closing time")
        page.click(".voicews-end")
        expect(page.locator(".messagelist")).to_contain_text("1 call is being ended.")
        wait_for(lambda: caller.is_over)
        assert (caller.close_code, caller.close_reason) == (4002, "closing time")
        expect(live).to_have_count(0)
        ended = page.locator("#result_list tbody tr", has_text=caller.session[:8])
        expect(ended).to_contain_text("closing time")


def test_a_call_goes_without_a_reload(admin_site: Server, open_admin: OpenAdmin) -> None:
    with call(admin_site) as caller:
        page = open_admin(LIST)
        page.evaluate("document.body.dataset.untouched = 'yes'")
        row = page.locator("#result_list tbody tr", has_text=caller.session[:8])
        expect(row.locator(".voicews-state-active")).to_be_visible()
        caller.hang_up()
        expect(row.locator(".voicews-state-ended")).to_be_visible()
        expect(row).to_contain_text("client left")
        assert page.evaluate("document.body.dataset.untouched") == "yes"


@each_server
def test_a_session_page_moves_and_ends(
    admin_site: Server, open_admin: OpenAdmin, wait_for: WaitFor
) -> None:
    with call(admin_site) as caller:
        page = open_admin(page_of(caller))
        received = page.locator('[data-figure="bytes-in"]')
        expect(received).to_contain_text("kB")
        shown = received.inner_text()
        expect(received).not_to_have_text(shown)
        expect(page.locator('[data-figure="client"]')).to_have_text("connected")
        expect(page.locator('[data-figure="in"]')).to_have_text(re.compile(r"^[45]\d messages/s"))
        page.click("text=Message to the client…")
        page.fill("#voicews-text", "Please hold the line.")
        page.click("text=Send")
        expect(page.locator(".messagelist")).to_contain_text("The message was sent.")
        expect(page.locator("#voicews-happened")).to_contain_text("Please hold the line.")
        wait_for(lambda: "server-message" in [one["type"] for one in caller.messages])
        page.click("text=End the call…")
        page.fill("#voicews-reason", "closing time")
        page.click("text=End the call now")
        wait_for(lambda: caller.is_over)
        assert (caller.close_code, caller.close_reason) == (4002, "closing time")
        expect(page.locator(".voicews-summary")).to_contain_text("ended by an operator (4002)")
        timeline = page.locator("#voicews-happened tbody tr")
        expect(timeline.last).to_contain_text("ended")
        expect(timeline.last).to_contain_text("4002 closing time")
        expect(page.locator("#voicews-sockets tbody tr")).to_contain_text("4002")


@each_server
def test_listen_in(admin_site: Server, open_admin: OpenAdmin, wait_for: WaitFor) -> None:
    with call(admin_site) as caller:
        page = open_admin(page_of(caller))
        status = page.locator("#voicews-listen-status")
        levels = """() => ["caller", "bot"].map(
            (side) => document.getElementById(`voicews-${side}-level`).value
        )"""
        assert page.evaluate(levels) == [0, 0]
        page.click("text=Listen in")
        expect(status).to_have_text("Listening: caller left, bot right.")
        # The levels are those of what leaves the audio worklet: it is really played.
        wait_for(lambda: min(page.evaluate(levels)) > 0.5)
        expect(page.locator("#voicews-happened")).to_contain_text("listened in")
        page.check("#voicews-mono")
        time.sleep(1)
        assert min(page.evaluate(levels)) > 0.5
        page.click("text=Stop listening")
        expect(status).to_have_text("Not listening.")
        assert page.evaluate(levels) == [0, 0]
        expect(page.locator("#voicews-happened")).to_contain_text(re.compile(r"for \d+ s"))
        assert not caller.is_over
        page.click("text=Listen in")
        expect(status).to_have_text("Listening: caller left, bot right.")
        page.click("text=Message to the client…")
        page.fill("#voicews-text", "Please hold the line.")
        page.click("text=Send")
        expect(page.locator(".messagelist")).to_contain_text("The message was sent.")
        expect(page.locator("#voicews-happened")).to_contain_text("Please hold the line.")
        expect(page.locator("#voicews-text")).to_be_hidden()
        wait_for(lambda: "server-message" in [one["type"] for one in caller.messages])
        # The page is the same, and is still listened on.
        expect(status).to_have_text("Listening: caller left, bot right.")
        wait_for(lambda: min(page.evaluate(levels)) > 0.5)
        caller.hang_up()
        expect(page.locator(".voicews-summary")).to_contain_text("hung up (1000)")


def test_read_a_transcript(open_admin: OpenAdmin) -> None:
    page = open_admin(f"{LIST}?q=192.0.2.3")
    page.click(f"#result_list a[href*='{LIST}']")
    transcript = page.locator(".voicews-transcript li")
    expect(transcript).to_have_count(3)
    expect(transcript.nth(1)).to_contain_text("move my appointment <b>to Friday</b>.")
    expect(transcript.nth(2)).to_contain_text("interrupted, 1200 ms of it were heard")


def test_the_dashboard(admin_site: Server, open_admin: OpenAdmin) -> None:
    page = open_admin("/admin/")
    page.click("#content a[href='/admin/voicews/dashboard/']")
    tiles = page.locator(".voicews-tiles dd")
    expect(tiles.first).to_have_text("0")
    with call(admin_site):
        expect(tiles.first).to_have_text("1")
    expect(tiles.first).to_have_text("0")
    bars = page.locator(".voicews-columns-plot .voicews-series-0")
    assert bars.count() > 10
    assert all(box and box["height"] > 1 for box in (bar.bounding_box() for bar in bars.all()))
    page.click("text=server error")
    expect(page.locator("#result_list tbody tr").first).to_contain_text("server error")


def test_who_may_only_view(admin_site: Server, open_admin: OpenAdmin) -> None:
    with call(admin_site) as caller:
        page = open_admin(page_of(caller), "viewer")
        expect(page.locator('[data-figure="bytes-in"]')).to_contain_text("kB")
        for offer in ("Listen in", "End the call…", "Message to the client…"):
            expect(page.get_by_text(offer, exact=True)).to_have_count(0)


def test_without_permission(
    admin_site: Server, open_admin: OpenAdmin, complaints: Complaints
) -> None:
    complaints.expect("403")
    page = open_admin("/admin/", "stranger")
    with call(admin_site) as caller:
        for path in (LIST, page_of(caller), "/admin/voicews/dashboard/"):
            response = page.goto(admin_site.http_url + path)
            assert response is not None
            assert response.status == 403


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything(
    admin_site: Server, open_page: OpenPage, complaints: Complaints, scheme: str
) -> None:
    complaints.expect("favicon")
    page = open_page(
        f"{admin_site.http_url}/admin/login/?next={LIST}",
        viewport={"width": 360, "height": 740},
        color_scheme=scheme,
    )
    page.fill("#id_username", "operator")
    page.fill("#id_password", PASSWORD)
    page.click("[type=submit]")
    with call(admin_site) as caller:
        for path in (page_of(caller), "/admin/voicews/dashboard/"):
            page.goto(admin_site.http_url + path)
            for details in page.locator("details.voicews-action").all():
                details.locator("summary").click()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            # What is around it is Django's own.
            assert violations(page, "#content") == []
        page.goto(admin_site.http_url + LIST)
        assert violations(page, "#result_list", "#voicews-list-news") == []
