"""Where the service under test comes from: a command, an image, a chart, manifests, or a cluster.

This module imports nothing: every run of pytest reads `choice`, few read the rest.
"""
