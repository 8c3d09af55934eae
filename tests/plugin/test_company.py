"""Calls of several clients at once; and a client that comes after a change of the pods."""

from __future__ import annotations

import pytest

from .real_clusters import run

BESIDE = """
import grpc
import pytest
from pytest_grpclb import assert_even_spread, assert_ingress_reachable

@pytest.fixture(autouse=True)
def no_age(request):
    request.node.add_marker(pytest.mark.grpclb(max_connection_age_s=None))

BINOMIAL = "exact binomial per backend, calls as the unit"
BOUND = "exact round-robin bound"

def test_traffic(grpclb):
    with grpclb.traffic(rate=300) as traffic:
        assert assert_even_spread(grpclb.drive()).test == BINOMIAL
    with grpclb.streams(20, duration_s=0.05):
        assert assert_even_spread(grpclb.drive()).test == BINOMIAL
    # They have ended, and the calls of one run alone come in rows again.
    assert assert_even_spread(grpclb.drive()).test == BOUND

def test_own_channel(grpclb):
    with grpclb.channel() as channel:
        greet = channel.unary_unary("/helloworld.Greeter/SayHello")
        for _ in range(350):
            greet(b"")
        grpclb.drive(calls=10)
        for _ in range(350):
            greet(b"")
        assert assert_even_spread(grpclb.recorded(channel)).test == BINOMIAL
    assert assert_even_spread(grpclb.drive()).test == BOUND

@pytest.mark.grpclb_only("ingress-nginx")
def test_questions_to_the_ingress(grpclb):
    with grpclb.traffic(rate=1000) as traffic:
        traffic.wait(10)
        assert_ingress_reachable(grpclb.ingress)
        while len(traffic.snapshot().calls) < 700:
            traffic.wait(10)
    assert assert_even_spread(traffic.stop()).test == BINOMIAL
"""


@pytest.mark.parametrize(("strategy", "passed"), [("envoy-sidecar", 2), ("ingress-nginx", 3)])
def test_where_others_use_the_proxy_too_its_rows_are_not_one_clients(
    pytester: pytest.Pytester, strategy: str, passed: int
) -> None:
    pytester.makepyfile(test_it=BESIDE)
    result = run(pytester, f"--grpclb-strategy={strategy}", "--grpclb-require")
    result.assert_outcomes(passed=passed, skipped=3 - passed)


CACHING = """
import socket
import threading
import time
from dataclasses import replace

import pytest
from pytest_grpclb import assert_even_spread
from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

CACHE_S = 1.5
EmbeddedCluster.dns_cache_s = CACHE_S

@pytest.fixture
def caching(grpclb_cluster):
    '''A DNS server that gives each answer again for as long, as CoreDNS does.'''
    host, _, port = grpclb_cluster.cluster.dns_address.rpartition(":")
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    known = {}

    def serve():
        while (asked := server.recvfrom(4096))[0]:
            query, client = asked
            answered_s, answer = known.get(query[12:], (float("-inf"), b""))
            if time.monotonic() - answered_s > CACHE_S:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
                    upstream.settimeout(10)
                    upstream.sendto(query, (host, int(port)))
                    answer = upstream.recv(4096)
                known[query[12:]] = (time.monotonic(), answer)
            server.sendto(query[:2] + answer[2:], client)

    thread = threading.Thread(target=serve)
    thread.start()
    yield "{}:{}".format(*server.getsockname())
    server.sendto(b"", server.getsockname())
    thread.join()
    server.close()

@pytest.mark.grpclb(max_connection_age_s=None)
def test_it(grpclb, caching):
    freezer = grpclb._launcher.freezer
    address = freezer.target.address.replace("dns:///", f"dns://{caching}/")
    object.__setattr__(freezer, "target", replace(freezer.target, address=address))
    assert_even_spread(grpclb.drive())
    for replicas in (6, 2):
        grpclb.scale(replicas)
        assert_even_spread(grpclb.drive())
"""


def test_a_new_client_is_told_of_the_pods_that_are_there_though_dns_caches(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_it=CACHING)
    run(pytester).assert_outcomes(passed=1)
