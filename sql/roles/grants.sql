-- Only routines write: no role but the owner has any right on a table. Views in api are read with the owner's rights.
REVOKE ALL ON SCHEMA shop, api
FROM public, ordermill_worker, ordermill_app, ordermill_reader, ordermill_maintainer;
REVOKE ALL ON ALL TABLES IN SCHEMA shop, api
FROM public, ordermill_worker, ordermill_app, ordermill_reader, ordermill_maintainer;
REVOKE ALL ON ALL ROUTINES IN SCHEMA shop, api
FROM public, ordermill_worker, ordermill_app, ordermill_reader, ordermill_maintainer;

GRANT USAGE ON SCHEMA api TO ordermill_worker, ordermill_app, ordermill_reader, ordermill_maintainer;
GRANT SELECT ON ALL TABLES IN SCHEMA api TO ordermill_worker, ordermill_reader, ordermill_maintainer;
-- Findings hold statements of others, with what they wrote into them.
REVOKE SELECT ON api.upkeep_findings FROM ordermill_reader;
-- Not dead letters and job runs: they show what others sent, and what PostgreSQL said.
GRANT SELECT ON api.orders, api.order_lines, api.availability, api.pools, api.queue, api.events TO ordermill_app;
GRANT EXECUTE ON FUNCTION api.order_outcome(text)
TO ordermill_worker, ordermill_app, ordermill_reader, ordermill_maintainer;
GRANT EXECUTE ON FUNCTION api.verify(integer), api.partitions_ahead(),
api.job_health(text[], double precision[], timestamptz)
TO ordermill_worker, ordermill_reader, ordermill_maintainer;

-- The doors of an application.
GRANT EXECUTE ON FUNCTION
api.submit_order(text), api.submit_order(jsonb), api.submit_orders(text[]), api.submit_orders(jsonb),
api.hold_orders(jsonb, interval), api.confirm_order(text, uuid), api.cancel_order(text, uuid, text),
api.complete_order(text, uuid)
TO ordermill_app, ordermill_worker;

-- What workers do.
GRANT EXECUTE ON FUNCTION
api.place_order(jsonb), api.place_orders(jsonb), api.check_request(text, text),
api.bury_order(jsonb, text, text, integer), api.bury_message(text, text, text, text, integer),
api.count_attempt(text), api.forget_attempt(text, boolean),
api.refuse_command(text, text, text, text, text, text),
api.claim_orders(integer, integer, integer, bigint, integer), api.place_claim(uuid),
api.return_claim(uuid, integer, text, text), api.sweep_claims(integer, integer), api.release_claim(uuid),
api.adjust_inventory(text, text, text, bigint, text, text), api.receive_stock(text, text, jsonb, text, text),
api.transfer_stock(text, text, text, text, bigint, boolean)
TO ordermill_worker;

-- Maintenance, by beat or by hand.
GRANT EXECUTE ON FUNCTION
api.claim_job(text, interval, interval), api.finish_job(text, timestamptz, integer, text, jsonb),
api.prune(interval, integer), api.ensure_partitions(integer), api.expire_holds(integer),
api.bury_unread(uuid, timestamptz, text, text, boolean, text, text), api.replay_order(uuid),
api.settle_letter(uuid, text)
TO ordermill_worker, ordermill_maintainer;

-- Events and their consumers.
GRANT EXECUTE ON FUNCTION
api.sequence_events(integer), api.dispatch_events(text, integer), api.read_events(text, integer),
api.advance_consumer(text, bigint, bigint), api.rewind_consumer(text, bigint), api.bury_event(text, bigint, text, text),
api.consumer_position(text),
api.replay_event(uuid)
TO ordermill_worker, ordermill_maintainer;

-- Upkeep: which months may go, and what the reports find. Retiring itself takes the owner (workers/retiring.py).
GRANT EXECUTE ON FUNCTION
api.months_to_retire(), api.report(text), api.record_findings(text), api.analyze_stale(integer)
TO ordermill_worker, ordermill_maintainer;
-- Materialized views: refreshed by workers or by hand; how fresh they are kept is the maintainer's.
GRANT EXECUTE ON FUNCTION api.stale_views() TO ordermill_worker, ordermill_reader, ordermill_maintainer;
GRANT EXECUTE ON FUNCTION api.refresh_view(text) TO ordermill_worker, ordermill_maintainer;
GRANT EXECUTE ON FUNCTION
api.set_view_freshness(text, interval, interval, boolean, interval, boolean)
TO ordermill_maintainer;
-- Low-stock alerts.
GRANT EXECUTE ON FUNCTION
api.acknowledge_alert(bigint, text), api.snooze_alert(bigint, interval, text), api.resolve_alert(bigint, text),
api.add_alert_recipient(text, integer, text, text), api.remove_alert_recipient(bigint),
api.escalate_alerts(interval, interval, integer), api.scan_low_stock(bigint, integer, integer),
api.claim_alert_notice(boolean, interval, interval, integer, integer),
api.finish_alert_notice(uuid, integer, text, interval), api.replay_mail(uuid), api.prune_alerts(interval, integer)
TO ordermill_worker, ordermill_maintainer;
-- Webhooks.
GRANT EXECUTE ON FUNCTION
api.add_webhook(text, text, text[], integer), api.rotate_webhook_secret(text, interval),
api.pause_webhook(text, text), api.resume_webhook(text), api.remove_webhook(text), api.replay_webhook(text, bigint),
api.replay_delivery(uuid), api.prune_deliveries(interval, integer)
TO ordermill_worker, ordermill_maintainer;
GRANT EXECUTE ON FUNCTION
api.webhook_targets(), api.claim_deliveries(integer[], integer[], integer, double precision),
api.record_deliveries(jsonb, integer, double precision, double precision, integer), api.advance_replays(integer),
api.deliveries_late(interval)
TO ordermill_worker;
-- What a shop window shows, and its cache.
GRANT EXECUTE ON FUNCTION api.read_products(text[]), api.read_availability(text[]), api.read_categories(text[])
TO ordermill_app, ordermill_worker, ordermill_reader;
GRANT EXECUTE ON FUNCTION api.ordered_skus(uuid[]), api.best_sellers(interval, integer) TO ordermill_worker;
-- Refusing what is sold out. An application may ask before it submits.
GRANT EXECUTE ON FUNCTION api.sold_out(text[], text[]) TO ordermill_app, ordermill_worker;
GRANT EXECUTE ON FUNCTION api.used_keys(text[]) TO ordermill_worker;
-- How long orders may wait behind the SQL door. The view api.queue calls queue_wait for whoever reads it.
GRANT EXECUTE ON FUNCTION api.queue_wait(integer, interval)
TO ordermill_worker, ordermill_app, ordermill_reader, ordermill_maintainer;
GRANT EXECUTE ON FUNCTION api.set_queue_limit(text, interval) TO ordermill_worker, ordermill_maintainer;
GRANT EXECUTE ON FUNCTION api.note_queue(integer, integer, bigint) TO ordermill_worker;
