"""Services: an address of its own for each that asks for one.

:source: Kubernetes documentation, "Service ClusterIP allocation"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_grpclb.clusters.embedded.store.status import Cause, InvalidError

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event, Object

__all__ = ["Addresses", "ServiceAddresses"]


class Addresses(Protocol):
    """A range of addresses to give out."""

    def take(self) -> str:
        """Return one that is free, LookupError if none is."""

    def is_free(self, address: str) -> bool:
        """Tell whether a certain one is held by nobody."""

    def hold(self, address: str) -> None:
        """Note that somebody holds a certain one."""

    def release(self, address: str) -> None:
        """Give one back."""

    def __contains__(self, address: str) -> bool: ...


class ServiceAddresses:
    """Gives ClusterIPs to Services before they are stored, and takes them back afterwards."""

    def __init__(self, store: Store, addresses: Addresses) -> None:
        self._addresses = addresses
        store.subscribe(("services",), self._observe)

    def admit(self, kind: str, obj: Object) -> Object:
        """Return *obj* with an address, if it is a Service that should have one.

        :raises InvalidError: if it asks for one that it cannot have, or none is left
        """
        if kind != "services":
            return obj
        spec = obj.get("spec") or {}
        if spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None":
            return obj
        asked = spec.get("clusterIP")
        if not asked:
            try:
                asked = self._addresses.take()
            except LookupError as error:
                raise _invalid(obj, f"Internal error: {error}") from error
        elif asked not in self._addresses:
            raise _invalid(
                obj, f'Invalid value: "{asked}": the provided IP is not in {self._addresses}'
            )
        elif not self._addresses.is_free(asked):
            raise _invalid(obj, f'Invalid value: "{asked}": provided IP is already allocated')
        families = {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
        return {**obj, "spec": {**families, **spec, "clusterIP": asked, "clusterIPs": [asked]}}

    def _observe(self, event: Event) -> None:
        address = event.object["spec"].get("clusterIP", "")
        if event.type == "DELETED":
            self._addresses.release(address)
        else:
            self._addresses.hold(address)


def _invalid(obj: Object, message: str) -> InvalidError:
    name = obj["metadata"].get("name", "")
    return InvalidError.of("Service", "", name, [Cause("spec.clusterIP", message)])
