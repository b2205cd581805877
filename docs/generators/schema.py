"""docs/schema.md: tables by area, the routines and views of `api`, the roles, and a diagram."""

from typing import Any, LiteralString

import psycopg

from generators import catalog, drawings, words
from generators.catalog import Row, ask
from generators.markdown import code, fenced, generated_by, page, table

COLOURS = ("#e6effa", "#eef6e6", "#fdf3dc", "#fdecea", "#efe9fb", "#e3f4f4")  # by area
KINDS = {"p": "primary key", "u": "unique", "f": "foreign key", "c": "check"}


def document(connection: psycopg.Connection[Any]) -> str:
    """The text of docs/schema.md, from the catalog of a migrated database."""
    tables = {row["name"]: row for row in ask(connection, catalog.TABLES)}
    _demand("tables", set(tables), {name for area in words.AREAS.values() for name in area})
    return page(
        generated_by("the catalog of a migrated database"),
        "# Schema",
        words.INTRODUCTION,
        _contents(),
        "## Diagram",
        "![The tables with their keys, and what refers to what](schema.svg)",
        words.DIAGRAM_NOTE,
        *(
            page(f"## {area}", *(_table(connection, tables[name], text) for name, text in texts.items()))
            for area, texts in words.AREAS.items()
        ),
        "## Steps of an order",
        "![The steps that an order may take](order-steps.svg)",
        "Any other step, and a step without its row in `order_status_history`, cannot be written.",
        "## Routines of `api`",
        *_routines(ask(connection, catalog.ROUTINES)),
        "## Views of `api`",
        *(_view(row) for row in ask(connection, catalog.VIEWS)),
        "## Roles",
        "Roles cannot log in. A login is made a member of one: see [Production](../README.md#production).",
        table(("role", "what for"), [(code(name), text) for name, text in words.ROLES.items()]),
        _rights(connection),
    )


def _demand(what: str, there: set[str], described: set[str]) -> None:
    if there != described:
        raise SystemExit(
            f"docs/generators/words.py: {what} not described: {sorted(there - described)}; "
            f"described but not there: {sorted(described - there)}"
        )


def _contents() -> str:
    titles = ["Diagram", *words.AREAS, "Steps of an order", "Routines of `api`", "Views of `api`", "Roles"]
    return "\n".join(f"- [{title}](#{title.lower().replace(' ', '-').replace('`', '')})" for title in titles)


def _table(connection: psycopg.Connection[Any], row: Row, text: str) -> str:
    oid = row["oid"]
    return page(
        f"### {row['name']}",
        row["comment"] or text,
        words.PARTITIONED if row["partitioned"] else "",
        table(
            ("column", "type", "null", "default", *(("meaning",) if _has_comments(connection, oid) else ())),
            [_column(column, _has_comments(connection, oid)) for column in ask(connection, catalog.COLUMNS, oid)],
        ),
        table(
            ("constraint", "kind", "definition"),
            [
                (code(each["name"]), KINDS[each["kind"]], code(_short(each["definition"])))
                for each in ask(connection, catalog.CONSTRAINTS, oid)
            ],
        ),
        _extras(connection, oid),
    )


def _has_comments(connection: psycopg.Connection[Any], oid: int) -> bool:
    return any(column["comment"] for column in ask(connection, catalog.COLUMNS, oid))


def _column(column: Row, with_comment: bool) -> tuple[str, ...]:
    cells = (
        code(column["name"]),
        _type(column["type"]),
        "" if column["required"] else "yes",
        column["default_"] if column["default_"] == "identity" else code(_short(column["default_"])),
    )
    return (*cells, column["comment"]) if with_comment else cells


def _extras(connection: psycopg.Connection[Any], oid: int) -> str:
    lines = []
    for index in ask(connection, catalog.INDEXES, oid):
        purpose = index["comment"] or words.INDEXES.get(index["name"])
        if not purpose:
            raise SystemExit(f"docs/generators/words.py: say what the index {index['name']} is for")
        lines.append(f"- Index `{index['name']}` {code(_indexed(index['definition']))}: {purpose}")
    for trigger in ask(connection, catalog.TRIGGERS, oid):
        lines.append(f"- Trigger `{trigger['name']}`, `shop.{trigger['routine']}`: {trigger['comment']}")
    return "\n".join(lines)


def _indexed(definition: str) -> str:
    return _short(definition.partition(" USING ")[2].removeprefix("btree "))


def _short(text: str) -> str:
    """A definition without what every one of them repeats."""
    for noise in ("shop.", "::text", "::numeric"):
        text = text.replace(noise, "")
    text = " ".join(text.split())
    return text.removeprefix("CHECK ((").removesuffix("))") if text.startswith("CHECK ((") else text


def _type(name: str) -> str:
    return name.replace("timestamp with time zone", "timestamptz").replace("shop.", "")


def _routines(rows: list[Row]) -> list[str]:
    """A section a name; of overloads, the one whose comment refers to another ("The same …") comes last."""
    sections = []
    for name in dict.fromkeys(row["name"] for row in rows):
        overloads = sorted(
            (row for row in rows if row["name"] == name), key=lambda row: row["comment"][:8] == "The same"
        )
        sections.append(page(f"### api.{name}", *(_routine(row) for row in overloads), _executors(overloads[0])))
    return sections


def _routine(row: Row) -> str:
    if not row["comment"]:
        raise SystemExit(f"sql/routines: api.{row['name']} has no COMMENT")
    arguments = _type(row["arguments"].replace("::text", "").replace("::interval", ""))
    signature = f"api.{row['name']}({arguments})"
    result = f" RETURNS {_type(row['result'])}"
    return page(fenced("sql", signature + ("\n   " if len(signature + result) > 110 else "") + result), row["comment"])


def _executors(row: Row) -> str:
    return f"May execute: {', '.join(code(role) for role in row['roles']) or 'the owner only'}."


def _view(row: Row) -> str:
    columns = [column.partition(" ") for column in row["columns"]]
    return page(
        f"### api.{row['name']} (view)",
        row["comment"],
        table(("column", "type"), [(code(name), _type(kind)) for name, _, kind in columns]),
        f"May read: {', '.join(code(role) for role in row['roles'])}.",
    )


def _rights(connection: psycopg.Connection[Any]) -> str:
    roles = [name for name in words.ROLES if name != "ordermill_owner"]
    rows: dict[str, list[str]] = {}
    questions: tuple[tuple[LiteralString, str], ...] = ((catalog.VIEWS, " (view)"), (catalog.ROUTINES, ""))
    for question, mark in questions:
        for row in ask(connection, question):
            rows[f"`api.{row['name']}`{mark}"] = ["✓" if role in row["roles"] else "" for role in roles]
    return table(("may use", *(role.removeprefix("ordermill_") for role in roles)), [(k, *v) for k, v in rows.items()])


def steps_picture(connection: psycopg.Connection[Any]) -> str:
    """docs/order-steps.svg, from the rows of `allowed_transitions`."""
    pairs = [(row["from_status"], row["to_status"]) for row in ask(connection, catalog.TRANSITIONS)]
    return drawings.steps("The steps that an order may take", pairs, "new")


def picture(connection: psycopg.Connection[Any]) -> str:
    """docs/schema.svg: solid a foreign key, dashed what the routines keep."""
    tables = {row["name"]: row for row in ask(connection, catalog.TABLES)}
    drawn: dict[str, list[str]] = {}
    links: list[drawings.Link] = []
    colours = {}
    for number, area in enumerate(words.AREAS.values()):
        for name in (each for each in area if each not in words.NOT_DRAWN):
            constraints = ask(connection, catalog.CONSTRAINTS, tables[name]["oid"])
            drawn[name] = _keys(ask(connection, catalog.COLUMNS, tables[name]["oid"]), constraints)
            colours[name] = COLOURS[number % len(COLOURS)]
            targets = [each["target"].removeprefix("shop.") for each in constraints if each["kind"] == "f"]
            links += [(name, target, True) for target in targets if target not in words.NOT_DRAWN]
    links += [(start, to, False) for start, to, _ in words.LINKS if {start, to} <= {*drawn}]
    return drawings.tables("The tables with their keys, and what refers to what", drawn, links, colours)


def _keys(columns: list[Row], constraints: list[Row]) -> list[str]:
    """The columns that are part of a key, each with PK, FK or UK."""
    marks: dict[int, list[str]] = {}
    for each in constraints:
        for number in each["columns"] if each["kind"] in "pfu" else ():
            marks.setdefault(number, []).append({"p": "PK", "f": "FK", "u": "UK"}[each["kind"]])
    lines = []
    for number, kinds in sorted(marks.items()):
        column = columns[number - 1]
        lines.append(f"{column['name']}  {' '.join(dict.fromkeys(kinds))}")
    return lines
