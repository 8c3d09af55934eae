"""Commands and images on the embedded cluster: each gets ready, or an error says what to set."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.api.kube import PODS, KubeApi
from pytest_grpclb.errors import NotReadyError
from pytest_grpclb.settings import Settings
from pytest_grpclb.sources.choice import AgeVariable, Probe

from .services import image, told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_grpclb.deployment import Deployment


def test_a_command_listens_on_each_pod_s_own_address(ready: Callable[..., Deployment]) -> None:
    deployment = ready(image("shop"))
    assert len({backend.address for backend in deployment.backends()}) == 2


def test_what_listens_on_all_addresses_gets_a_port_of_its_own(
    ready: Callable[..., Deployment],
) -> None:
    deployment = ready(image("everywhere"), replicas=3)
    for backend in deployment.backends():
        socket.create_connection((backend.address, 50051), timeout=10).close()
    victim = deployment.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((victim.address, 50051), timeout=10)


LISTENING = (
    "pods of the embedded cluster are processes that share this machine's ports: have it listen on "
    "{ip}:{port}, or give it {port} alone, which is then another one for each pod "
    "(in --grpclb-command or grpclb_embedded_images)"
)


def test_who_takes_a_port_from_all_pods_is_told_so(ready: Callable[..., Deployment]) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("taken"))
    # Which of the two shows first is the machine's affair: another run's pod may have the port.
    assert told(caught.value) in {
        f"the service listens on all addresses; {LISTENING}",
        "the process of the container 'service' ends by itself (exit code 1): its port is taken; "
        + LISTENING,
    }


@pytest.mark.parametrize("name", ["taken", "late"])
def test_no_probe_is_needed_to_see_that_pods_share_a_port(
    ready: Callable[..., Deployment], name: str
) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image(name, probe=Probe.NONE))
    assert told(caught.value) in {
        f"the service listens on all addresses; {LISTENING}",
        "the process of the container 'service' ends by itself (exit code 1): its port is taken; "
        + LISTENING,
    }


def test_a_container_that_listens_nowhere_is_ready_all_the_same(
    ready: Callable[..., Deployment],
) -> None:
    ready(image("deaf", probe=Probe.NONE))


def test_a_service_without_a_health_service_needs_another_probe(
    ready: Callable[..., Deployment],
) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("unhealthy"))
    assert told(caught.value) == (
        "the service has no health service (grpc.health.v1.Health) that a gRPC probe could ask: "
        "set --grpclb-probe=tcp, or have its manifests probe by tcpSocket"
    )
    assert caught.value.timeout_s < 30.0  # no time would mend it


@pytest.mark.parametrize("probe", [Probe.TCP, Probe.NONE])
def test_with_another_probe_it_gets_ready(ready: Callable[..., Deployment], probe: Probe) -> None:
    ready(image("unhealthy", probe=probe))


def test_a_port_that_nothing_listens_on_is_named(ready: Callable[..., Deployment]) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("elsewhere"), replicas=1, ready_timeout_s=4.0)
    [pod] = [line for line in caught.value.details.splitlines() if "failed to connect" in line]
    address = pod.partition('"')[2].partition('"')[0]
    assert address.endswith(":50051")
    ip = address.partition(":")[0]
    assert told(caught.value) == (
        f"nothing listens on {address}, the process is up: it listens on {ip}:50077 only; have its "
        "command listen on {ip}:{port} (--grpclb-command, grpclb_embedded_images), say where it "
        "listens with --grpclb-service-port, or raise --grpclb-ready-timeout if it is still "
        "starting"
    )


def test_a_command_that_does_not_exist_is_named(ready: Callable[..., Deployment]) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("missing"))
    assert told(caught.value) == (
        "the command of the container 'service' cannot be started (exec \"no-such-program\": "
        "executable file not found in $PATH): correct it (--grpclb-command, or "
        "grpclb_embedded_images, where one of these names it)"
    )


def test_the_last_words_of_a_command_that_ends_are_told(ready: Callable[..., Deployment]) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("ends"))
    assert told(caught.value) == (
        "the process of the container 'service' ends by itself (exit code 3): its last words are "
        "below"
    )
    assert "no configuration" in caught.value.details
    assert caught.value.timeout_s < 30.0


def test_configuration_comes_from_config_maps_and_secrets(
    ready: Callable[..., Deployment], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\ndata: {GREETING: hello}\n"
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: shop}\n"
        "stringData: {PASSWORD: secret}\n"
    )
    ready(
        image(
            "configured",
            environment_from=(("configMap", "shop"), ("secret", "shop")),
            manifests=(str(tmp_path / "config.yaml"),),
        )
    )


@pytest.mark.parametrize("name", ["slow", "after 20 s"])
def test_a_slow_start_is_waited_for_and_not_cut_short(
    ready: Callable[..., Deployment], api: KubeApi, namespace: str, name: str
) -> None:
    ready(image(name))
    restarts = [
        status["restartCount"]
        for pod in api.list(PODS, namespace)
        for status in pod["status"]["containerStatuses"]
    ]
    assert restarts == [0, 0]


def test_a_start_slower_than_the_timeout_says_what_to_raise(
    ready: Callable[..., Deployment],
) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("slow"), replicas=1, ready_timeout_s=2.0)
    assert told(caught.value).endswith("or raise --grpclb-ready-timeout if it starts slowly")


def test_a_service_is_told_its_connection_age_and_who_it_is(api: KubeApi, namespace: str) -> None:
    source = image(
        "shop", connection_age=AgeVariable(name="AGE", template="{s}s"), environment={"A": "b"}
    )
    backends = source.backends(api, Settings(max_connection_age_s=2.5), namespace=namespace)
    [deployment] = backends.manifests
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables == {
        "POD_NAME": None,
        "POD_NAMESPACE": None,
        "POD_IP": None,
        "POD_UID": None,
        "AGE": "2.5s",
        "A": "b",
    }
