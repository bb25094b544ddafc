"""``python -m muniment``: the same program as ``muniment``."""

from __future__ import annotations

from muniment.main import run

if __name__ == "__main__":
    run()
