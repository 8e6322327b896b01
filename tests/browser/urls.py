"""The demo project's URLs, and a page with two call buttons."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

from project.urls import urlpatterns as of_the_project

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
)


def two_buttons(request: HttpRequest) -> HttpResponse:
    """A page that allows nothing but files and sockets of its own server."""
    response = render(request, "two_buttons.html")
    response["Content-Security-Policy"] = POLICY
    return response


urlpatterns = [*of_the_project, path("two-buttons/", two_buttons)]
