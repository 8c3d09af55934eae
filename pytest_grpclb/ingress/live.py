"""The ingress of one test: what it is, what it answers, and why it cannot."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import grpc

from pytest_grpclb.clusters.api.kube import EVENTS, PODS, KubeApi, Resource
from pytest_grpclb.clusters.pods.watch import selector_text
from pytest_grpclb.errors import ApiError, PreflightError
from pytest_grpclb.ingress import probes
from pytest_grpclb.ingress.chain import Facts, Spoken, mismatches, missing_class
from pytest_grpclb.ingress.reflection import listed
from pytest_grpclb.ingress.rules import backend_of, passes_through, secret_names, service_port
from pytest_grpclb.model import CallTemplate, Handshake, IngressAnswer, Redirect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.model import Manifest

__all__ = ["Ingress"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_INGRESSES = Resource("networking.k8s.io/v1", "ingresses", namespaced=True)
_CLASSES = Resource("networking.k8s.io/v1", "ingressclasses", namespaced=False)
_SERVICES = Resource("v1", "services", namespaced=True)
_SLICES = Resource("discovery.k8s.io/v1", "endpointslices", namespaced=True)
_SECRETS = Resource("v1", "secrets", namespaced=True)

_FAILURE = "NginxFailed"
"""Reason of the event by which the embedded cluster's controller says that it has no nginx."""
_REBUILDS = frozenset({"RELOAD", "ENDPOINTS"})
"""Reasons of the events by which the embedded cluster's controller says that nginx begins anew, and
that it goes over to other endpoints. The first is ingress-nginx's own as well."""
_SYNC = "Sync"
"""Reason of the event by which ingress-nginx says that it has seen an Ingress."""
_PROXYS = frozenset({"DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN"})
"""Codes that gRPC makes of what proxies answer: 502 to 504, 404, 400, and others."""
_PAUSE_S = 0.02
_LOOK_S = 0.5
"""Between two comparisons of the whole chain while calls are waited for: each is some requests."""
_TROUBLE_S = 1.0
"""For how long calls may fail, when the ingress has had its time to follow its endpoints."""
_GENERATIONS_S = 0.25
"""nginx's old workers still take new connections for 0.1 s beside the new ones."""
_FORBIDDEN = frozenset({401, 403})
_CONTROLLER_PODS = "app.kubernetes.io/name=ingress-nginx,app.kubernetes.io/component=controller"
"""As ingress-nginx's own manifests and its chart label them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """Where calls from outside come in; every question to it is asked anew."""

    name: str
    namespace: str
    address: str
    """ "host:port" of https, as this machine reaches it."""
    http_address: str
    host: str
    """What clients call: SNI and authority."""
    tls: str
    """"terminate" or "end-to-end"."""
    authority_pem: bytes = field(repr=False)
    """Certificate of the authority that clients trust."""
    certificate_der: bytes = field(repr=False)
    """The certificate that was put into the Secret: what must be presented."""
    call: CallTemplate
    api: KubeApi = field(repr=False)
    cluster: Cluster = field(repr=False)
    upstream_header: str = ""
    """By which the proxy names the pod that answered."""
    _elsewhere: dict[str, list[Manifest]] = field(default_factory=dict, repr=False)
    """Secrets of other namespaces, by a name that was looked for once."""
    _reflection: list[str] = field(default_factory=list, repr=False)
    """The version of reflection that the service has, once it is known: a proxy hands each question
    to the next pod, so that one more than needed changes who answers the next call."""

    @property
    def backend_protocol(self) -> str:
        """What the ingress is to speak to the pods, as ingress-nginx calls it."""
        return "GRPCS" if self.tls == "end-to-end" else "GRPC"

    # --- what clients see

    def handshake(self) -> Handshake:
        """Make a TLS connection and tell what was presented.

        :raises OSError: if there is no connection, or no TLS on it
        """
        return probes.handshake(self.address, host=self.host, authority_pem=self.authority_pem)

    def redirect(self) -> Redirect:
        """Ask in plaintext and tell what was answered.

        :raises OSError: if there is no connection, or no HTTP on it
        """
        return probes.redirect(self.http_address, host=self.host, path=self.call.method)

    def answer(self) -> IngressAnswer:
        """Send one call, then ask for the services (reflection), over one connection."""
        with self._channel() as channel:
            answer = self._answer(channel)
            if not answer.answered:
                return answer
            known = "".join(self._reflection)
            known, services = listed(channel, self.call.timeout_s, version=known)
            self._reflection[:] = [known]
            return replace(answer, services=services)

    def _channel(self) -> Any:
        credentials = grpc.ssl_channel_credentials(root_certificates=self.authority_pem)
        options = [
            ("grpc.ssl_target_name_override", self.host),
            ("grpc.default_authority", self.host),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),  # no connection that an earlier one has left
        ]
        return grpc.secure_channel(self.address, credentials, options=options)

    def _answer(self, channel: Any) -> IngressAnswer:
        method = channel.unary_unary(self.call.method)
        metadata = self.call.metadata or None
        call = method.future(self.call.request, timeout=self.call.timeout_s, metadata=metadata)
        code = call.code()  # waits for the end
        allowed = code.value[0] in self.call.allowed_status
        if code is not grpc.StatusCode.OK and not allowed:
            return IngressAnswer(status=code.name, details=call.details() or "")
        # Where the service answers with a failure, all is in the trailer.
        told = {**dict(call.trailing_metadata() or ()), **dict(call.initial_metadata() or ())}
        upstream = str(told.get(self.upstream_header, "")).rpartition(",")[2].strip()
        return IngressAnswer(
            status=code.name,
            allowed=allowed,
            backend=upstream or str(told.get(self.call.backend_key, "")),
            transport=str(told.get("grpclb-transport", "")),
        )

    # --- what leads to the pods

    def mismatches(self) -> list[str]:
        """Compare all that lies between the host name and the pods; return what does not fit.

        :raises ApiError: if there is no such Ingress, or the API cannot be reached
        """
        return mismatches(self._facts())

    def check(self) -> None:
        """Do nothing if the way to the pods is sound.

        What the API says decides. What a pod itself is found to speak does not, for it may be found
        by a port-forward, which is another way than the proxy's: it explains calls that fail.

        :raises PreflightError: if it is not: with each mismatch and the field to change
        """
        found = mismatches(self._facts(asking=False))
        if not found and not self._answers_within(self.cluster.ingress_push_s + _TROUBLE_S):
            found = self.mismatches()
        if found:
            raise PreflightError(self.name, host=self.host, mismatches=tuple(found))

    def wait_settled(self, timeout_s: float) -> None:
        """Wait until calls are answered, or the way to the pods shows that none can be.

        Raises nothing if neither comes true in time: the first assertion or run says why, at
        length.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self._taken_up() and time.monotonic() < deadline_s:
            time.sleep(_PAUSE_S)
        # The embedded cluster's controller says that it has taken an Ingress up when no old worker
        # listens any more.
        told = self.cluster.ingress_workers is not None
        steady_s = 0.0 if told else _GENERATIONS_S
        since_s = None
        looked_s = float("-inf")
        while time.monotonic() < deadline_s:
            if self._reaches():
                since_s = since_s or time.monotonic()
                if time.monotonic() - since_s >= steady_s:
                    return
            else:
                since_s = None
                if time.monotonic() - looked_s >= _LOOK_S:
                    if self._is_broken():
                        return
                    looked_s = time.monotonic()
            time.sleep(_PAUSE_S)

    def _is_broken(self) -> bool:
        """Tell whether there is something that waiting does not mend."""
        facts = self._facts()
        known = {pod: found for pod, found in facts.spoken.items() if found is not Spoken.SILENCE}
        return bool(mismatches(replace(facts, spoken=known, failing=False)))

    def _reaches(self) -> bool:
        """Tell whether a call is answered by the service, whatever it says."""
        with self._channel() as channel:
            answer = self._answer(channel)
        return answer.answered or answer.status not in _PROXYS

    def _answers_within(self, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while True:
            if self._reaches():
                return True
            if time.monotonic() > deadline_s:
                return False
            time.sleep(_TROUBLE_S / 10)

    def wait_following(
        self,
        ready: Callable[[], frozenset[str]],
        timeout_s: float,
        *,
        identify: Callable[[str], str] = str,
    ) -> None:
        """Wait until just the pods that are ready answer: changes made before are done with.

        Raises nothing if they do not in time, or do not say who they are: the run will show it.

        :param ready: returns the UIDs of the pods that are ready
        :param identify: returns the UID of a pod by what names it in an answer
        """
        deadline_s = time.monotonic() + timeout_s
        with self._channel() as channel:
            while time.monotonic() < deadline_s:
                wanted = ready()
                # Two rounds and one: no pod that is still picked from can be missed.
                answers = [self._answer(channel) for _ in range(2 * len(wanted) + 1)]
                if {identify(each.backend) for each in answers} in (wanted, {""}):
                    return
                time.sleep(_PAUSE_S)

    def _taken_up(self) -> bool:
        """Tell whether the controller has done what it can, or will do nothing at all."""
        ingress = self.api.get(_INGRESSES, self.namespace, self.name)
        if _served(ingress):
            return True
        told = {each["reason"] for each in self._events(ingress)}
        if {_SYNC, _FAILURE} & told:
            return True
        return bool(missing_class(ingress, self._readable(_CLASSES)))

    def picker_rebuilds(self) -> int:
        """Return how often the proxy's round robin got other pods or began anew, where it is told.

        Reloads are among them, and each time that the proxy took over other endpoints.
        """
        ingress = self.api.get(_INGRESSES, self.namespace, self.name)
        events = self._events(ingress)
        return sum(each.get("count") or 1 for each in events if each["reason"] in _REBUILDS)

    def describe(self) -> str:
        """Tell what people look at first: the Ingress, its events, what does not fit."""
        import json

        try:
            ingress = self.api.get(_INGRESSES, self.namespace, self.name)
            lines = [json.dumps(ingress, indent=2)]
            lines += [f"{each['reason']}: {each['message']}" for each in self._events(ingress)]
            lines += [f"mismatch: {each}" for each in self.mismatches()]
        except ApiError as error:
            return f"(the Ingress cannot be read: {error})"
        return "\n".join(lines)

    def _facts(self, *, asking: bool = True) -> Facts:
        """Return what the API says, and a pod itself where it is to be asked."""
        ingress = self.api.get(_INGRESSES, self.namespace, self.name)
        service = self._service(ingress)
        pods: Sequence[Manifest] = ()
        slices: Sequence[Manifest] = ()
        if service is not None:
            name = service["metadata"]["name"]
            slices = self.api.list(
                _SLICES, self.namespace, selector=f"kubernetes.io/service-name={name}"
            )
            selector = service["spec"].get("selector")
            if selector:
                pods = self.api.list(PODS, self.namespace, selector=selector_text(selector))
        return Facts(
            ingress=ingress,
            host=self.host,
            path=self.call.method,
            now=dt.datetime.now(dt.UTC),
            classes=self._readable(_CLASSES),
            service=service,
            slices=slices,
            pods=pods,
            secrets=self._secrets(ingress),
            arguments=self._arguments() if passes_through(ingress, self.host) else None,
            spoken=self._spoken(ingress, service, slices) if asking else {},
            failing=asking,
            complaints=[
                each["message"]
                for each in self._events(ingress)
                if each["reason"] == _FAILURE and not _served(ingress)
            ],
        )

    def _service(self, ingress: Manifest) -> Manifest | None:
        backend = backend_of(ingress, self.host, self.call.method)
        if backend is None or "service" not in backend:
            return None
        try:
            return self.api.get(_SERVICES, self.namespace, backend["service"]["name"])
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def _secrets(self, ingress: Manifest) -> list[Manifest] | None:
        found: list[Manifest] = []
        for name in sorted(secret_names(ingress)):
            try:
                found.append(self.api.get(_SECRETS, self.namespace, name))
            except ApiError as error:
                if error.status in _FORBIDDEN:
                    return None
                if error.status != 404:
                    raise
                found += self._secrets_elsewhere(name)
        return found

    def _secrets_elsewhere(self, name: str) -> list[Manifest]:
        """Return the Secrets of that name in any namespace, as far as this user may see them."""
        if name not in self._elsewhere:
            query = {"fieldSelector": f"metadata.name={name}"}
            try:
                listed = self.api.request("GET", _SECRETS.path(), query=query)
            except ApiError as error:
                if error.status not in _FORBIDDEN:
                    raise
                listed = {"items": []}
            # None of them is in the Ingress's own namespace: it was looked for there before.
            self._elsewhere[name] = list(listed["items"])
        return self._elsewhere[name]

    def _arguments(self) -> list[str] | None:
        """Return what the controller was started with; None: its pods are not to be seen."""
        pods = self._readable(PODS, selector=_CONTROLLER_PODS)
        containers = [each for pod in pods or () for each in pod["spec"]["containers"]]
        if not containers:
            return None
        return [
            argument
            for container in containers
            for argument in (*(container.get("command") or ()), *(container.get("args") or ()))
        ]

    def _readable(
        self, where: Resource, namespace: str = "", *, selector: str = ""
    ) -> list[Manifest] | None:
        try:
            return list(self.api.list(where, namespace, selector=selector))
        except ApiError as error:
            if error.status not in _FORBIDDEN:
                raise
            return None

    def _spoken(
        self, ingress: Manifest, service: Manifest | None, slices: Sequence[Manifest]
    ) -> dict[str, Spoken]:
        """Ask one ready endpoint: all are of one Deployment."""
        backend = backend_of(ingress, self.host, self.call.method)
        port = service_port(service, backend) if service and backend else None
        if port is None:
            return {}
        for piece in slices:
            numbers = [
                each["port"]
                for each in piece.get("ports") or ()
                if each.get("name", "") == port.get("name", "")
            ]
            for endpoint in piece.get("endpoints") or ():
                pod = (endpoint.get("targetRef") or {}).get("name")
                if numbers and pod and endpoint.get("conditions", {}).get("ready") is not False:
                    address = endpoint["addresses"][0]
                    reached = self.cluster.reach(self.namespace, pod, address, numbers[0])
                    try:
                        with reached as place:
                            return {pod: probes.spoken_at(place)}
                    except ApiError:  # this user may forward no ports, or the pod has gone
                        return {}
        return {}

    def _events(self, ingress: Manifest) -> list[Mapping[str, Any]]:
        uid, events = ingress["metadata"]["uid"], self.api.list(EVENTS, self.namespace)
        return [each for each in events if each["involvedObject"].get("uid") == uid]


def _served(ingress: Manifest) -> bool:
    return bool(ingress.get("status", {}).get("loadBalancer", {}).get("ingress"))
