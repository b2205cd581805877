CREATE OR REPLACE VIEW api.events AS
SELECT position, id, stream, kind, payload, created_at, sequenced_at FROM shop.events;

COMMENT ON VIEW api.events IS
'What happened, in positions: within a stream (order:<id>, stock:<variant>:<location>) in the order in which it happened. Read on from the last position you had.';
