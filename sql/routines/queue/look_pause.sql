CREATE OR REPLACE FUNCTION shop.look_pause(p_max_wait interval) RETURNS interval
LANGUAGE sql IMMUTABLE
RETURN least(greatest(p_max_wait / 5, interval '0.1 s'), interval '5 s');

COMMENT ON FUNCTION shop.look_pause(interval) IS
'How long a drain waits before it looks again at the queue of a pool in which an order may wait so long.';
