"""Pictures for the documents, as SVG without scripts, fonts or foreign addresses: tables with links, steps, sequences.

What is drawn comes from the caller; here is only where it goes. Widths of texts are estimated: a browser has its own.
"""

from collections.abc import Mapping, Sequence
from html import escape

FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
INK, LINE, PAPER, EDGE = "#16233b", "#41506b", "#f7f8fb", "#d5dae5"
LETTER = 6.6  # a letter's mean width at 12 px
Link = tuple[str, str, bool]  # from, to, and whether the database itself keeps it
Step = tuple[str, str, str]  # from, to, what is said; from and to alike: what one does for itself


def picture(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """The parts on a sheet of this size, with a title for those who do not see it."""
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img"'
            f' aria-label="{escape(title)}" font-family="{FONT}" font-size="12">',
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"'
            f' orient="auto"><path d="M0 0 10 5 0 10z" fill="{LINE}"/></marker></defs>',
            f'<rect width="{width:.0f}" height="{height:.0f}" rx="10" fill="{PAPER}" stroke="{EDGE}"/>',
            *parts,
            "</svg>\n",
        )
    )


def text(x: float, y: float, words: str, anchor: str = "start", **more: str) -> str:
    """A line of text."""
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{INK}" text-anchor="{anchor}"{attributes}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, fill: str = "#fff") -> str:
    """A box with rounded corners."""
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6" fill="{fill}"'
        ' stroke="#8593ad"/>'
    )


def arrow(path: str, dashed: bool = False) -> str:
    """A line with a tip."""
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.3"{dashes} marker-end="url(#tip)"/>'


def layers(names: Sequence[str], links: Sequence[Link]) -> list[list[str]]:
    """Names in columns: each stands right of all it refers to, and near them."""
    refers: dict[str, set[str]] = {name: set() for name in names}
    for start, to, _ in links:
        if start != to:
            refers[start].add(to)
    depth: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in depth:
            depth[name] = 0
            depth[name] = max((of(each) + 1 for each in sorted(refers[name])), default=0)
        return depth[name]

    columns: list[list[str]] = [[] for _ in range(max(map(of, names)) + 1)]
    for name in names:
        columns[of(name)].append(name)
    place = {name: float(number) for column in columns for number, name in enumerate(column)}
    for column in columns[1:]:
        column.sort(key=lambda name: sum(place[each] for each in refers[name]) / max(1, len(refers[name])))
        place |= {name: float(number) for number, name in enumerate(column)}
    return columns


def tables(title: str, rows: Mapping[str, Sequence[str]], links: Sequence[Link], groups: Mapping[str, str]) -> str:
    """Tables with their key columns, each right of those it refers to; `groups` gives a colour for a table."""
    columns = layers(list(rows), links)
    width, gap, row, head = 168.0, 92.0, 15.0, 22.0
    height = {name: head + row * len(rows[name]) + 6 for name in rows}
    tallest = max(sum(height[name] + 20 for name in column) for column in columns)
    at: dict[str, tuple[float, float]] = {}
    for number, column in enumerate(columns):
        free = (tallest - sum(height[name] for name in column)) / (len(column) + 1)
        y = 20 + free
        for name in column:
            at[name] = (20 + number * (width + gap), y)
            y += height[name] + free
    drawn = []
    for start, to, kept in links:
        (x, y), (x2, y2) = at[start], at[to]
        if start == to:
            bow = f"M{x + width:.0f} {y + 8:.0f}c22 0 22 20 0 20"
        else:
            end, begin = (x2 + width, y2 + head / 2 + 6), (x, y + head / 2)
            pull = max(40.0, (begin[0] - end[0]) / 2)
            bow = (
                f"M{begin[0]:.0f} {begin[1]:.0f}C{begin[0] - pull:.0f} {begin[1]:.0f}"
                f" {end[0] + pull:.0f} {end[1]:.0f} {end[0]:.0f} {end[1]:.0f}"
            )
        drawn.append(arrow(bow, dashed=not kept))
    for name, (x, y) in at.items():
        drawn += [box(x, y, width, height[name]), box(x, y, width, head, groups.get(name, "#fff"))]
        drawn.append(text(x + 8, y + 15, name, font_weight="600"))
        drawn += [text(x + 8, y + head + 13 + row * n, each) for n, each in enumerate(rows[name])]
    return picture(40 + len(columns) * (width + gap) - gap, tallest + 40, title, drawn)


def steps(title: str, pairs: Sequence[tuple[str, str]], first: str) -> str:
    """States from left to right, with an arrow for each step from one to another."""
    columns = layers(
        list(dict.fromkeys(name for pair in pairs for name in pair)), [(to, start, True) for start, to in pairs]
    )
    width, height, gap, room = 112.0, 34.0, 56.0, 74.0
    tall = max(map(len, columns)) * room
    at = {
        name: (20 + number * (width + gap), 20 + (place + 0.5) * tall / len(column) - height / 2)
        for number, column in enumerate(columns)
        for place, name in enumerate(column)
    }
    drawn = []
    for start, to in pairs:
        (x, y), (x2, y2) = at[start], at[to]
        y, y2 = y + height / 2, y2 + height / 2
        bend = (x2 - x - width) / 2
        over = 46 if x2 - x > width + gap + 1 else 0  # above what stands between
        x += width
        drawn.append(
            arrow(f"M{x:.0f} {y:.0f}C{x + bend:.0f} {y - over:.0f} {x2 - bend:.0f} {y2 - over:.0f} {x2:.0f} {y2:.0f}")
        )
    for name, (x, y) in at.items():
        drawn.append(box(x, y, width, height, "#eef6e6" if name == first else "#e6effa"))
        drawn.append(text(x + width / 2, y + 21, name, "middle", font_weight="600"))
    return picture(40 + len(columns) * (width + gap) - gap, tall + 40, title, drawn)


def sequence(title: str, actors: Sequence[str], said: Sequence[Step]) -> str:
    """Actors side by side, and from top to bottom what one says to another, numbered."""
    apart, row, top = 232.0, 44.0, 64.0
    middle = {name: 110 + apart * number for number, name in enumerate(actors)}
    bottom = top + row * len(said) + 24
    drawn = []
    for name, x in middle.items():
        drawn.append(f'<path d="M{x:.0f} {top - 12:.0f}V{bottom:.0f}" stroke="#b6c0d2" stroke-dasharray="3 5"/>')
        drawn.append(box(x - 90, 18, 180, 34, "#e6effa"))
        drawn.append(text(x, 40, name, "middle", font_weight="600"))
    for number, (start, to, words) in enumerate(said, start=1):
        y, x, x2 = top + row * number - 12, middle[start], middle[to]
        wide = len(words) * LETTER + 28
        if start == to:
            left = min(max(8.0, x - wide / 2), 110 + apart * (len(actors) - 1) + 100 - wide)
            drawn += [box(left, y - 16, wide, 24, "#fff"), text(left + wide / 2, y, f"{number}  {words}", "middle")]
        else:
            drawn.append(arrow(f"M{x:.0f} {y:.0f}H{x2 + (6 if x2 < x else -6):.0f}", dashed=x2 < x))
            drawn.append(text((x + x2) / 2, y - 6, f"{number}  {words}", "middle"))
    return picture(110 + apart * (len(actors) - 1) + 110, bottom + 16, title, drawn)
