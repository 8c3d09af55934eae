"""What Kubernetes' own controllers do: functions over the store that bring it nearer to its spec.

A controller names the objects that a change concerns and, asked to, brings one of them up to date.
It reads the store and writes to it, and does nothing else: no clock but the store's, no thread, no
I/O. Work that is due more than once is done once.

Errors: a `StatusError` means that the store changed under a controller's feet, or refuses what it
wants (a quota of names, a namespace that is going away), and the key is tried again after a second;
any other exception is a bug, is reported, and the key waits for its next change.
"""

from pytest_grpclb.clusters.embedded.controllers.manager import Controller, Key, Manager
from pytest_grpclb.clusters.embedded.controllers.objects import NODE, bootstrap, controllers

__all__ = ["NODE", "Controller", "Key", "Manager", "bootstrap", "controllers"]
