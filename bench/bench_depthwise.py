"""Depthwise convolutions, one image, with fused ReLU and windows for the next layer.

make bench BENCH=bench/bench_depthwise.py
make bench BENCH="bench/bench_depthwise.py -k 5x5 --backends cpu,onnxruntime --isa avx2"
"""

from cases import bench_layer as bench_depthwise
from shapes import DEPTHWISE as LAYERS

__all__ = ["LAYERS", "bench_depthwise"]
