"""From a detector's outputs to boxes: decoding, non-maximum suppression, label names, metrics."""
