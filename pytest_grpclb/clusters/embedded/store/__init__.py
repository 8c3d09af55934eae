"""Kubernetes objects: their kinds, versions and watches; no sockets, no processes."""
