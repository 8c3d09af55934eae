"""The Kubernetes API: requests in, objects, tables and streams out; only `https` has sockets."""
