CREATE OR REPLACE VIEW api.archives AS
SELECT a.table_name, a.month, a.file, a.rows, a.bytes, a.sha256, a.archived_at, a.dropped_at, r.finished_at
FROM shop.archives AS a
JOIN shop.retirements AS r ON r.month = a.month;

COMMENT ON VIEW api.archives IS
'The Parquet file of each retired partition (its path within ORDERMILL_ARCHIVE_DIR); dropped_at: since when the file alone has its rows.';
