"""What a load-balancing strategy tells the stages that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_grpclb.model import Mechanism, Service, Target, Timers
    from pytest_grpclb.settings import Settings

__all__ = ["Strategy"]


class Strategy(Protocol):
    """A load-balancing strategy: what to put before the backends, and how clients use it.

    It names no cluster and no service, and does nothing by itself: all methods are pure.
    """

    @property
    def name(self) -> str:
        """What ``--grpclb-strategy`` calls it."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that it goes by."""

    @property
    def summary(self) -> str:
        """One line for people."""

    @property
    def mechanism(self) -> Mechanism:
        """How it picks a backend, hence which test its spread is judged by."""

    @property
    def promises_rebalancing(self) -> bool:
        """Whether a client moves to new pods by itself, within the time that `timers` bounds."""

    @property
    def needs_connection_age(self) -> bool:
        """Whether clients learn of new pods only when servers end their connections.

        If not, tests have servers without a max connection age, unless they ask for one.
        """

    @property
    def chart(self) -> Path | None:
        """The Helm chart that `values` are for; None: this package's own ``charts/strategy``.

        A chart of one's own has the driver too: a Deployment of one pod with the label
        ``app.kubernetes.io/component: driver``, a container port named ``grpc``, and an image that
        is given by the values ``driver.image.repository`` and ``driver.image.tag``.
        """

    def values(self, service: Service, settings: Settings) -> dict[str, Any]:
        """Return the chart's values, without the image."""

    def target(self, service: Service, settings: Settings, *, release: str) -> Target:
        """Return what clients dial once the chart is installed as *release*."""

    def timers(self, settings: Settings, *, dns_ttl_s: float) -> Timers:
        """Return what bounds the time until clients use a changed set of pods.

        :param dns_ttl_s: how long the cluster's DNS may go on giving an old answer
        """

    def warm_up_backends(self, backends: int) -> int:
        """Return how many backends each channel is in touch with once it has settled.

        :param backends: how many are ready
        """
