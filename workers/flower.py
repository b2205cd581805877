"""Flower, safe by default: on loopback and with a password, however it is started."""

import errno
import os
import secrets
import sys

from workers.errors import SetupError
from workers.logs import set_up
from workers.settings import Settings


def prepare_flower(settings: Settings) -> None:
    """Sets Flower's options when this process is Flower; what its own FLOWER_ variables say stands.

    Without ORDERMILL_FLOWER_PASSWORD a password is made for this start and printed, since whoever reaches Flower can
    read every order and stop every worker. Raises `SetupError` for a login that Flower would read as another, and for
    a port in use.
    """
    if "flower" not in sys.argv[1:]:
        return
    set_up()
    os.environ.setdefault("FLOWER_ADDRESS", "127.0.0.1")
    named = "FLOWER_PORT" if "FLOWER_PORT" in os.environ else "ORDERMILL_FLOWER_PORT"
    os.environ.setdefault("FLOWER_PORT", str(settings.flower_port))
    _try_the_port(named)
    # A blank one is no login, and FLOWER_AUTH_PROVIDER says only who would ask for one.
    if os.environ.get("FLOWER_AUTH", "").strip():
        return
    given = os.environ.get("FLOWER_BASIC_AUTH", "")
    if given.strip():
        if not all(all(login.partition(":")[::2]) for login in given.split(",")):
            raise SetupError("FLOWER_BASIC_AUTH must be user:password, or several of them with commas between")
        return
    os.environ["FLOWER_BASIC_AUTH"] = _login(settings)


def _try_the_port(variable: str) -> None:
    """Binds as Flower is about to, which names neither the port nor what sets it; options of its own are left to it."""
    address, port = os.environ["FLOWER_ADDRESS"], os.environ["FLOWER_PORT"]
    elsewhere = os.environ.get("FLOWER_UNIX_SOCKET") or any(
        word.startswith(("--port", "--address", "--unix", "--help")) for word in sys.argv
    )
    if elsewhere or not port.isdecimal():
        return
    from tornado.netutil import bind_sockets  # noqa: PLC0415  # a worker has no use for it

    try:
        for bound in bind_sockets(int(port), address=address):
            bound.close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SetupError(
                f"Flower: port {port} of {address} is in use: stop what listens there, or set {variable} to another"
            ) from None


def _login(settings: Settings) -> str:
    user, password = settings.flower_user, settings.flower_password
    if "," in user or ":" in user:
        raise SetupError("ORDERMILL_FLOWER_USER must not contain a comma or a colon: choose another")
    if "," in (password or ""):
        raise SetupError("ORDERMILL_FLOWER_PASSWORD must not contain a comma, where Flower splits it: choose another")
    if not password or not password.strip():
        password = secrets.token_urlsafe(12)
        print(f"Flower: log in as {user} with {password}", file=sys.stderr, flush=True)
    return f"{user}:{password}"
