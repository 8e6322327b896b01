"""Phone calls in Django: webhooks, sockets, requests to the providers.

How a call gets here (`providers.py` has the URLs, `tokens.py` the tokens):

1. The provider asks `/voice/<provider>/answer/` (`voicews:phone-answer`), signed. The view makes a
   `VoiceSession` of kind phone and answers with the URL of a socket.
2. The provider opens `/ws/voice/<provider>/<token>/`. The token, hexadecimal digits, opens that one
   session, once. Genesys asks nobody: it opens `/ws/voice/genesys/`, signed.
3. The first message that matters names the call: it must be the one that the webhook was about.
4. `/voice/<provider>/status/` (`voicews:phone-status`) hears how the call does.
5. When the session ends from our side, the provider is asked once to hang up.

A call that we place begins with `calls.dial`, which makes the session first.
Switched on by `VOICEWS["PROVIDERS"]`, reached at `VOICEWS["PUBLIC_URL"]`.
"""
