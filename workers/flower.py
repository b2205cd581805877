"""Flower, safe by default: on loopback and with a password, however it is started."""

import os
import secrets
import sys

from workers.settings import Settings


def prepare_flower(settings: Settings) -> None:
    """Sets Flower's options when this process is Flower; what its own FLOWER_ variables say stands.

    Without ORDERMILL_FLOWER_PASSWORD a password is made for this start and printed, since whoever reaches Flower can
    read every order and stop every worker.
    """
    if "flower" not in sys.argv[1:]:
        return
    os.environ.setdefault("FLOWER_ADDRESS", "127.0.0.1")
    os.environ.setdefault("FLOWER_PORT", str(settings.flower_port))
    if any(name.startswith(("FLOWER_BASIC_AUTH", "FLOWER_AUTH")) for name in os.environ):
        return
    password = settings.flower_password
    if not password:
        password = secrets.token_urlsafe(12)
        print(f"Flower: log in as {settings.flower_user} with {password}", file=sys.stderr, flush=True)
    os.environ["FLOWER_BASIC_AUTH"] = f"{settings.flower_user}:{password}"
