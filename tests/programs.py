"""Programs as tests read them."""

import ast
import gc
from pathlib import Path


def syntax_tree(path: Path) -> ast.Module:
    """The syntax tree of a file of Python.

    Nothing is collected meanwhile: what a finalizer formats a traceback for, in this thread or the one that it lets
    run, has Python 3.11 count this tree's depth wrong and raise SystemError (python/cpython#106905, mended in 3.11.8).
    """
    was = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        if was:
            gc.enable()
