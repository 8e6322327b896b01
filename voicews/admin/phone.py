"""The phone numbers and their bots; calls are placed from here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from voicews.conf import settings
from voicews.endpoints import non_atomic
from voicews.exceptions import VoicewsError
from voicews.models import PhoneNumber
from voicews.telephony import PROVIDERS
from voicews.telephony.calls import dial

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[PhoneNumber]
    ModelForm = forms.ModelForm[PhoneNumber]
else:
    ModelAdmin = admin.ModelAdmin
    ModelForm = forms.ModelForm


class PhoneNumberForm(ModelForm):
    """Offers the bots and providers that there are."""

    provider = forms.ChoiceField(
        label=_("Provider"),
        required=False,
        help_text=_("Calls are placed only from a number with a provider of its own."),
    )
    bot = forms.ChoiceField(label=_("Bot"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        bots: Any = self.fields["bot"]
        bots.choices = [(name, name) for name in settings.BOTS]
        providers: Any = self.fields["provider"]
        providers.choices = [("", _("any")), *((name, name) for name in PROVIDERS)]

    def clean_number(self) -> str:
        number = "".join(self.cleaned_data["number"].split())
        digits = number.removeprefix("+")
        if not (digits.isascii() and digits.isdigit()):
            raise forms.ValidationError(_("Expected digits, with the plus in front."))
        return number


class DialForm(forms.Form):
    """Whom to call."""

    to = forms.CharField(label=_("To"), initial="+")

    def clean_to(self) -> str:
        number = "".join(self.cleaned_data["to"].split())
        if not re.fullmatch(r"\+[1-9][0-9]{1,14}", number):
            raise forms.ValidationError(
                _("Not a valid value: expected plus, country code and number, as +15551234567.")
            )
        return number


@admin.register(PhoneNumber)
class PhoneNumberAdmin(ModelAdmin):
    form = PhoneNumberForm
    list_display = ("number", "provider", "bot")
    list_filter = ("provider", "bot")
    search_fields = ("number",)
    actions = ("place_call",)

    @non_atomic  # its action stores a session from another thread
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, extra_context)

    def has_call_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("voicews.call_phonenumber"))

    @admin.action(description=_("Place a call from this number"), permissions=["call"])
    def place_call(
        self, request: HttpRequest, queryset: QuerySet[PhoneNumber]
    ) -> HttpResponse | None:
        number = queryset.first()
        if number is None or queryset.count() != 1 or not number.provider:
            text = _now("Select one number that has a provider.")
            self.message_user(request, text, messages.WARNING)
            return None
        form = DialForm(request.POST if request.POST.get("confirmed") else None)
        if form.is_valid():
            self._dial(request, number, form.cleaned_data["to"])
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": _now("Place a call"),
            "opts": self.opts,
            "number": number,
            "form": form,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/voicews/phonenumber/call.html", context)

    def _dial(self, request: HttpRequest, number: PhoneNumber, to_number: str) -> None:
        try:
            session = async_to_sync(dial)(
                number.provider,
                to_number,
                from_number=number.number,
                bot=number.bot,
                user=request.user,
            )
        except (VoicewsError, ValueError) as error:
            self.message_user(request, _now("No call: %s.") % error, messages.ERROR)
        else:
            self.message_user(request, _now("Calling: %s.") % session, messages.SUCCESS)
