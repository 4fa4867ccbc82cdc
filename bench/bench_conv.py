"""Convolutions of known networks, one image, with fused ReLU and windows for the next layer.

First layers begin with raw pixels: peers normalize and quantize them, ours has that in its weights.

make bench BENCH="bench/bench_conv.py -k resnet50"
make bench BENCH="bench/bench_conv.py -k '3x3 and vgg16' --backends cpu,openvino --threads 1,2"
make bench BENCH="bench/bench_conv.py --all-modes"
"""

from cases import bench_layer as bench_conv
from shapes import NETWORKS as LAYERS

__all__ = ["LAYERS", "bench_conv"]
