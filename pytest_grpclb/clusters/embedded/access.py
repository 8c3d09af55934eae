"""The keys to one cluster: its certificates, its token, its kubeconfig.

:source: Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files"
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import ssl
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Access", "write_private"]


class Access:
    """Made anew for each cluster; the certificate authority's key never leaves this process."""

    def __init__(self, address: str, domain: str) -> None:
        self._authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        service = "kubernetes.default.svc"
        names = (address, "localhost", "kubernetes", "kubernetes.default", service)
        self._leaf = self._authority.issue_cert(
            *names, f"{service}.{domain}", key_type=trustme.KeyType.ECDSA
        )
        self.token = secrets.token_urlsafe(32)
        self.authority_pem: bytes = self._authority.cert_pem.bytes()

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS settings of the API's listener."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._leaf.configure_cert(context)
        return context

    def kubeconfig(self, server: str, context: str) -> str:
        """Return a kubeconfig for whoever may do everything; JSON, which YAML includes."""
        authority = base64.b64encode(self.authority_pem).decode()
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": context,
                    "cluster": {"server": server, "certificate-authority-data": authority},
                }
            ],
            "users": [{"name": context, "user": {"token": self.token}}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "current-context": context,
        }
        return json.dumps(content, indent=2) + "\n"


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user may read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
