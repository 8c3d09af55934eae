"""What the reader of a failed run is told when the balancers may not see the pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CONFTEST = """
from dataclasses import dataclass

from pytest_grpclb.strategies.lookaside import Lookaside


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutRights(Lookaside):
    name: str = "without-rights"
    aliases: tuple = ()

    def values(self, service, settings):
        return {
            "strategy": "lookaside",
            "backend": {"selector": dict(service.selector), "port": service.port},
            "balancer": {"rbac": {"create": False}},
        }


def pytest_grpclb_strategies(config):
    return [WithoutRights()]
"""

ROLE = """
import pytest


@pytest.mark.grpclb(ready_timeout_s=4, replicas=1)
def test_spread(grpclb):
    pass
"""


def test_balancers_without_a_role_name_the_verbs_that_are_missing(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(ROLE)
    result = pytester.runpytest_subprocess("--grpclb-strategy=without-rights")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*NotReadyError: deployment 'grpclb-balancer': 0 of 2 replicas ready after 4 s;*",
            "*WARNING the API refuses: endpointslices.discovery.k8s.io is forbidden: "
            'User "system:serviceaccount:grpclb-*:grpclb-balancer" cannot list resource '
            '"endpointslices" in API group "discovery.k8s.io" in the namespace "grpclb-*"; '
            "the balancer's service account lacks the verb 'list': bind it to a Role in the "
            "namespace 'grpclb-*' with the verbs get, list and watch on endpointslices of the API "
            "group discovery.k8s.io (the chart does so with balancer.rbac.create=true); trying "
            "again in * s",
        ]
    )


def test_the_balancers_logs_are_among_the_artifacts_and_show_what_clients_report(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from pytest_grpclb import assert_no_failed_calls


        @pytest.mark.grpclb(replicas=2)
        def test_fails(grpclb):
            balancers = grpclb.component("balancer")
            with grpclb.traffic(rate=100) as traffic:
                def reported():
                    return any(
                        "0 not sent, dropped: none" in balancers.logs(pod.name)
                        for pod in balancers.serving()
                    )
                while not reported():
                    traffic.wait(0.1)
            with pytest.raises(ValueError) as caught:
                grpclb.component("proxy")
            assert str(caught.value) == (
                "lookaside has no component 'proxy'; its components: balancer"
            )
            raise AssertionError("to have artifacts")
        """
    )
    result = pytester.runpytest_subprocess(
        "--grpclb-strategy=grpclb", f"--grpclb-artifacts={tmp_path}"
    )
    result.assert_outcomes(failed=1)
    [folder] = tmp_path.iterdir()
    logs = [path.read_text() for path in folder.glob("grpclb-balancer-*.log")]
    assert len(logs) == 2
    assert all(" servers: 127." in log for log in logs)
    [told] = [log for log in logs if "calls started" in log]
    assert "known to be received by a server, 0 not sent, dropped: none" in told
