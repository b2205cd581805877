"""Where the `ordermill` command begins: Ctrl-C while it is still being imported is no traceback either."""


def main() -> None:
    """Import the command line and run it."""
    try:
        from workers import cli  # noqa: PLC0415
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    cli.main()
