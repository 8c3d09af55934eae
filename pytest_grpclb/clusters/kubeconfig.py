"""An existing cluster, by a context of a kubeconfig that the user has named."""

from __future__ import annotations

import contextlib
import os
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.real import DNS_CACHE_S, INGRESS_PUSH_S, KILL_S
from pytest_grpclb.clusters.termination import Termination
from pytest_grpclb.errors import (
    ApiError,
    ClusterStartError,
    ClusterUnavailableError,
    OptionError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.clusters.protocol import ClusterRequest

__all__ = ["KubeconfigCluster"]

_NAME = "kubeconfig"
_LAST_LOOK_S = 5.0
"""For one answer at the end of a run, which shall not hang there."""


class KubeconfigCluster:
    """A cluster that somebody else runs. Only namespaces with the run's label are made and deleted.

    It needs no right on anything outside namespaces but to get, create and delete those; with the
    right to list them, it deletes what runs that died have left behind.
    """

    dns_cache_s = DNS_CACHE_S
    kill_s = KILL_S
    ingress_workers = None
    ingress_push_s = INGRESS_PUSH_S

    def __init__(self, request: ClusterRequest) -> None:
        self._request = request
        self.programs_image = request.image
        self.context = request.context
        self._api: KubeApi | None = None
        self._termination = Termination()
        self._told: set[str] = set()

    @property
    def kubeconfig(self) -> Path:
        """Return the file, or files joined as ``KUBECONFIG`` joins them, that lead to the API."""
        given = self._request.kubeconfig or os.environ.get("KUBECONFIG", "")
        return Path(given or "~/.kube/config").expanduser()

    def start(self) -> None:
        """Check that the context is there; nothing is sent yet.

        :raises OptionError: if there is no such file or context
        """
        from kubernetes import config

        source = "--grpclb-kubeconfig"
        try:
            contexts, _ = config.list_kube_config_contexts(str(self.kubeconfig))
        except config.ConfigException as error:
            expected = "a kubeconfig file; it says: " + str(error)
            raise OptionError(source, str(self.kubeconfig), expected=expected) from error
        names = [each["name"] for each in contexts]
        if self.context not in names:
            raise OptionError(
                "--grpclb-context",
                self.context,
                expected=f"one of the contexts of {self.kubeconfig}: {', '.join(names)}",
            )
        self._termination.open()

    def wait(self, timeout_s: float = 30.0) -> None:
        """Return when the API answers; delete what runs that died have left behind.

        :raises ClusterStartError: if it does not answer, or not let the user in
        """
        from pytest_grpclb.clusters.api.credentials import is_nobody
        from pytest_grpclb.clusters.api.kube import KubeApi
        from pytest_grpclb.clusters.namespaces import (
            STUCK_AFTER,
            delete_abandoned,
            stuck_namespaces,
        )

        api = self._api = KubeApi(self.kubeconfig, self.context, scratch=self._request.directory)
        where = f"context {self.context!r} of {self.kubeconfig}"
        if api.credential_failure:
            raise ClusterStartError(_NAME, reason=f"{where}: {api.credential_failure}")
        try:
            api.request("GET", "/version", timeout_s=timeout_s)
            limit = datetime.now(UTC) - STUCK_AFTER
            stuck = stuck_namespaces(api, deleted_before=limit)
            deleted = delete_abandoned(api)
        except ApiError as error:
            if error.status != 403 or is_nobody(error.status, error.message):
                raise ClusterStartError(_NAME, reason=f"{where}: {error}") from error
            self._request.tell(
                "grpclb: namespaces of runs that died were not looked for, "
                "because this user may not list namespaces"
            )
        else:
            for name in deleted:
                self._request.tell(f"grpclb: deleted namespace {name!r} of a run that died")
            self._tell_stuck(stuck)

    def reach(
        self, namespace: str, pod: str, address: str, port: int
    ) -> AbstractContextManager[str]:
        """Give the "host:port" of a port-forward to a pod's port."""
        from pytest_grpclb.clusters.api.portforward import forwarded

        del address
        assert self._api is not None
        return forwarded(self._api, namespace, pod, port)

    def check_image(self, image: str) -> None:
        """Do nothing: nodes pull what they have not."""

    def ingress_files(self) -> Mapping[str, str]:
        """Return none: the ingress controller is not the run's."""
        return {}

    def ingress_address(self, *, https: bool) -> str:
        """Give what ``--grpclb-ingress`` says; the controller is there already.

        :raises ClusterUnavailableError: if it says nothing, or there is no IngressClass for it
        """
        from pytest_grpclb.clusters.ingress_controller import controllers

        given = self._request.ingress
        if not given:
            raise ClusterUnavailableError(
                _NAME,
                reason="it is not known where the ingress of an existing cluster listens",
                advice="say so with --grpclb-ingress=HOST (ports 443 and 80, or "
                "HOST:PORT:HTTP_PORT), or use --grpclb-cluster=kind, which installs one",
            )
        assert self._api is not None
        try:
            found = controllers(self._api)
        except ApiError as error:
            if error.status != 403:
                raise
            # Who may not list them goes on: whether calls are answered will show.
        else:
            self._check_class(found)
        host, ports = _split(given)
        return f"{host}:{ports[0 if https else 1]}"

    def _check_class(self, found: Mapping[str, str]) -> None:
        """Check that Ingresses can be of a class that ingress-nginx takes up.

        The name of its controller is whatever it was started with (``--controller-class``): a class
        that the run names need not have the usual one.

        :param found: controllers, by the names of their classes
        :raises ClusterUnavailableError: if there is none
        """
        from pytest_grpclb.clusters.ingress_controller import CONTROLLER

        named = self._request.ingress_class
        if named in found or (not named and CONTROLLER in found.values()):
            return
        classes = ", ".join(f"{name} ({theirs})" for name, theirs in sorted(found.items()))
        what, advice = f"IngressClass {named!r}", "name one of these with --grpclb-ingress-class"
        if not named:
            what = f"IngressClass of the controller {CONTROLLER!r}"
            advice = (
                "have ingress-nginx installed there, use --grpclb-cluster=kind, or, where one of "
                "these is an ingress-nginx that goes by another name, say so with "
                "--grpclb-ingress-class"
            )
        raise ClusterUnavailableError(
            _NAME,
            reason=f"context {self.context!r} has no {what}, only: {classes or 'none'}",
            advice=advice,
        )

    def deletion_command(self, namespace: str) -> str:
        """Return the command that deletes a namespace that was kept."""
        command = [f"--context={self.context}", "delete", "namespace", namespace]
        if os.pathsep in str(self.kubeconfig):  # kubectl's flag takes one file
            setting = f"KUBECONFIG={shlex.quote(str(self.kubeconfig))}"
            return f"{setting} {shlex.join(['kubectl', *command])}"
        return shlex.join(["kubectl", f"--kubeconfig={self.kubeconfig}", *command])

    def close(self) -> None:
        """Let go of the connection; namespaces were deleted one by one, and are not waited for.

        Those that cannot go are named, as far as the cluster has found out by now.
        """
        api, self._api = self._api, None
        if api is not None:
            from pytest_grpclb.clusters.namespaces import stuck_namespaces

            with contextlib.suppress(ApiError):  # then nobody knows, and the next run may say
                self._tell_stuck(
                    stuck_namespaces(
                        api, run=self._request.label, timeout_s=_LAST_LOOK_S, once=True
                    )
                )
            api.close()
        self._termination.close()

    def _tell_stuck(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line not in self._told:
                self._told.add(line)
                self._request.tell(f"grpclb: {line}")


def _split(given: str) -> tuple[str, tuple[str, str]]:
    """Return the host of HOST[:PORT[:HTTP_PORT]], and both ports."""
    head, bracket, tail = given.rpartition("]")
    name, *ports = tail.split(":")
    https, http = [*ports, *("443", "80")[len(ports) :]]
    return f"{head}{bracket}{name}", (https, http)
