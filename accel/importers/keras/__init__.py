"""Keras: .h5 and .keras."""

from __future__ import annotations

from accel.importers.keras.network import import_keras

__all__ = ["import_keras"]
