"""Mail by SMTP: the address of a server, one connection to it, and what its answers mean.

A password goes over TLS only, and is in no error and no log.
"""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from workers.errors import OrdermillError

PORTS = {"smtp": 587, "smtps": 465}
GONE = 421  # the server closes the connection


class MailError(OrdermillError):
    """A mail was not sent now; it may be later, when the server is there, or takes it."""


class ServerError(MailError):
    """It is the server or what it was told of us, not this mail: others would fare no better now."""


class RefusedError(MailError):
    """The server refuses this mail or its recipient for good."""


@dataclass(frozen=True)
class SmtpServer:
    """Where mail goes; raises ValueError from `parse` when an address cannot be used, without showing it."""

    host: str
    port: int
    tls: bool
    starttls: bool = True
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> "SmtpServer":
        """From `smtp://user:password@host:587` (STARTTLS where offered; `?starttls=never`) or `smtps://`."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/"):
            raise ValueError("write it as smtp://user:password@host:587 or smtps://…, with %2F for / in a password")
        if parts.query not in {"", "starttls=never"}:
            raise ValueError("after ? only starttls=never is known")
        return cls(
            host=parts.hostname,
            port=port or PORTS[parts.scheme],
            tls=parts.scheme == "smtps",
            starttls=parts.query == "",
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )


@contextmanager
def connected(server: SmtpServer, timeout: float) -> Iterator[smtplib.SMTP]:
    """A connection that can send, encrypted and logged in as the address asks; raises ServerError.

    `timeout`: seconds for each answer of the server.
    """
    try:
        client = _open(server, timeout)
    except (OSError, smtplib.SMTPException) as error:
        raise ServerError(f"SMTP server {server.host}:{server.port}: {_words(error)}") from None
    try:
        yield client
    finally:
        with suppress(OSError, smtplib.SMTPException):
            client.quit()
        client.close()


def send(client: smtplib.SMTP, message: EmailMessage) -> None:
    """Sends a mail to its one recipient; raises ServerError, RefusedError, or MailError when it may be taken later."""
    try:
        client.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        raise _meant(*next(iter(error.recipients.values()))) from None
    except smtplib.SMTPDataError as error:
        raise _meant(error.smtp_code, error.smtp_error) from None
    except (OSError, smtplib.SMTPException) as error:  # also a sender that is refused: that is our own address
        raise ServerError(_words(error)) from None


def _open(server: SmtpServer, timeout: float) -> smtplib.SMTP:
    context = ssl.create_default_context()
    client: smtplib.SMTP
    if server.tls:
        client = smtplib.SMTP_SSL(server.host, server.port, timeout=timeout, context=context)
    else:
        client = smtplib.SMTP(server.host, server.port, timeout=timeout)
    try:
        client.ehlo()
        encrypted = server.tls
        if not encrypted and server.starttls and client.has_extn("starttls"):
            client.starttls(context=context)
            encrypted = True
        if server.user and not encrypted:
            raise smtplib.SMTPException(
                "it offers no TLS, so the password is not sent: use smtps://, or another server"
            )
        if server.user:
            client.login(server.user, server.password)
    except BaseException:
        client.close()
        raise
    return client


def _meant(code: int, answer: bytes | str) -> MailError:
    words = f"{code} {_text(answer)}"
    if code == GONE:
        return ServerError(words)
    return RefusedError(words) if code >= 500 else MailError(words)


def _words(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_text(error.smtp_error)}"
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _text(answer: bytes | str) -> str:
    text = answer.decode(errors="backslashreplace") if isinstance(answer, bytes) else answer
    return " ".join(text.split())[:500]
