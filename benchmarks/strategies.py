"""One `pytest` run over every strategy: for each, one test of the spread and one of scaling.

Budget: 15 s on two cores, from the shell's prompt to the shell's prompt.

    python benchmarks/strategies.py
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    "test_even_spread.py::test_requests_spread_evenly",
    "test_rebalancing.py::test_scaled_from_three_to_six_and_back_to_two",
    # A ClusterIP's: it passes neither of these, and the tests say so.
    "test_even_spread.py::test_a_cluster_ip_pins_a_client_to_one_pod",
    "test_autoscaler.py::test_behind_a_cluster_ip_new_pods_stay_idle",
)
RUNS = 5
BUDGET_S = 15.0
_DURATION = re.compile(r"([0-9.]+)s (setup|call|teardown) +\S+\[(\S+)\]")


def run_once() -> tuple[float, dict[str, float]]:
    """Run the tests; return the wall time in seconds, and each strategy's part of it."""
    tests = [str(ROOT / "example_tests" / test) for test in TESTS]
    switches = ["-q", "-p", "no:cacheprovider", "--grpclb-strategy=all", "--durations=0", "-vv"]
    # As on most machines: what was compiled once is not compiled for each run.
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *switches, *tests],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    took_s = time.perf_counter() - began_s
    if done.returncode != 0:
        sys.exit(done.stdout)
    parts: dict[str, float] = {}
    for seconds, _, strategy in _DURATION.findall(done.stdout):
        parts[strategy] = parts.get(strategy, 0.0) + float(seconds)
    return took_s, parts


def main() -> None:
    """Run a few times and print the medians, and the ratio to the budget."""
    run_once()  # writes the bytecode
    runs = [run_once() for _ in range(RUNS)]
    for strategy in runs[0][1]:
        if strategy != "no-strategy":
            part_s = statistics.median(parts.get(strategy, 0.0) for _, parts in runs)
            print(f"{strategy}: {part_s:.2f} s")
    took_s = sorted(took_s for took_s, _ in runs)
    median_s = statistics.median(took_s)
    print(
        f"all in one run: median {median_s:.2f} s of {RUNS}, from {took_s[0]:.2f} to "
        f"{took_s[-1]:.2f}; ratio to the budget of {BUDGET_S:g} s: {median_s / BUDGET_S:.2f}"
    )


if __name__ == "__main__":
    main()
