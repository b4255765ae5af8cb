"""Where a home's control store lies: an SQLite file in the home, or a database named by a URL.

`$STEADYNET_STORE` names it. A server that is started with it remembers it in the home, so that
`steadynet why` in another shell asks the same database and not an empty file.
"""

from __future__ import annotations

import os

from sqlalchemy.engine import URL

from steadynet.control.store.databases import database_url
from steadynet.environment import STORE
from steadynet.files import write_atomic
from steadynet.home import Home


def store_url(home: Home) -> URL:
    """Return the store's URL: the variable's, else the remembered one, else the home's file.

    Raises `UserError` where it cannot be read.
    """
    given = os.environ.get(STORE)
    if given:
        return database_url(given)
    try:
        return database_url(home.store_url.read_text().strip())
    except FileNotFoundError:
        return URL.create("sqlite", database=str(home.control_db))


def remember_store(home: Home) -> None:
    """Let every later command of this home ask the store that the variable names."""
    given = os.environ.get(STORE)
    if given:
        database_url(given)
        # It may hold a password.
        write_atomic(home.store_url, given.encode() + b"\n", mode=0o600)
