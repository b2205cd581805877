"""The wheel's optional parts, for messages that say which one is missing."""

from importlib.metadata import version


def to_install(extra: str) -> str:
    """The commands that add this extra; no index has the wheel, so it comes from a checkout or a file."""
    wheel = f"./ordermill-{version('ordermill')}-py3-none-any.whl"
    return f"pip install '.[{extra}]' in a checkout, pip install '{wheel}[{extra}]' beside a wheel"
