"""The way to a Kubernetes API: connections, requests and watches, streams to pods."""
