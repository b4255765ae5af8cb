"""What `scripts/generate-grpc` wrote of `open_inference_grpc.proto`; not to be edited."""
