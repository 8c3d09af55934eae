"""The shop is a repository of its own: `pytest example_tests/shop` runs its tests."""

collect_ignore = ["shop"]
