"""Structured logs: one JSON object per line on stderr, with secrets masked.

What is masked, wherever it stands in a line: callers' keys, webhooks' secrets, what follows
`Bearer`, the user and password of a URL, and values that are called a password, token, secret or
key. Our own errors leave secrets out by themselves; this is the net below them and below the
messages of libraries.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime

import msgspec

MASK = "***"
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A caller's key: its id may be told.
    (re.compile(r"\b(sn_[0-9a-f]{12}_)[0-9a-f]+"), rf"\1{MASK}"),
    # A webhook's secret, as Standard Webhooks writes it.
    (re.compile(r"\b(whsec_)[A-Za-z0-9+/=_-]+"), rf"\1{MASK}"),
    (re.compile(r"(?i)\b(bearer\s+)[^\s\"',;]+"), rf"\1{MASK}"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@\"']+@"), rf"\1{MASK}@"),
    (
        re.compile(r"(?i)\b(password|passwd|token|secret|api[_-]?key)(\s*[=:]\s*)[^\s&\"',;]+"),
        rf"\1\2{MASK}",
    ),
)


def mask(text: str) -> str:
    """Return a text without the secrets in it. Pure."""
    for secret, shown in _SECRETS:
        text = secret.sub(shown, text)
    return text


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line: time, level, process, where in the code, and what happened."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "event": mask(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = mask(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


def log_to_stderr(process: str) -> None:
    """Send this process's records of level info and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # The server's own notes on starting and stopping say nothing that ours do not, and its warnings
    # are of what callers send: whoever sends nonsense would fill the log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
