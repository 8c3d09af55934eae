from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pytest_grpclb.settings import PullSecret, Settings
from pytest_grpclb.sources.choice import Origin, ServiceChoice
from pytest_grpclb.sources.choosing import source_of

if TYPE_CHECKING:
    from pytest_grpclb.clusters.api.kube import KubeApi


def pod(**what: Any) -> dict[str, Any]:
    source = source_of(ServiceChoice(origin=Origin.IMAGE, image="shop:1", **what))
    assert source is not None
    nobody = cast("KubeApi", None)  # there is nothing to ask: no manifests are beside the image
    [deployment] = source.backends(nobody, Settings(), namespace="ns").manifests
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def test_the_image_is_pulled_by_the_secrets_that_are_named() -> None:
    secrets = (PullSecret(name="here"), PullSecret(name="registry", namespace="team"))
    assert pod(pull_secrets=secrets)["imagePullSecrets"] == [
        {"name": "here"},
        {"name": "grpclb-pull-registry"},
    ]
    assert "imagePullSecrets" not in pod()
