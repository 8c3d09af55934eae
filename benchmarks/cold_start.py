"""From a cold `pytest` to an EVEN verdict, against the same check by hand without a cluster.

Budget: twice the time of `by_hand.py` (three server processes, one channel, as many calls).

    python benchmarks/cold_start.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEST = HERE.parent / "example_tests" / "test_even_spread.py::test_requests_spread_evenly"
PAIRS = 7
BUDGET = 2.0


def took_s(*arguments: str) -> float:
    """Run a program to its end and return the wall time in seconds."""
    began_s = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=HERE.parent
    )
    return time.perf_counter() - began_s


def main() -> None:
    """Run both in turn and print the ratio of each pair's times."""
    plugin = ("-m", "pytest", "-q", "-p", "no:cacheprovider", str(TEST))
    by_hand = (str(HERE / "by_hand.py"),)
    took_s(*plugin)  # writes the bytecode
    took_s(*by_hand)
    pairs = [(took_s(*plugin), took_s(*by_hand)) for _ in range(PAIRS)]
    ratios = sorted(plugin_s / by_hand_s for plugin_s, by_hand_s in pairs)
    print(f"pytest: median {statistics.median(pair[0] for pair in pairs):.2f} s of {PAIRS}")
    print(f"by hand: median {statistics.median(pair[1] for pair in pairs):.2f} s of {PAIRS}")
    print(
        f"ratio: median {statistics.median(ratios):.2f}, "
        f"from {ratios[0]:.2f} to {ratios[-1]:.2f}; budget {BUDGET:g}"
    )


if __name__ == "__main__":
    main()
