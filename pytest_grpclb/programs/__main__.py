"""Entrypoint of the programs' image: ``python -m pytest_grpclb.programs greeter --port=50051``."""

from __future__ import annotations

import sys

from pytest_grpclb.programs import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
