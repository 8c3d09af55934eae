"""Fixtures and assertions for gRPC load balancing on Kubernetes."""
