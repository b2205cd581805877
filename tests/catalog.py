"""What the catalogs of PostgreSQL say of a database, in an order and form that can be compared."""

from typing import Any

from workers.database import connect


def _rights(acl: str, kind: str, owner: str) -> str:
    """The rights as a sorted list: none stored means the default ones."""
    given = f"unnest(coalesce({acl}, acldefault({kind}, {owner})))"
    return f"(SELECT array_agg(x::text ORDER BY x::text) FROM {given} AS x)"


IN_SCHEMAS = "IN ('shop'::regnamespace, 'api'::regnamespace)"
_KIND = "CASE c.relkind WHEN 'S' THEN 's'::\"char\" ELSE 'r'::\"char\" END"
_ROUTINE, _SCHEMA, _TYPE = "'f'", "'n'", "'T'"
QUERIES = {
    "tables": f"SELECT c.oid::regclass::text, c.relkind::text, c.reloptions,"
    f" {_rights('c.relacl', _KIND, 'c.relowner')}, c.relowner::regrole::text,"
    f" pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid), obj_description(c.oid, 'pg_class')"
    f" FROM pg_class AS c WHERE c.relnamespace {IN_SCHEMAS}",
    "columns": f"SELECT a.attrelid::regclass::text, a.attnum, a.attname, format_type(a.atttypid,"
    f" a.atttypmod), a.attnotnull,"
    f" a.attidentity::text, a.attgenerated::text, pg_get_expr(d.adbin, d.adrelid), a.attacl::text,"
    f" col_description(a.attrelid, a.attnum) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
    f" LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
    f" WHERE c.relnamespace {IN_SCHEMAS} AND a.attnum > 0 AND NOT a.attisdropped",
    "constraints": f"SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated,"
    f" conparentid <> 0"
    f" FROM pg_constraint WHERE connamespace {IN_SCHEMAS}",
    "indexes": "SELECT schemaname, tablename, indexname, indexdef FROM pg_indexes WHERE schemaname IN ('shop', 'api')",
    "routines": f"SELECT oid::regprocedure::text, pg_get_functiondef(oid),"
    f" {_rights('proacl', _ROUTINE, 'proowner')}, proowner::regrole::text,"
    f" obj_description(oid, 'pg_proc') FROM pg_proc WHERE pronamespace {IN_SCHEMAS}",
    "triggers": f"SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(t.oid), tgenabled::text FROM"
    f" pg_trigger AS t"
    f" JOIN pg_class AS c ON c.oid = tgrelid WHERE c.relnamespace {IN_SCHEMAS} AND NOT tgisinternal",
    "views": "SELECT schemaname, viewname, definition FROM pg_views WHERE schemaname IN ('shop', 'api')",
    "materialized views": "SELECT matviewname, definition FROM pg_matviews WHERE schemaname = 'shop'",
    "freshness": "SELECT view, turn, built_from, max_staleness, deadline, history, enabled FROM shop.view_freshness",
    "types": f"SELECT typname, typtype::text, {_rights('typacl', _TYPE, 'typowner')} FROM pg_type WHERE"
    f" typnamespace {IN_SCHEMAS} AND typtype <> 'b'",
    "schemas": f"SELECT nspname, {_rights('nspacl', _SCHEMA, 'nspowner')}, nspowner::regrole::text,"
    f" obj_description(oid, 'pg_namespace') FROM pg_namespace"
    " WHERE nspname IN ('shop', 'api')",
    "transitions": "SELECT from_status, to_status FROM shop.allowed_transitions",
    "currencies": "SELECT code, minor_units FROM shop.currencies",
    "revision": "SELECT version_num FROM shop.schema_version",
}


def describe(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Columns, types, constraints, indexes, routines with their source, triggers, views, grants and comments."""
    with connect(url) as session:
        return {name: sorted(session.execute(query.encode()).fetchall(), key=repr) for name, query in QUERIES.items()}
