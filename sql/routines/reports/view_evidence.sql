CREATE OR REPLACE FUNCTION shop.view_evidence(p_view text) RETURNS text
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO' -- times are compared as text
AS $$
    SELECT concat_ws(' ', CASE
        WHEN f.built_from IS NOT NULL THEN (SELECT s.refreshed_at::text FROM view_states AS s WHERE s.view = f.built_from)
        -- Every movement changes a level; the highest id of a movement would not show one that commits late.
        -- What is low depends on the categories too.
        WHEN p_view = 'inventory_metrics' THEN concat_ws(' ',
            (SELECT sum(hash_record_extended(l, 0)) FROM stock_levels AS l),
            (SELECT sum(hash_record_extended(c, 0)) FROM categories AS c),
            (SELECT sum(hashint8extended(p.category_id, p.id)) FROM products AS p))
        -- In one snapshot the number of all events that were ever committed: the sequencer only moves them.
        ELSE ((SELECT h.position FROM event_head AS h) + (SELECT count(*) FROM events_inbox))::text
    END, shop.view_window(p_view))
    FROM view_freshness AS f WHERE f.view = p_view
$$;

COMMENT ON FUNCTION shop.view_evidence(text) IS
'What a refresh would find, in a few characters: equal to that of the last refresh, it would change nothing. It moves with events, with stock, with the view that this one is built from, and with the day where the window does.';
