"""A real Kubernetes in Docker, by the program `kind`."""
