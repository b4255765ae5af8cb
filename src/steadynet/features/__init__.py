"""The feature graph: raw columns to tensors, fitted on the training part, as ONNX nodes."""
