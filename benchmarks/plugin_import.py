"""What having the plugin installed costs a run that does not use it.

Budget: 15 ms for the import, and none of the libraries that only its stages need.

    python benchmarks/plugin_import.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

RUNS = 15
BUDGET_S = 0.015
FORBIDDEN = ("grpc", "kubernetes", "hypothesis", "aiohttp", "h11", "yaml", "helm_python")

IMPORT = """
import sys, time
import pytest
began = time.perf_counter()
import pytest_grpclb.plugin
took = time.perf_counter() - began
print(took, *[name for name in {forbidden!r} if name in sys.modules])
"""

CONFIGURE = """
import sys, time
import pytest
sys.argv = ["pytest"]
began = time.perf_counter()
pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", {extra!r}, {empty!r}])
took = time.perf_counter() - began
sys.stderr.write(str(took))
print(*[name for name in {forbidden!r} if name in sys.modules])
"""


def run(code: str) -> tuple[str, str]:
    """Run *code* in a new interpreter; return what it wrote to both streams."""
    # As on most machines: what was compiled once is not compiled for each run.
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env=environment,
    )
    return done.stdout, done.stderr


def main() -> None:
    """Print medians, their ratio to the budget, and the modules that should not be there."""
    import tempfile
    from pathlib import Path

    run(IMPORT.format(forbidden=FORBIDDEN))  # writes the bytecode
    imports = [run(IMPORT.format(forbidden=FORBIDDEN))[0].split() for _ in range(RUNS)]
    took_s = statistics.median(float(words[0]) for words in imports)
    loaded = sorted({name for words in imports for name in words[1:]})
    print(f"import of the plugin: median {1000 * took_s:.1f} ms of {RUNS}")
    print(f"ratio to the budget of {1000 * BUDGET_S:g} ms: {took_s / BUDGET_S:.2f}")
    print(f"modules it must not load: {', '.join(loaded) or 'none loaded'}")
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "test_empty.py"
        empty.write_text("def test_nothing(): pass\n")
        pairs = []
        for _ in range(RUNS):
            there = CONFIGURE.format(extra="-pgrpclb", empty=str(empty), forbidden=FORBIDDEN)
            away = CONFIGURE.format(extra="-pno:grpclb", empty=str(empty), forbidden=FORBIDDEN)
            pairs.append((float(run(there)[1]), float(run(away)[1])))
    ratios = [with_it / without for with_it, without in pairs]
    added_s = statistics.median(with_it - without for with_it, without in pairs)
    print(
        f"a run that collects one empty test: ratio with/without the plugin "
        f"{statistics.median(ratios):.2f}, {1000 * added_s:+.1f} ms"
    )


if __name__ == "__main__":
    main()
