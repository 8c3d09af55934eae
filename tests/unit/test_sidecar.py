"""What is asked of an Envoy's admin interface, and what is made of its answers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.sidecar import Sidecar, admin_port

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = Sidecar("127.0.0.1:1")  # tcpmux: nothing listens there


class Admin:
    """An admin interface that says what the test puts into it; each page's answers in turn."""

    def __init__(self) -> None:
        self.pages: dict[str, list[str]] = {}
        self.asked: list[str] = []
        admin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                admin.asked.append(self.path)
                answers = admin.pages.get(self.path.partition("?")[0], [])
                if not answers:
                    self.send_error(404)
                    return
                body = (answers.pop(0) if len(answers) > 1 else answers[0]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.sidecar = Sidecar(f"127.0.0.1:{self.server.server_port}")


@pytest.fixture
def admin() -> Iterator[Admin]:
    made = Admin()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def clusters(*hosts: tuple[str, int]) -> str:
    statuses = [
        {"address": {"socket_address": {"address": address, "port_value": port}}}
        for address, port in hosts
    ]
    admin_interface = {"host_statuses": [{"address": {"pipe": {"path": "/admin"}}}]}
    return json.dumps({"cluster_statuses": [{"host_statuses": statuses}, admin_interface, {}]})


def test_workers_are_what_envoy_was_started_with(admin: Admin) -> None:
    admin.pages["/server_info"] = ['{"command_line_options": {"concurrency": 4}}']
    assert admin.sidecar.workers() == 4


def test_changes_of_hosts_and_repeated_calls_shift_the_round(admin: Admin) -> None:
    stats = [
        {"name": "cluster.backends.membership_change", "value": 3},
        {"name": "cluster.backends.upstream_rq_retry", "value": 2},
    ]
    admin.pages["/stats"] = [json.dumps({"stats": stats})]
    assert admin.sidecar.shifts() == 5


@pytest.mark.parametrize("said", ["", "{}", "[", '{"stats": []}', '{"stats": [{"value": "x"}]}'])
def test_what_envoy_does_not_say_is_unknown(admin: Admin, said: str) -> None:
    admin.pages |= {"/server_info": [said], "/stats": [said]}
    assert admin.sidecar.workers() is None
    assert admin.sidecar.shifts() is None


def test_an_envoy_that_is_gone_says_nothing() -> None:
    assert NOBODY.workers() is None
    assert NOBODY.shifts() is None
    NOBODY.wait_hosts({"127.9.1.5:80"}, 60.0)  # returns at once
    assert NOBODY.files()["envoy-clusters.txt"].startswith(
        "(Envoy's admin interface at 127.0.0.1:1 does not answer: "
    )


def test_hosts_are_waited_for_until_they_are_those_wanted(admin: Admin) -> None:
    one, two = ("127.9.1.5", 80), ("127.9.1.6", 80)
    admin.pages["/clusters"] = [clusters(), clusters(one), clusters(two, one)]
    admin.sidecar.wait_hosts({"127.9.1.5:80", "127.9.1.6:80"}, 60.0)
    assert len(admin.asked) == 3


def test_hosts_that_do_not_come_are_not_waited_for_for_ever(admin: Admin) -> None:
    admin.pages["/clusters"] = [clusters(("127.9.1.5", 80))]
    admin.sidecar.wait_hosts({"127.9.1.6:80"}, 0.05)
    assert len(admin.asked) >= 1


def test_files_hold_configuration_hosts_and_counters(admin: Admin) -> None:
    admin.pages |= {"/config_dump": ["{}"], "/clusters": ["backends::..."]}
    assert admin.sidecar.files() == {
        "envoy-config.json": "{}",
        "envoy-clusters.txt": "backends::...",
        "envoy-stats.txt": f"(Envoy's admin interface at {admin.sidecar.address} does not answer: "
        "GET /stats?usedonly: 404 Not Found)",
    }


# --- where it is


def deployment(component: str, *ports: dict[str, Any]) -> dict[str, Any]:
    containers = [{"name": "driver"}, {"name": "envoy", "ports": list(ports)}]
    return {
        "kind": "Deployment",
        "metadata": {"name": "x", "labels": {"app.kubernetes.io/component": component}},
        "spec": {"template": {"spec": {"containers": containers}}},
    }


ADMIN = {"name": "envoy-admin", "containerPort": 9901}


def test_the_admin_port_is_found_by_its_name_in_the_drivers_pod() -> None:
    service = {"kind": "Service", "metadata": {"name": "x"}}
    other = {"name": "envoy", "containerPort": 10000}
    assert admin_port([service, deployment("driver", other, ADMIN)]) == 9901
    assert admin_port([service, deployment("driver", other)]) is None
    assert admin_port([deployment("balancer", ADMIN)]) is None


def unwritten(size: int) -> str:
    return json.dumps({"stats": [{"name": "filesystem.write_total_buffered", "value": size}]})


def test_a_log_is_whole_when_nothing_waits_to_be_written(admin: Admin) -> None:
    admin.pages["/stats"] = [unwritten(300), unwritten(60), unwritten(0), unwritten(60)]
    admin.sidecar.wait_logged(5)
    assert len(admin.asked) == 3


def test_a_log_is_not_waited_for_where_nobody_answers() -> None:
    NOBODY.wait_logged(3600)
