"""``python -m accel.cli`` is the `accel` command."""

from __future__ import annotations

from accel.cli import main

main()
