"""Running a bundle in process: onnxruntime and NumPy."""
