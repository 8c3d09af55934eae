"""The pytest hooks: wiring, nothing else. Imported in every run, so it imports next to nothing."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb import hookspecs
from pytest_grpclb.errors import OptionError
from pytest_grpclb.fixtures import (
    FAILED,
    NOTES,
    OPTIONS,
    PLACE,
    PROVIDER,
    RUN,
    STRATEGIES,
    VERDICT_PROPERTY,
    grpclb,
    grpclb_call,
    grpclb_cluster,
    grpclb_namespace,
    grpclb_outside_driver,
    grpclb_request_factory,
    grpclb_service,
    grpclb_settings,
    grpclb_strategy,
    grpclb_stream,
)
from pytest_grpclb.options import add_options, apply_marker, read_options, selected
from pytest_grpclb.reruns import refuse_rerun, remember_verdicts
from pytest_grpclb.tracebacks import only_the_message

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.terminal import TerminalReporter


__all__ = [
    "grpclb",
    "grpclb_call",
    "grpclb_cluster",
    "grpclb_namespace",
    "grpclb_outside_driver",
    "grpclb_request_factory",
    "grpclb_service",
    "grpclb_settings",
    "grpclb_strategy",
    "grpclb_stream",
]

pytest.register_assert_rewrite("pytest_grpclb.asserts", "pytest_grpclb.conformance")

_PROFILES = "grpclb-"
_NOTES_OF_WORKER = "grpclb_notes"
_SELECTED: pytest.StashKey[tuple[str, ...]] = pytest.StashKey()

_MARKERS = (
    "grpclb(replicas=..., max_connection_age_s=..., ...): what the grpclb fixture sets up",
    "grpclb_only(*strategies): run the test under these load-balancing strategies only",
    "grpclb_skip(*strategies): do not run the test under these load-balancing strategies",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Register the profiles of Hypothesis where one is asked for, before its plugin loads it."""
    profile = getattr(early_config.known_args_namespace, "hypothesis_profile", None) or ""
    if profile.startswith(_PROFILES):
        import pytest_grpclb.stateful  # noqa: F401


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and check the options before anything is collected."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    from pytest_grpclb.clusters import PROVIDERS, find
    from pytest_grpclb.strategies import STRATEGIES as OWN

    try:
        options = read_options(config)
        strategies = dict(OWN)
        for added in config.hook.pytest_grpclb_strategies(config=config):
            for strategy in added:
                _add("strategy", strategies, strategy.name, strategy)
        providers = dict(PROVIDERS)
        for more in config.hook.pytest_grpclb_clusters(config=config):
            for name, provider in more.items():
                _add("cluster provider", providers, name, provider)
        config.stash[OPTIONS] = options
        config.stash[NOTES] = []
        # xdist tells each worker; the main process has no cluster and needs no name.
        shared = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
        config.stash[RUN] = shared[:6] or secrets.token_hex(3)
        config.stash[STRATEGIES] = strategies
        config.stash[PROVIDER] = find(options.cluster, providers)
        config.stash[_SELECTED] = selected(options, strategies)
    except OptionError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_header(config: pytest.Config) -> str:
    """Say in one line what verdicts of this run will mean."""
    options, chosen = config.stash[OPTIONS], config.stash[_SELECTED]
    settings = options.settings
    return (
        f"grpclb: {', '.join(chosen)} on {options.cluster}; "
        f"alpha {settings.alpha:g}, power {settings.power:g} at skew {settings.skew:g}"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that uses the strategy once for each that was selected and that it allows."""
    for marker in metafunc.definition.iter_markers("grpclb"):
        try:
            apply_marker(metafunc.config.stash[OPTIONS].settings, marker.args, marker.kwargs)
        except OptionError as error:
            raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from None
    if "grpclb_strategy" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.stash[_SELECTED]
    allowed = [name for name in chosen if _allows(metafunc, name)]
    reason = f"no selected strategy fits this test; selected: {', '.join(chosen)}"
    nothing = pytest.param(None, marks=pytest.mark.skip(reason=reason), id="no-strategy")
    metafunc.parametrize("grpclb_strategy", allowed or [nothing], indirect=True, scope="function")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse to have a verdict retried."""
    __tracebackhide__ = True
    refuse_rerun(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Save what explains a failure, while the pods still run."""
    with only_the_message(item.config, call.excinfo):
        report = yield
    remember_verdicts(item, report, call)
    if report.failed and report.when != "teardown":
        item.stash[FAILED] = True
    directory = item.config.stash[OPTIONS].artifacts
    if directory is not None and report.failed and report.when != "teardown":
        written = _save_artifacts(directory, item, report.longreprtext)
        if written is not None:
            report.sections.append(("grpclb artifacts", str(written)))
    return report


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have what an xdist worker wants to say brought to the main process."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_NOTES_OF_WORKER] = session.config.stash[NOTES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what an xdist worker wants to say."""
    output = getattr(node, "workeroutput", None) or {}  # a worker that has crashed has none
    notes: list[str] = node.config.stash[NOTES]
    notes.extend(output.get(_NOTES_OF_WORKER, ()))


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Show the verdicts of the run, a row per strategy and test, and what was kept."""
    notes: list[str] = config.stash[NOTES]
    if notes:
        terminalreporter.section("gRPC load balancing: clusters")
        for note in dict.fromkeys(notes):
            terminalreporter.write_line(note)
    reports = (
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
    )
    tests = [
        [value for name, value in report.user_properties if name == VERDICT_PROPERTY]
        for report in reports
    ]
    if not any(tests):
        return
    from pytest_grpclb.report import format_summary

    terminalreporter.section("gRPC load balancing")
    terminalreporter.write(format_summary(tests))


def _save_artifacts(directory: Path, item: pytest.Item, failure: str) -> Path | None:
    """Save what the test's namespace holds, and what its handle knows, where set-up got so far."""
    if PLACE not in item.stash:
        return None
    running, namespace, service = item.stash[PLACE]
    from pytest_grpclb.clusters.artifacts import artifacts_folder, save_namespace

    folder = artifacts_folder(directory, item.nodeid)
    (folder / "failure.txt").write_text(failure)
    save_namespace(running.api, namespace, folder, service=service, run=running.run)
    handle = getattr(item, "funcargs", {}).get("grpclb")
    if handle is not None:
        handle.save_artifacts(directory, item.nodeid, failure)
    return folder


def _add(what: str, known: dict[str, Any], name: str, value: Any) -> None:
    if name in known:
        raise OptionError(f"{what} added by a hook", name, expected="a name that is not taken")
    known[name] = value


def _allows(metafunc: pytest.Metafunc, strategy: str) -> bool:
    """Apply the markers grpclb_only and grpclb_skip, which may name aliases.

    :raises pytest.Collector.CollectError: if a marker names a strategy that does not exist
    """
    from pytest_grpclb.strategies import find

    strategies = metafunc.config.stash[STRATEGIES]

    def names(marker: pytest.Mark) -> set[str]:
        try:
            return {find(name, strategies).name for name in marker.args}
        except OptionError as error:
            raise pytest.Collector.CollectError(
                f"{metafunc.definition.nodeid}: marker {marker.name}: no strategy is called "
                f"{error.value!r}; expected {error.expected.removesuffix(', all')}"
            ) from None

    only = [names(marker) for marker in metafunc.definition.iter_markers("grpclb_only")]
    skip = [names(marker) for marker in metafunc.definition.iter_markers("grpclb_skip")]
    return all(strategy in each for each in only) and not any(strategy in each for each in skip)
