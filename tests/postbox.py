"""A real SMTP server on loopback (aiosmtpd) that keeps what it is sent, and answers as a test wants."""

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from workers.embedded_valkey import free_port

USER, PASSWORD = "mill", "p@ss/w:rd"
DROPPED = "dropped"  # instead of an answer: the connection is closed


class Postbox:
    """What came; `answers` are used up, each for one mail: at RCPT when it begins with "rcpt ", else at DATA."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answers: list[str] = []
        self.arrived = threading.Event()  # a mail is at DATA
        self.go_on = threading.Event()  # and waits for this
        self.go_on.set()
        self.logins = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def to(self) -> list[str]:
        return sorted(str(mail["To"]) for mail in self.mails)

    async def handle_RCPT(self, _s: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any) -> str:
        if self.answers and self.answers[0].startswith("rcpt "):
            return self.answers.pop(0).removeprefix("rcpt ")
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        self.arrived.set()
        await asyncio.to_thread(self.go_on.wait, 60)
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250") or answer == DROPPED:
            content = envelope.content if isinstance(envelope.content, bytes) else b""
            self.mails.append(message_from_bytes(content, policy=policy.default))
        if answer == DROPPED:
            assert server.transport is not None
            server.transport.close()
        return answer

    def authenticate(self, _s: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        self.logins += 1
        known = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=known, handled=False)


@contextmanager
def served(postbox: Postbox, *, port: int = 0, **options: Any) -> Iterator[Postbox]:
    """Serves until the block is left."""
    postbox.port = port or free_port()
    controller = Controller(postbox, hostname="127.0.0.1", port=postbox.port, **options)
    controller.start()
    try:
        yield postbox
    finally:
        postbox.go_on.set()
        controller.stop()


def certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 with its key in one file, made anew."""
    path = folder / "smtp.pem"
    key = folder / "key.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    subprocess.run(
        ["openssl", "req", *options.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", path],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + key.read_text())
    return path


def tls(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
