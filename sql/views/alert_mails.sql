CREATE OR REPLACE VIEW api.alert_mails AS
SELECT
    id, address, cardinality(alert_ids) AS alerts, attempts, created_at,
    CASE WHEN sent_at IS NULL THEN due_at END AS due_at, last_error, sent_at
FROM shop.alert_notices
WHERE address IS NOT NULL;

COMMENT ON VIEW api.alert_mails IS
'Mails about low stock, sent or still to be sent; id is the first part of the Message-ID. One without an attempt still gathers alerts.';
