"""A repository's whole run with a Python service of its own, against the same run with the greeter.

Headless, one test of the spread and one of scaling; budget: 1.2 times the greeter's.

    python benchmarks/own_service.py
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "example_tests" / "shop"
RUNS = 5
BUDGET = 1.2


def run_once(directory: Path) -> float:
    """Run the tests of a repository; return the wall time in seconds."""
    began_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
    )
    took_s = time.perf_counter() - began_s
    if done.returncode != 0:
        sys.exit(done.stdout)
    return took_s


def main() -> None:
    """Run both in turn, so that both meet the same load, and print the ratio of their medians."""
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder)
        shutil.copy(SHOP / "tests" / "test_balancing.py", sample)
        (sample / "pytest.ini").write_text("[pytest]\n")
        for directory in (SHOP, sample):  # writes the bytecode
            run_once(directory)
        pairs = [(run_once(SHOP), run_once(sample)) for _ in range(RUNS)]
    own_s, sample_s = (statistics.median(took_s) for took_s in zip(*pairs, strict=True))
    print(f"own service: median {own_s:.2f} s of {RUNS}; the greeter: {sample_s:.2f} s")
    ratio = own_s / sample_s
    print(f"ratio {ratio:.2f}; to the budget of {BUDGET:g}: {ratio / BUDGET:.2f}")


if __name__ == "__main__":
    main()
