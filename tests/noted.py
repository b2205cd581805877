"""A consumer of events for tests: it notes each event as often as it is given, waits for a lock (at `test.slow` without
being timed out by it), and refuses `test.bad`."""

from tests.shop import Shop

GATE = 4711  # an advisory lock: who holds it keeps the consumer in the middle of its transaction
ROUTINE = f"""CREATE FUNCTION shop.consume_noted(p_events shop.events[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shop.noted (position, stream, kind, delay)
    SELECT e.position, e.stream, e.kind, clock_timestamp() - e.created_at FROM unnest(p_events) AS e;
    IF EXISTS (SELECT FROM unnest(p_events) AS e WHERE e.kind = 'test.slow') THEN
        WHILE NOT pg_try_advisory_xact_lock_shared({GATE}) LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
    END IF;
    PERFORM pg_advisory_xact_lock_shared({GATE});
    IF EXISTS (SELECT FROM unnest(p_events) AS e WHERE e.kind = 'test.bad') THEN
        RAISE EXCEPTION 'this is bad' USING ERRCODE = '22000';
    END IF;
END $$"""


def add_noted(shop: Shop) -> None:
    """Makes it and lets it begin with the first event: what the opening of the shop told is forgotten."""
    shop.db.execute("DELETE FROM shop.events_inbox")
    number = "number bigint GENERATED ALWAYS AS IDENTITY"
    shop.db.execute(f"CREATE TABLE shop.noted (position bigint, stream text, kind text, delay interval, {number})")
    shop.db.execute(ROUTINE)
    shop.db.execute("INSERT INTO shop.event_consumers (consumer) VALUES ('noted')")


def noted(shop: Shop) -> list[int]:
    """The positions in the order in which they were noted."""
    return shop.rows("SELECT position FROM shop.noted ORDER BY number")


def happen(shop: Shop, *kinds: str, stream: str = "test:1") -> None:
    """Writes events into the inbox, one after the other."""
    for kind in kinds:
        shop.db.execute(
            "INSERT INTO shop.events_inbox (id, stream, kind, payload) VALUES (shop.uuid7(), %s, %s, '{}')",
            [stream, kind],
        )
