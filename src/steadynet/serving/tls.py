"""TLS of a worker's connections: one context, whose certificate follows its files.

TLS 1.2 and later, with the ciphers that Python's `ssl` recommends for servers. New connections get
a renewed certificate at once; open ones keep theirs. An authority that is added to `tls_client_ca`
counts at once; one that is taken away only after a restart, since OpenSSL forgets none.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from steadynet.errors import UserError
from steadynet.spec.model import ServeSpec

logger = logging.getLogger(__name__)

POLL_S = 1.0


class Tls:
    """A server's context and the files that it is made from."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        """Raise `UserError` where the files cannot be used."""
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._load(self.context)
            self._seen = self._stamp()
        except (OSError, ssl.SSLError) as error:
            raise UserError(
                "the certificate, its key or the authorities cannot be used",
                expected=" and ".join(str(path) for path in self._paths()) + " in PEM",
                got=_reason(error),
            ) from error
        if client_ca is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED

    def look(self) -> None:
        """Use the files anew where one of them has changed; keep what is in use if they are bad."""
        try:
            seen = self._stamp()
            if seen == self._seen:
                return
            self._seen = seen
            # Tried on another context first: half of a change must not reach the one in use.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            logger.error("the new certificate is not used: %s", _reason(error))
            return
        logger.info("the certificate was read anew")

    async def follow(self, stopping: asyncio.Event) -> None:
        """Look at the files again and again until `stopping` is set."""
        while not stopping.is_set():
            self.look()
            try:
                await asyncio.wait_for(stopping.wait(), POLL_S)
            except TimeoutError:
                continue

    def _load(self, context: ssl.SSLContext) -> None:
        # Without a password given, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(self._cert, self._key, password=lambda: "")
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)

    def _paths(self) -> list[Path]:
        return [self._cert, self._key, *([self._client_ca] if self._client_ca else [])]

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        stats = [path.stat() for path in self._paths()]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


def make_tls(serve: ServeSpec) -> Tls | None:
    """Return the TLS that the spec asks for; None where it asks for none. Raises `UserError`."""
    if serve.tls_cert is None or serve.tls_key is None:
        return None
    client_ca = None if serve.tls_client_ca is None else Path(serve.tls_client_ca)
    return Tls(Path(serve.tls_cert), Path(serve.tls_key), client_ca)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or type(error).__name__
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or "nothing"
