"""A small Kubernetes on loopback: its pods are processes, each with an address of its own."""
