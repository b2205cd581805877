"""Where the `ordermill` command begins: Ctrl-C while it is still being imported is no traceback either."""

import sys


def main() -> None:
    """Import the command line and run it; a worker alone, because what is imported stays in its memory."""
    try:
        if sys.argv[1:2] == ["worker"]:
            from workers.worker import main as work  # noqa: PLC0415

            work(sys.argv[2:])
        from workers import cli  # noqa: PLC0415
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    cli.main()


if __name__ == "__main__":
    main()
