"""What there is to say of an option."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Option"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: on the command line with dashes, in the ini file with underscores."""

    name: str
    help: str
    default: str
    metavar: str | None = None
    repeatable: bool = False
    flag: bool = False
    lines: bool = False
    """Repeatable, and a line each in the ini file."""

    @property
    def dest(self) -> str:
        """Its name in pytest's configuration, and in the ini file."""
        return "grpclb_" + self.name.replace("-", "_")

    @property
    def switch(self) -> str:
        """Its name on the command line."""
        return f"--grpclb-{self.name}"
