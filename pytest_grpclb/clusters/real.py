"""What holds on every cluster of real nodes, and not on the embedded one."""

from __future__ import annotations

__all__ = ["DNS_CACHE_S", "KILL_S"]

DNS_CACHE_S = 30.0
"""CoreDNS as kubeadm sets it up: its records' TTL, and its cache's.

:source: Kubernetes documentation, "Customizing DNS Service", the default Corefile
"""

KILL_S = 2.0
"""What a kubelet gives a container between SIGTERM and SIGKILL at the least, without grace too.

:source: Kubernetes, kubelet's ``minimumGracePeriodInSeconds``
"""
