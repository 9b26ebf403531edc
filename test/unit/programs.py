"""Programs that a test puts in the place of real ones: small Python scripts in a folder."""

import sys


def program(folder, name, source):
    """A program of this name; ``source`` is its Python, with ``sys`` and ``os`` at hand."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{source}\n")
    path.chmod(0o755)
    return str(path)
