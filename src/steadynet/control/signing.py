"""Signing messages to a webhook, so that its receiver knows that they are ours and new.

Source: Standard Webhooks, version 1 (https://www.standardwebhooks.com): HMAC-SHA256 over the
message's id, the time of the attempt and the body, by a secret that both sides know. The secrets
are in `$STEADYNET_WEBHOOK_SECRET` alone: no file that the program writes holds one, and neither a
message nor the text of a `WebhookKeys` shows one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from steadynet.environment import WEBHOOK
from steadynet.errors import UserError

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64
"""Bytes of a secret, as the standard has it."""


class WebhookKeys:
    """The secrets that messages are signed with; while one is replaced there are two."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = tuple(keys)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> WebhookKeys:
        """Read the secrets of the environment, separated by spaces; none are none.

        Raises `UserError` where one is malformed; it says which, and shows nothing of it.
        """
        texts = environment.get(WEBHOOK, "").split()
        return cls([_key(text, f"{n} of {len(texts)}") for n, text in enumerate(texts, 1)])

    def __bool__(self) -> bool:
        """Tell whether there is anything to sign with."""
        return bool(self._keys)

    def __repr__(self) -> str:
        """Say how many there are, and nothing of what they are."""
        return f"WebhookKeys({len(self._keys)})"

    def headers(self, message_id: str, body: bytes, now: float) -> dict[str, str]:
        """Return the headers of one attempt to deliver a message.

        `message_id` is the same in all attempts; `now` (seconds UTC) is the attempt's own time, by
        which receivers refuse what was recorded and is sent again by somebody else.
        """
        at = str(int(now))
        headers = {"webhook-id": message_id, "webhook-timestamp": at}
        if self._keys:
            signed = f"{message_id}.{at}.".encode() + body
            headers["webhook-signature"] = " ".join(_signature(key, signed) for key in self._keys)
        return headers


def _signature(key: bytes, signed: bytes) -> str:
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _key(text: str, which: str) -> bytes:
    told = text.removeprefix(PREFIX)
    try:
        key = base64.b64decode(told + "=" * (-len(told) % 4), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(PREFIX) or not SHORTEST <= len(key) <= LONGEST:
        raise UserError(
            f"secret {which} in ${WEBHOOK} is malformed",
            expected=f"{PREFIX} and base64 of {SHORTEST} to {LONGEST} bytes; several secrets are "
            "separated by spaces",
            do='Make one with: echo "whsec_$(openssl rand -base64 32)"',
        )
    return key
