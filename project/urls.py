"""URLs of the demo project."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView

urlpatterns = [
    path("", TemplateView.as_view(template_name="home.html"), name="home"),
    path("voice/", include("voicews.urls")),
    path("admin/", admin.site.urls),
]
