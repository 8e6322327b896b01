"""The app's HTTP endpoints; a project includes them under ``/voice/`` or wherever it likes."""

from django.urls import path

from voicews.telephony.views import AnswerView, StatusView, TransferView
from voicews.views import ConnectView, DemoView, HealthView, ReadyView

app_name = "voicews"

urlpatterns = [
    path("connect/", ConnectView.as_view(), name="connect"),
    path("demo/", DemoView.as_view(), name="demo"),
    path("<slug:provider>/answer/", AnswerView.as_view(), name="phone-answer"),
    path("<slug:provider>/status/", StatusView.as_view(), name="phone-status"),
    path("<slug:provider>/transfer/", TransferView.as_view(), name="phone-transfer"),
    path("health/", HealthView.as_view(), name="health"),
    path("ready/", ReadyView.as_view(), name="ready"),
]
