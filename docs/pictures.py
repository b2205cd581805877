"""Makes the pictures of README from real runs: docs/pictures/demo.svg (the demo's terminal) and flower.png (Flower).

`.venv/bin/python docs/pictures.py [demo|flower]`; Flower's needs Chromium on PATH.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from celery import Celery
from rich.console import Console
from rich.text import Text

from workers.child import wait_until
from workers.demo import run
from workers.processes import Stack
from workers.sample import example_order
from workers.settings import Settings

PICTURES = Path(__file__).resolve().parent / "pictures"
ORDERS, COLUMNS = 2_000, 96


def demo(home: Path) -> None:
    """What `make demo ORDERS=2000` shows, as a picture that loads no fonts from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), color_system="truecolor", highlight=False)
    run.Console = lambda **_: console  # type: ignore[assignment,misc]  # not a terminal: no frames, but colours
    if run.run_demo(ORDERS, home):
        sys.exit(console.export_text())
    lines = console.export_text(styles=True).splitlines()
    plain = [Text.from_ansi(line).plain.strip() for line in lines]
    # The steps and the result; the tables of the shop between them are too long for a picture.
    shown = [*lines[: plain.index("Departments")], *lines[plain.index("What followed") : _last(plain, "╰") + 1]]
    short = Console(record=True, width=COLUMNS, file=StringIO(), color_system="truecolor", highlight=False)
    for line in shown:
        short.print(Text.from_ansi(line), no_wrap=True, crop=True)
    picture = short.export_svg(title=f"make demo ORDERS={ORDERS}", unique_id="demo")
    (PICTURES / "demo.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL), encoding="utf-8")


def _last(lines: list[str], start: str) -> int:
    return max(number for number, line in enumerate(lines) if line.startswith(start))


def flower(home: Path) -> None:
    """Flower beside workers that have placed orders."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        sys.exit("no Chromium is on PATH")
    with Stack(Settings(home=home, flower_port=0)) as stack:
        order = example_order(stack.database_url)
        shop = Celery("a-shop", broker=stack.broker_url, backend=stack.redis_url, set_as_current=False)
        sent = [shop.send_task("orders.place", args=[order], queue="orders") for _ in range(200)]
        if not wait_until(lambda: all(each.ready() for each in sent), 60):
            sys.exit("the orders were not decided")
        address = stack.flower_url.replace("://", "://{}:{}@".format(*stack.flower_auth))
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1200,520", "--disable-gpu"]
        shot = ["--virtual-time-budget=8000", f"--screenshot={PICTURES / 'flower.png'}", f"{address}/workers"]
        subprocess.run([browser, *options, *shot], check=True, capture_output=True, timeout=120)


def main() -> None:
    """Makes the pictures that are named, or all."""
    PICTURES.mkdir(exist_ok=True)
    makers = {"demo": demo, "flower": flower}
    for name in sys.argv[1:] or makers:
        with tempfile.TemporaryDirectory(prefix="ordermill-pictures-") as home:
            makers[name](Path(home))
        print(f"docs/pictures: {name}")


if __name__ == "__main__":
    main()
