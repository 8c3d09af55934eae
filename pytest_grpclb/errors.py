"""Every error that this package raises on purpose, one tree under GrpclbError."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ApiError",
    "CallError",
    "ChannelError",
    "ChartError",
    "ClusterStartError",
    "ClusterUnavailableError",
    "CommandError",
    "DriverError",
    "GrpclbError",
    "HelmMissingError",
    "HypothesisMissingError",
    "InconclusiveError",
    "ManifestError",
    "NoFreeBlockError",
    "NotReadyError",
    "OptionError",
    "PreflightError",
    "ProtocMissingError",
    "RetriedVerdictError",
    "ServiceError",
    "TypesError",
]


class GrpclbError(Exception):
    """Something that pytest-grpclb was asked for could not be done."""


class OptionError(GrpclbError, ValueError):
    """An option, ini setting or marker argument has a value that cannot be used."""

    def __init__(self, name: str, value: object, *, expected: str) -> None:
        super().__init__(f"{name}: {value!r} cannot be used; expected {expected}")
        self.name, self.value, self.expected = name, value, expected


class ClusterUnavailableError(GrpclbError):
    """A cluster provider cannot work on this machine: something that it needs is missing."""

    def __init__(self, provider: str, *, reason: str, advice: str) -> None:
        super().__init__(f"cluster provider {provider!r} cannot be used here: {reason}; {advice}")
        self.provider, self.reason, self.advice = provider, reason, advice


class ClusterStartError(GrpclbError):
    """A cluster was asked for and did not come up."""

    def __init__(self, provider: str, *, reason: str, log: str = "") -> None:
        tail = f"\nits last log lines:\n{log}" if log else ""
        super().__init__(f"cluster provider {provider!r} did not start: {reason}{tail}")
        self.provider, self.reason, self.log = provider, reason, log


class CommandError(GrpclbError):
    """A program failed: of this machine, such as kind or docker, or of a pod."""

    def __init__(self, command: Sequence[str], *, what: str, output: str = "") -> None:
        tail = f"; it said:\n{output}" if output else ""
        super().__init__(f"`{shlex.join(command)}` {what}{tail}")
        self.command, self.what, self.output = tuple(command), what, output


class NoFreeBlockError(GrpclbError):
    """Every loopback block that an embedded cluster may use is taken."""

    def __init__(self, *, tried: int) -> None:
        super().__init__(
            f"no free loopback block: all {tried} of the 127.x.0.0/16 blocks are held by other "
            "embedded clusters of this machine; wait for those runs to end"
        )
        self.tried = tried


class ApiError(GrpclbError):
    """The Kubernetes API refused a request or could not be reached."""

    def __init__(
        self, verb: str, path: str, *, status: int, reason: str = "", message: str = ""
    ) -> None:
        told = ": ".join(part for part in (reason, message) if part) or "no message"
        answered = f"answered {status}" if status else "does not answer"
        super().__init__(f"{verb} {path}: the Kubernetes API {answered}: {told}")
        self.verb, self.path, self.status = verb, path, status
        self.reason, self.message = reason, message


class ChartError(GrpclbError):
    """A Helm chart could not be loaded or rendered."""

    def __init__(self, chart: str, *, message: str) -> None:
        super().__init__(f"chart {chart!r} does not render: {message}")
        self.chart, self.message = chart, message


class ManifestError(GrpclbError):
    """A text is no Kubernetes objects."""

    def __init__(self, origin: str, *, message: str) -> None:
        super().__init__(f"{origin} {message}")
        self.origin, self.message = origin, message


class ServiceError(GrpclbError):
    """The service under test cannot be had from where it is to come from."""

    def __init__(self, source: str, *, message: str, advice: str) -> None:
        super().__init__(f"{source}: {message}; {advice}")
        self.source, self.message, self.advice = source, message, advice


class HelmMissingError(ChartError):
    """There is nothing on this machine that renders charts."""

    def __init__(self, chart: str, *, program: str) -> None:
        super().__init__(
            chart,
            message=f"neither Helm's library (helm_python) nor the program {program!r} is here. "
            "Install it with: pip install 'pytest-grpclb[embedded]'",
        )
        self.program = program


class HypothesisMissingError(GrpclbError, ModuleNotFoundError):
    """A module that needs Hypothesis was imported where it is not installed."""

    def __init__(self, module: str) -> None:
        super().__init__(
            f"{module} needs Hypothesis, which is not here. "
            'Install it with: pip install "pytest-grpclb[hypothesis]"',
            name="hypothesis",
        )


class NotReadyError(GrpclbError):
    """A deployment did not reach its ready replicas in time."""

    def __init__(
        self,
        name: str,
        *,
        ready: int,
        wanted: int,
        timeout_s: float,
        details: str = "",
        advice: str = "",
    ) -> None:
        tail = f"\n{details}" if details else ""
        told = advice or "raise --grpclb-ready-timeout or mend what its pods say"
        super().__init__(
            f"deployment {name!r}: {ready} of {wanted} replicas ready after {timeout_s:g} s; "
            f"{told}{tail}"
        )
        self.name, self.ready, self.wanted, self.timeout_s = name, ready, wanted, timeout_s
        self.details, self.advice = details, told


class PreflightError(GrpclbError):
    """An ingress cannot lead calls to the backends as it is configured; nothing was sent."""

    def __init__(self, ingress: str, *, host: str, mismatches: tuple[str, ...]) -> None:
        lines = "".join(f"\n- {each}" for each in mismatches)
        super().__init__(f"Ingress {ingress!r} does not lead {host!r} to the backends:{lines}")
        self.ingress, self.host, self.mismatches = ingress, host, mismatches


class InconclusiveError(GrpclbError):
    """The calls at hand show neither that an expectation holds nor that it fails."""

    def __init__(self, reason: str, *, seen: int, needed: int, advice: str = "") -> None:
        told = advice or f"send at least {needed}, e.g. grpclb.drive(calls={needed})"
        super().__init__(f"INCONCLUSIVE: {reason}; {told}")
        self.reason, self.seen, self.needed, self.advice = reason, seen, needed, told


class RetriedVerdictError(GrpclbError):
    """A test that failed by its verdict was to be run again."""

    def __init__(self, test: str, *, verdict: str, failure: str) -> None:
        super().__init__(
            f"the verdict of {test!r} was {verdict}, and a verdict is never retried: its error "
            "rates hold for one run. Leave the test out of reruns, by pytest-rerunfailures' "
            f"@pytest.mark.flaky(reruns=0). It failed with:\n{failure}"
        )
        self.test, self.verdict, self.failure = test, verdict, failure


class DriverError(GrpclbError):
    """The driver could not be reached, refused its plan, or ended early."""


class CallError(GrpclbError, ValueError):
    """A call cannot be made of what was asked for: its method, or its request."""

    def __init__(self, method: str, *, what: str, advice: str) -> None:
        super().__init__(f"call {method!r}: {what}; {advice}")
        self.method, self.what, self.advice = method, what, advice


class TypesError(GrpclbError):
    """The types of a service's messages cannot be had from where they were looked for."""

    def __init__(self, source: str, *, what: str, advice: str) -> None:
        super().__init__(f"types by {source}: {what}; {advice}")
        self.source, self.what, self.advice = source, what, advice


class ProtocMissingError(TypesError):
    """There is nothing here that compiles .proto files."""

    def __init__(self, source: str) -> None:
        super().__init__(
            source,
            what="grpcio-tools, which compiles them, is not here",
            advice="install it with: pip install 'pytest-grpclb[protos]', or set "
            "--grpclb-descriptor-set",
        )


class ChannelError(GrpclbError):
    """The test process cannot dial what the strategy's clients dial."""

    def __init__(self, strategy: str, *, cluster: str) -> None:
        super().__init__(
            f"{strategy}: a channel of the test process cannot reach the service on the cluster "
            f"{cluster!r}: its clients dial names and addresses that hold inside the cluster only; "
            "call it by grpclb.drive(method=..., request=...), whose driver runs in the cluster, "
            "or use the strategy ingress-nginx, which is dialled from outside"
        )
        self.strategy, self.cluster = strategy, cluster
