"""Servers that speak TLS only: certificates made by openssl for a test, PostgreSQL with SCRAM, and TLS before Valkey.

The wheel's Valkey is built without TLS, so a terminator stands before it, as stunnel does in production: what clients
of Redis see, handshake, certificate and host name, is real.
"""

import asyncio
import contextlib
import os
import shutil
import ssl
import subprocess
import threading
from pathlib import Path

from psycopg.sql import SQL, Literal

from workers.child import wait_until
from workers.database import connect
from workers.embedded import EmbeddedPostgres
from workers.unprivileged import server_account

HOST = "localhost"  # the certificates are for this name, and not for 127.0.0.1


class Certificates:
    """An authority of the test's own, and a server's certificate for HOST."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, self.certificate, self.key = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
        made_by = folder / "ca.key"
        request = folder / "server.csr"
        names = folder / "names"
        names.write_text(f"subjectAltName=DNS:{HOST}\n")
        new_key = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        _openssl(*new_key, "-x509", "-days", "2", "-subj", "/CN=tests", "-keyout", made_by, "-out", self.authority)
        _openssl(*new_key, "-subj", f"/CN={HOST}", "-keyout", self.key, "-out", request)
        signed_by = ("-CA", self.authority, "-CAkey", made_by, "-CAcreateserial", "-days", "2")
        _openssl("x509", "-req", "-in", request, *signed_by, "-extfile", names, "-out", self.certificate)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def only_tls(server: EmbeddedPostgres, certificates: Certificates, rules: str) -> None:
    """Gives a running server this certificate and these lines of pg_hba.conf."""
    account = server_account()
    for source, mode in ((certificates.certificate, 0o644), (certificates.key, 0o600)):
        copy = server.data / source.name
        shutil.copyfile(source, copy)
        copy.chmod(mode)
        if account:
            os.chown(copy, account.uid, account.gid)
    (server.data / "pg_hba.conf").write_text(rules)
    with connect(server.url) as admin:
        for name, value in (("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key"), ("ssl", "on")):
            admin.execute(SQL("ALTER SYSTEM SET {} = {}").format(SQL(name), Literal(value)))
        admin.execute("SELECT pg_reload_conf()")
        assert wait_until(lambda: admin.execute("SHOW ssl").fetchone() == ("on",), 30)


class Terminator:
    """Takes TLS on a free port of loopback and passes what it says to another port, in plain text."""

    def __init__(self, certificates: Certificates, port: int) -> None:
        self.port = 0
        self._upstream = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.certificate, certificates.key)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), name="tls", daemon=True)
        self._listens, self._over = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        self._thread.start()
        assert self._listens.wait(30)

    def stop(self) -> None:
        """Ends it and what goes through it."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    async def _listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context, ssl_shutdown_timeout=1)
        self.port = server.sockets[0].getsockname()[1]
        self._listens.set()
        await self._over.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled only as all ends, and that is no news: asyncio would log a connection that ends so.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            answers, asks = await asyncio.open_connection("127.0.0.1", self._upstream)
            try:
                await asyncio.gather(_pass_on(reader, asks), _pass_on(answers, writer))
            finally:
                await _close(asks)
        await _close(writer)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    writer.close()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
