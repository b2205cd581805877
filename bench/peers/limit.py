"""The limit: a bare loop of `api.place_orders`, 50 orders a call, from JSON that was made before.

    python -m bench.peers.limit NAME

Waits in Redis for the name of a file (a batch a line), reads it and says so; waits for the word, places, and says so.
"""

import sys
from pathlib import Path

import redis

from workers.database import connect
from workers.settings import get_settings


def main(name: str) -> None:
    """Works until it is ended."""
    settings = get_settings()
    with (
        connect(settings.database_url) as session,
        redis.Redis.from_url(settings.redis_url, socket_timeout=None) as client,
    ):
        while True:
            _, file = client.blpop([f"{name}:file"])
            batches = Path(file.decode()).read_text().splitlines()
            client.rpush(f"{name}:said", "read")
            client.blpop([f"{name}:go"])
            for batch in batches:
                session.execute("SELECT api.place_orders(%s)", [batch]).fetchall()
            client.rpush(f"{name}:said", "placed")


if __name__ == "__main__":
    main(sys.argv[1])
