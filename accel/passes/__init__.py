"""Graph passes: each takes an `onnx_ir.Model`, changes it in place and returns it, or reads it
and returns what it found. One small file each, named verb_noun."""
