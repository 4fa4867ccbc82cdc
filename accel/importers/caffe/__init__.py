"""Caffe: .prototxt and .caffemodel."""

from __future__ import annotations

from accel.importers.caffe.network import import_caffe

__all__ = ["import_caffe"]
