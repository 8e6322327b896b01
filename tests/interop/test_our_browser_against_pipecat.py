"""Our browser client calls Pipecat's server, which doesn't know our extensions."""

import pytest
from playwright.sync_api import Page

from tests.interop.chromium import open_voicews_page
from tests.interop.conftest import FREQUENCY
from tests.interop.peers import VoiceServer

# Longer than the client waits for answers to pings, were it to send any.
TALK_MS = 7_000


def test_it_talks_listens_and_hangs_up(page: Page, pipecat: VoiceServer) -> None:
    open_voicews_page(page, pipecat.origin)
    ready = page.evaluate("url => call.connect(url)", pipecat.connect_url)
    assert ready["about"]["library"] == "pipecat-ai"
    assert page.evaluate("call.client.state") == "ready"
    page.wait_for_timeout(TALK_MS)
    loudest = page.evaluate("call.loudest")
    assert loudest["decibels"] > -60
    assert loudest["hz"] == pytest.approx(FREQUENCY, abs=5)
    assert page.evaluate("call.client.state") == "ready"
    page.evaluate("call.client.disconnect()")
    assert page.evaluate("call.errors") == []
    assert page.evaluate("call.ended")["error"] is None


def test_requests_are_answered_or_rejected(page: Page, pipecat: VoiceServer) -> None:
    open_voicews_page(page, pipecat.origin)
    page.evaluate("url => call.connect(url)", pipecat.connect_url)
    assert page.evaluate("call.client.sendClientRequest('echo', {hello: 1})") == {"hello": 1}
    refused = (
        "call.client.sendClientRequest('unknown', {}).catch(error => [error.code, error.reason])"
    )
    assert page.evaluate(refused) == ["request-failed", "unknown message unknown"]
