"""The demo project's URLs, and pages with call buttons in special places."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.clickjacking import xframe_options_exempt

from project.urls import urlpatterns as of_the_project

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
)


def two_buttons(request: HttpRequest) -> HttpResponse:
    """A page that allows nothing but files and sockets of its own server."""
    response = render(request, "two_buttons.html")
    response["Content-Security-Policy"] = POLICY
    return response


@xframe_options_exempt
def call_me(request: HttpRequest) -> HttpResponse:
    """One call button under the headers that the query string says."""
    response = render(request, "call_me.html")
    for name, value in request.GET.items():
        response[name] = str(value)
    return response


def framed(request: HttpRequest) -> HttpResponse:
    """A page that has the call button of another site in a frame, without ``allow``."""
    return render(request, "framed.html", {"url": request.GET["url"]})


urlpatterns = [
    *of_the_project,
    path("two-buttons/", two_buttons),
    path("call-me/", call_me),
    path("framed/", framed),
]
