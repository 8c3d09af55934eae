"""The state machine at its full size, 25 examples of 15 steps, on the embedded cluster.

Budget: 60 s on two cores for each strategy. Also tells where the time of the steps goes.

    python benchmarks/state_machine.py [STRATEGY ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUDGET_S = 60.0
STRATEGIES = ("headless", "lookaside")

TEST = """
import functools, json, os, time
import pytest
from pytest_grpclb.stateful import load_balancing_machine

STEPS = ("send_calls", "scale", "kill", "restart", "make_unready", "make_ready", "drive",
         "calls_go_to_ready_pods_and_none_is_lost", "teardown")


@pytest.mark.grpclb(
    replicas=3, readiness_gate=True, max_connection_age_s=0.2, max_connection_age_grace_s=10, skew=2
)
def test_it(grpclb):
    spent = {name: [0, 0.0] for name in STEPS}

    def timed(name, method):
        @functools.wraps(method)
        def run(self, *arguments, **keywords):
            began_s = time.perf_counter()
            try:
                return method(self, *arguments, **keywords)
            finally:
                spent[name][0] += 1
                spent[name][1] += time.perf_counter() - began_s

        return run

    machine = load_balancing_machine(grpclb)
    base = machine.__mro__[1]
    for name in STEPS:
        step = getattr(base, name)
        # Hypothesis keeps what it knows of a step, and the function to call, in an attribute of it.
        kept = [each for each in vars(step).values() if hasattr(each, "function")]
        for each in kept:
            object.__setattr__(each, "function", timed(name, each.function))
        if not kept:
            setattr(machine, name, timed(name, step))
    machine.run()
    with open(os.environ["GRPCLB_SPENT"], "w") as file:
        json.dump(spent, file)
"""


def run_once(strategy: str) -> tuple[float, dict[str, tuple[int, float]]]:
    """Run the machine; return the wall time, and how often and how long each step was taken."""
    with tempfile.TemporaryDirectory() as scratch:
        test = Path(scratch) / "test_machine.py"
        test.write_text(TEST)
        told = Path(scratch) / "spent.json"
        switches = ["-q", "-p", "no:cacheprovider", f"--grpclb-strategy={strategy}"]
        began_s = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *switches, str(test)],
            check=False,
            capture_output=True,
            text=True,
            cwd=scratch,
            env={**os.environ, "GRPCLB_SPENT": str(told)},
        )
        took_s = time.perf_counter() - began_s
        if done.returncode != 0:
            sys.exit(done.stdout)
        return took_s, json.loads(told.read_text())


def main() -> None:
    """Run each strategy once: what takes a minute varies little."""
    for strategy in sys.argv[1:] or STRATEGIES:
        took_s, spent = run_once(strategy)
        print(
            f"{strategy}: {took_s:.1f} s; ratio to the budget of {BUDGET_S:g} s: "
            f"{took_s / BUDGET_S:.2f}"
        )
        for name, (times, seconds) in sorted(spent.items(), key=lambda item: -item[1][1]):
            if times:
                print(f"  {name}: {times} x {seconds / times:.3f} s = {seconds:.1f} s")


if __name__ == "__main__":
    main()
