"""The template tag that puts a call button on a page."""

import pytest
from django.template import Context, Template, TemplateSyntaxError

CSS = '<link rel="stylesheet" href="/static/voicews/call-button.css">'
SCRIPT = '<script type="module" src="/static/voicews/call-button.js"></script>'


def render(source: str, **context: object) -> str:
    return Template("{% load voicews %}" + source).render(Context(context))


def test_the_button_knows_its_bot_and_where_to_connect() -> None:
    html = render('{% voicews_call_button bot="echo" label="Talk to us" %}')
    assert '<voicews-call data-connect-url="/voice/connect/" data-bot="echo">' in html
    assert ">Talk to us</button>" in html


def test_a_button_without_a_bot_calls_the_default_one() -> None:
    assert 'data-bot="parrot"' in render("{% voicews_call_button %}")


def test_several_buttons_bring_their_files_once() -> None:
    html = render("{% voicews_call_button %}{% voicews_call_button bot='echo' %}")
    assert html.count("<voicews-call ") == 2
    assert html.count(CSS) == html.count(SCRIPT) == 1
    assert html.count("<script") == 1


def test_a_label_from_a_variable_is_escaped() -> None:
    html = render("{% voicews_call_button label=label %}", label="<b>Sales</b>")
    assert "&lt;b&gt;Sales&lt;/b&gt;</button>" in html


def test_an_unknown_bot_is_an_error_that_names_the_known_ones() -> None:
    message = r"expected a bot .*echo, parrot.* found 'nobody'"
    with pytest.raises(TemplateSyntaxError, match=message):
        render('{% voicews_call_button bot="nobody" %}')
