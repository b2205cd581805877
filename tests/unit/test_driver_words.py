"""What the command line says of PostgreSQL's errors."""

import psycopg

from workers.driver_words import in_one_line


def test_who_lacks_a_right_is_not_sent_to_the_owner_for_all_of_them() -> None:
    said = in_one_line(psycopg.errors.InsufficientPrivilege("permission denied for view jobs")) or ""
    assert said.startswith("permission denied for view jobs: set DATABASE_URL to a login")
    assert said.index("ordermill_reader") < said.index("ordermill_maintainer") < said.index("owner")
