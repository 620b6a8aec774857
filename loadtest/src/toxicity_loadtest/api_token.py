"""The API token as the pod gets it from the Secret of `serving.apiTokenSecretName`."""

from __future__ import annotations

import re
import string
from collections.abc import MutableMapping

from toxicity_loadtest.errors import TokenError

TOKEN_VARIABLE = "API_TOKEN"
BEARABLE = re.compile(r"[\t\x20-\x7e]+")
"""What an HTTP header bears in every client and server alike."""

KEY = "key token of the Secret of serving.apiTokenSecretName"
REMEDY = (
    "write one line of printable ASCII characters into it, restart the serving pods and change loadTest.runId to run"
    " the load test again"
)


def take_token(environment: MutableMapping[str, str]) -> str:
    """The token without white space around it, as the service reads it; empty where none is asked for.

    It is taken out of `environment`, so that no child process inherits it. Raises TokenError, which never quotes it.
    """
    raw = environment.pop(TOKEN_VARIABLE, None)
    if raw is None:
        return ""
    token = raw.strip(string.whitespace)
    if not token:
        raise TokenError(f"{KEY} is blank: {REMEDY}")
    if not BEARABLE.fullmatch(token):
        raise TokenError(f"{KEY} has characters that an HTTP header cannot bear: {REMEDY}")
    return token
