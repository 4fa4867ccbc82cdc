"""Matrix products, float32 out (int32 from some peers): all modes, and the peers' own int8.

make bench BENCH="bench/bench_gemm.py -k square"
make bench BENCH="bench/bench_gemm.py -k minilm --backends cpu,torch --threads 1,2 --isa avx2"
"""

from cases import bench_layer as bench_gemm
from shapes import MODES
from shapes import PRODUCTS as LAYERS

__all__ = ["LAYERS", "MODES", "bench_gemm"]
