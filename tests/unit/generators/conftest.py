"""Property tests on a busy machine: no example fails for the time that it took.

Loaded when this directory is collected, for Hypothesis reads the profile where a test is decorated.
Whatever else the profile in force says, such as that of CI or of the command line, stays.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")
