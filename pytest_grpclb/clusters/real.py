"""What holds on every cluster of real nodes, and not on the embedded one."""

from __future__ import annotations

__all__ = ["DNS_CACHE_S", "INGRESS_PUSH_S", "KILL_S"]

DNS_CACHE_S = 30.0
"""CoreDNS as kubeadm sets it up: its records' TTL, and its cache's.

:source: Kubernetes documentation, "Customizing DNS Service", the default Corefile
"""

INGRESS_PUSH_S = 4.4
"""ingress-nginx takes up what has changed at most 0.3 times a second, and its workers look at what
it has written once a second.

:source: ingress-nginx, ``--sync-rate-limit`` (``syncIngress`` waits for its limiter);
    ``rootfs/etc/nginx/lua/balancer.lua``, ``BACKENDS_SYNC_INTERVAL``
"""

KILL_S = 3.0
"""What a pod that is deleted without grace has all the same: its preStop hook may take a second,
and then it is 2 s from SIGTERM to SIGKILL.

:source: Kubernetes, ``pkg/kubelet``: ``calculateEffectiveGracePeriod`` (at least 1 s) and
    ``killContainer`` (``minimumGracePeriodInSeconds``)
"""
