"""Networks: one PyTorch file per architecture, one contract for all."""
