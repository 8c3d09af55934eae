"""A shop: a gRPC service as any repository has one, which knows nothing of pytest-grpclb."""
