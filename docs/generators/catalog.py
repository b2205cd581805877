"""What is asked of PostgreSQL's catalog for docs/schema.md. The answers are the same on PostgreSQL 15 and 17.

Partitions are left out: which there are depends on the day.
"""

from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]

TABLES: LiteralString = """
    SELECT c.oid::bigint AS oid, c.relname AS name, c.relkind = 'p' AS partitioned,
        coalesce(obj_description(c.oid, 'pg_class'), '') AS comment
    FROM pg_class AS c
    WHERE c.relnamespace = 'shop'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND c.relname <> 'schema_version'
    ORDER BY c.relname COLLATE "C" """

COLUMNS: LiteralString = """
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
        CASE WHEN a.attidentity <> '' THEN 'identity' ELSE coalesce(pg_get_expr(d.adbin, d.adrelid), '') END
            AS default_,
        coalesce(col_description(a.attrelid, a.attnum), '') AS comment
    FROM pg_attribute AS a
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = %(oid)s::oid AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum"""

# PostgreSQL 18 lists NOT NULL among the constraints; the columns have said that.
CONSTRAINTS: LiteralString = """
    SELECT conname AS name, contype::text AS kind, pg_get_constraintdef(oid) AS definition,
        confrelid::regclass::text AS target, conkey AS columns, conindid::bigint AS index
    FROM pg_constraint
    WHERE conrelid = %(oid)s::oid AND conparentid = 0 AND contype IN ('p', 'u', 'f', 'c')
    ORDER BY position(contype::text IN 'pufc'), conname COLLATE "C" """

INDEXES: LiteralString = """
    SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition,
        coalesce(obj_description(i.indexrelid, 'pg_class'), '') AS comment
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indrelid = %(oid)s::oid AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
    ORDER BY c.relname COLLATE "C" """

TRIGGERS: LiteralString = """
    SELECT t.tgname AS name, p.proname AS routine,
        coalesce(obj_description(p.oid, 'pg_proc'), '') AS comment
    FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = %(oid)s::oid AND NOT t.tgisinternal
    ORDER BY t.tgname COLLATE "C" """

ROUTINES: LiteralString = """
    SELECT p.proname AS name, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,
        coalesce(obj_description(p.oid, 'pg_proc'), '') AS comment,
        ARRAY(SELECT g.grantee::regrole::text FROM aclexplode(p.proacl) AS g
            WHERE g.privilege_type = 'EXECUTE' AND g.grantee <> p.proowner
            ORDER BY g.grantee::regrole::text COLLATE "C") AS roles
    FROM pg_proc AS p
    WHERE p.pronamespace = 'api'::regnamespace
    ORDER BY p.proname COLLATE "C", pg_get_function_identity_arguments(p.oid) COLLATE "C" """

VIEWS: LiteralString = """
    SELECT c.relname AS name, coalesce(obj_description(c.oid, 'pg_class'), '') AS comment,
        ARRAY(SELECT format('%%s %%s', a.attname, format_type(a.atttypid, a.atttypmod)) FROM pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum) AS columns,
        ARRAY(SELECT g.grantee::regrole::text FROM aclexplode(c.relacl) AS g
            WHERE g.privilege_type = 'SELECT' AND g.grantee <> c.relowner
            ORDER BY g.grantee::regrole::text COLLATE "C") AS roles
    FROM pg_class AS c
    WHERE c.relnamespace = 'api'::regnamespace AND c.relkind = 'v'
    ORDER BY c.relname COLLATE "C" """

TRANSITIONS: LiteralString = """
    SELECT from_status, to_status FROM shop.allowed_transitions
    ORDER BY from_status <> 'new', from_status COLLATE "C", to_status COLLATE "C" """


def ask(connection: psycopg.Connection[Any], question: LiteralString, oid: int = 0) -> list[Row]:
    """The rows of one of the questions above, with names written out in full whatever the server's settings are."""
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("SET LOCAL search_path = ''")
        cursor.execute("SET LOCAL intervalstyle = 'postgres'")
        cursor.execute("SET LOCAL timezone = 'UTC'")
        return cursor.execute(question, {"oid": oid}).fetchall()
