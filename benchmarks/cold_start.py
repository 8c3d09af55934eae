"""From a cold `pytest` to an EVEN verdict, against the same test by hand without a cluster.

Budget: twice the time of `pytest by_hand.py` (three server processes, one channel, as many calls).
Both run with no other plugin. The time of by_hand.py as a bare script, without pytest, is printed
for information.

    python benchmarks/cold_start.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEST = HERE.parent / "example_tests" / "test_even_spread.py::test_requests_spread_evenly"
BY_HAND = str(HERE / "by_hand.py")
PAIRS = 9
BUDGET = 2.0


def took_s(*arguments: str) -> float:
    """Run a program to its end and return the wall time in seconds."""
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    began_s = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=HERE.parent,
        env=environment,
    )
    return time.perf_counter() - began_s


def main() -> None:
    """Run all of them in turn and print the ratio of each pair's times."""
    pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    plugin = (*pytest, "-p", "pytest_grpclb.plugin", str(TEST))
    by_hand = (*pytest, BY_HAND)
    took_s(*plugin)  # writes the bytecode
    took_s(*by_hand)
    rounds = [(took_s(*plugin), took_s(*by_hand), took_s(BY_HAND)) for _ in range(PAIRS)]
    names = ("pytest with the plugin", "pytest by_hand.py", "by_hand.py alone")
    for name, times_s in zip(names, zip(*rounds, strict=True), strict=True):
        print(f"{name}: median {statistics.median(times_s):.2f} s of {PAIRS}")
    ratios = sorted(plugin_s / by_hand_s for plugin_s, by_hand_s, _ in rounds)
    print(
        f"ratio: median {statistics.median(ratios):.2f}, "
        f"from {ratios[0]:.2f} to {ratios[-1]:.2f}; budget {BUDGET:g}"
    )


if __name__ == "__main__":
    main()
