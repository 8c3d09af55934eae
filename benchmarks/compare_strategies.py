"""What each strategy costs and how fast it is: the numbers of the README's table of strategies.

Latency is that of single calls, one at a time; "added" is against headless, where a call goes from
client to pod directly. Processor time and memory are those of the processes that a strategy adds
(Envoy, nginx, balancers), by the kernel's accounts. A ClusterIP adds none: in life it is a rule of
the kernel; the embedded cluster relays its connections in a process that has more to do.

    python benchmarks/compare_strategies.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb import assert_no_failed_calls, assert_rebalanced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_grpclb import Grpclb

ROUNDS = 3
CALLS = 3000
RATE = 1000.0
DIRECT = "headless"
_RECORDED = (
    *("p50_s", "p99_s", "processor_s", "memory_mib", "hops"),
    *("first_call_s", "share_s"),
)
_ADDED = ("/roots/envoy", "/roots/balancer")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def added_processes() -> list[Path]:
    """Return, as directories of /proc, the processes that stand between clients and backends."""
    return [
        process
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and _is_added(process) and _is_ours(process)
    ]


def _is_added(process: Path) -> bool:
    try:
        root = (process / "cwd").readlink()
        variables = (process / "environ").read_bytes().split(b"\0")
        name = (process / "comm").read_text().strip()
    except OSError:
        return False
    roots = [part.partition(b"=")[2].decode() for part in variables if part[:12] == b"GRPCLB_ROOT="]
    return name == "nginx" or any(str(each).endswith(_ADDED) for each in (root, *roots))


def _is_ours(process: Path) -> bool:
    """Tell whether a process descends from this one: other runs have such processes, too."""
    number = process.name
    while number not in {"0", "1"}:
        if number == str(os.getpid()):
            return True
        try:
            number = _stat(Path("/proc") / number)[1]
        except OSError:
            return False
    return False


def _stat(process: Path) -> list[str]:
    """Return the fields of /proc/PID/stat that follow the name: state, parent and so on.

    :source: proc(5)
    """
    return (process / "stat").read_text().rpartition(")")[2].split()


def processor_s(processes: Sequence[Path]) -> float:
    """Return the processor time that they have used."""
    fields = [_stat(process) for process in processes]
    return sum(int(each[11]) + int(each[12]) for each in fields) / _TICKS_PER_S


def memory_mib(processes: Sequence[Path]) -> float:
    """Return their proportional set size: pages that several share are divided among them."""
    kib = 0
    for process in processes:
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib / 1024.0


# --- what is measured, with the fixture that any test has


@pytest.mark.parametrize("_attempt", range(ROUNDS))
@pytest.mark.grpclb(max_connection_age_s=None)
def test_calls(grpclb: Grpclb, _attempt: int, record_property: Callable[[str, Any], None]) -> None:
    """Latency, processor time, memory and hops, while no pod comes or goes."""
    grpclb.drive(calls=CALLS, concurrency=1)  # everything is loaded and connected then
    added = added_processes()
    before_s = processor_s(added)
    traffic = grpclb.drive(calls=CALLS, concurrency=1)
    assert_no_failed_calls(traffic)
    calls = traffic.calls
    latencies = sorted(
        done_s - sent_s for sent_s, done_s in zip(calls.sent_s, calls.done_s, strict=True)
    )
    record_property("p50_s", latencies[CALLS // 2])
    record_property("p99_s", latencies[CALLS * 99 // 100])
    record_property("processor_s", (processor_s(added) - before_s) / CALLS)
    record_property("memory_mib", memory_mib(added))
    record_property("hops", 0 if traffic.pickers is None else 1)


@pytest.mark.parametrize("_attempt", range(ROUNDS))
def test_a_new_pod(
    grpclb: Grpclb, _attempt: int, record_property: Callable[[str, Any], None]
) -> None:
    """Time from a new pod's readiness to its first call, and to its share."""
    with grpclb.traffic(rate=RATE) as traffic:
        grpclb.scale(4)
        if not grpclb.strategy.promises_rebalancing:
            return
        moved = assert_rebalanced(traffic)
    [first_s] = moved.first_call_s.values()
    ready = {each.uid: each.ready_at_s for each in grpclb.backends()}
    [new] = moved.first_call_s
    became_ready_s = ready[new]
    assert became_ready_s is not None
    record_property("first_call_s", first_s)
    record_property("share_s", moved.converged_s - (became_ready_s - moved.changed_at_s))


# --- the table


def collected(report: Path) -> dict[str, dict[str, list[float]]]:
    """Return what the tests have recorded, by strategy and name, from a JUnit report."""
    measured: dict[str, dict[str, list[float]]] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        # "test_calls[envoy-sidecar-0]", or with the number first
        words = case.attrib["name"].partition("[")[2].rstrip("]").split("-")
        strategy = "-".join(word for word in words if not word.isdigit())
        of_strategy = measured.setdefault(strategy, {})
        for each in case.iter("property"):
            if each.attrib["name"] in _RECORDED:
                values = of_strategy.setdefault(each.attrib["name"], [])
                values.append(float(each.attrib["value"]))
    return measured


def table(measured: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return a Markdown table of the medians."""
    direct = measured[DIRECT]
    lines = [
        "| strategy | hops | latency p50 | p99 | added p50 | added p99 | processor time a call "
        "| memory | first call of a new pod | its share |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for strategy, values in measured.items():
        median = {name: statistics.median(each) for name, each in values.items()}
        added = [
            f"{(median[name] - statistics.median(direct[name])) * 1e3:+.2f} ms"
            for name in ("p50_s", "p99_s")
        ]
        new = [
            f"{median[name]:.2f} s" if name in median else "never"
            for name in ("first_call_s", "share_s")
        ]
        cells = [
            f"`{strategy}`",
            f"{median['hops']:.0f}",
            *(f"{median[name] * 1e3:.2f} ms" for name in ("p50_s", "p99_s")),
            *(added if strategy != DIRECT else ["-", "-"]),
            f"{median['processor_s'] * 1e6:.0f} µs" if median["memory_mib"] else "-",
            f"{median['memory_mib']:.0f} MiB" if median["memory_mib"] else "-",
            *new,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the tests above under every strategy, and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        switches = ["-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1"]
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", *switches),
                *("--grpclb-strategy=all", f"--junit-xml={report}", __file__),
            ],
            check=True,
        )
        measured = collected(report)
    print(f"\nmedians of {ROUNDS} rounds of {CALLS} calls\n\n{table(measured)}")


if __name__ == "__main__":
    main()
