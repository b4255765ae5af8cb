"""Export: the trained network to ONNX, welded to its feature graph and verified."""
