"""A project that has its sub-path in its own URLs."""

from django.urls import include, path

urlpatterns = [path("app/", include("project.urls"))]
