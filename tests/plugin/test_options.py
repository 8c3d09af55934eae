from __future__ import annotations

import pytest

SHOWS_SETTINGS = """
def test_settings(grpclb_settings):
    print(grpclb_settings)
"""

EMPTY = "def test_nothing(): pass\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--grpclb-strategy=heedless"],
            "--grpclb-strategy: 'heedless' cannot be used; "
            "expected one of headless, clusterip, lookaside, grpclb, envoy-sidecar, "
            "ingress-nginx, all",
        ),
        (
            ["--grpclb-strategy=headless,,clusterip"],
            "--grpclb-strategy: 'headless,,clusterip' cannot be used; "
            "expected names with commas between",
        ),
        (
            ["--grpclb-cluster=minikube"],
            "--grpclb-cluster: 'minikube' cannot be used; "
            "expected one of embedded, kind, kubeconfig",
        ),
        (
            ["--grpclb-replicas=0"],
            "--grpclb-replicas: '0' cannot be used; expected a whole number, 1 or more",
        ),
        (
            ["--grpclb-replicas=-2"],
            "--grpclb-replicas: '-2' cannot be used; expected a whole number, 1 or more",
        ),
        (
            ["--grpclb-replicas=2.5"],
            "--grpclb-replicas: '2.5' cannot be used; expected a whole number, 1 or more",
        ),
        (
            ["--grpclb-alpha=0"],
            "--grpclb-alpha: '0' cannot be used; "
            "expected a probability between 0 and 1, both excluded",
        ),
        (
            ["--grpclb-alpha=1"],
            "--grpclb-alpha: '1' cannot be used; "
            "expected a probability between 0 and 1, both excluded",
        ),
        (
            ["--grpclb-power=nan"],
            "--grpclb-power: 'nan' cannot be used; "
            "expected a probability between 0 and 1, both excluded",
        ),
        (
            ["--grpclb-skew=1"],
            "--grpclb-skew: '1' cannot be used; expected a number above 1",
        ),
        (
            ["--grpclb-ingress=ingress.example.org:https"],
            "--grpclb-ingress: 'ingress.example.org:https' cannot be used; expected HOST, "
            "HOST:PORT or HOST:PORT:HTTP_PORT; IPv6 addresses in brackets",
        ),
        (
            ["--grpclb-ingress-class=Edge Nginx"],
            "--grpclb-ingress-class: 'Edge Nginx' cannot be used; expected the name of an "
            "IngressClass",
        ),
        (
            ["--grpclb-ingress-host=https://shop.example.org"],
            "--grpclb-ingress-host: 'https://shop.example.org' cannot be used; expected a host "
            "name with a dot in it, in small letters, or *. and such a name",
        ),
        (
            ["--grpclb-ready-timeout=soon"],
            "--grpclb-ready-timeout: 'soon' cannot be used; expected a number above 0",
        ),
    ],
)
def test_an_option_that_cannot_be_used_ends_the_run_with_its_name_and_value(
    pytester: pytest.Pytester, arguments: list[str], message: str
) -> None:
    pytester.makepyfile(EMPTY)
    result = pytester.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines == [f"ERROR: {message}", ""]


def test_an_ini_setting_counts_where_the_command_line_says_nothing(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeini("[pytest]\ngrpclb_replicas = 5\ngrpclb_alpha = 1e-3\n")
    pytester.makepyfile(SHOWS_SETTINGS)
    result = pytester.runpytest("-s", "--grpclb-alpha=1e-4")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*replicas=5,*alpha=0.0001,*"])


def test_a_bad_ini_setting_is_named_like_the_option(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ngrpclb_strategy = round_robin\n")
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        "ERROR: --grpclb-strategy: 'round_robin' cannot be used; "
        "expected one of headless, clusterip, lookaside, grpclb, envoy-sidecar, ingress-nginx, all"
    )


def test_an_embedded_image_needs_a_command(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ngrpclb_embedded_images =\n    shop/server:1 =\n")
    result = pytester.runpytest()
    assert result.stderr.lines[0] == (
        "ERROR: grpclb_embedded_images: 'shop/server:1 =' cannot be used; "
        "expected IMAGE = COMMAND ARGUMENT..."
    )


def test_an_embedded_image_s_command_must_be_words(pytester: pytest.Pytester) -> None:
    pytester.makeini('[pytest]\ngrpclb_embedded_images =\n    shop = serve "{ip}:{port}\n')
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        "ERROR: grpclb_embedded_images: ' serve \"{ip}:{port}' cannot be used; "
        "expected words as a shell would read them (No closing quotation)"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("grpclb_comand", "; did you mean 'grpclb_command'?"),
        ("grpclb_skip_kind", "; did you mean 'grpclb_skip_kinds'?"),
        ("grpclb_xyz", ", of those that `pytest --help` lists"),
    ],
)
def test_an_ini_setting_that_is_none_is_no_mere_warning(
    pytester: pytest.Pytester, name: str, meant: str
) -> None:
    pytester.makepyprojecttoml(f"[tool.pytest.ini_options]\n{name} = 'serve {{port}}'\n")
    pytester.makepyfile(EMPTY)
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        f"ERROR: pyproject.toml: {name!r} cannot be used; expected a setting that exists{meant}"
    )


def test_an_ini_setting_of_another_plugin_is_its_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_addoption(parser): parser.addini('grpclb_xyz', 'mine')")
    pytester.makeini("[pytest]\ngrpclb_xyz = 1\n")
    pytester.makepyfile(EMPTY)
    pytester.runpytest().assert_outcomes(passed=1)


def test_the_header_says_in_one_line_what_verdicts_mean(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest("--grpclb-strategy=all")
    result.stdout.fnmatch_lines(
        [
            "grpclb: headless, clusterip, lookaside, envoy-sidecar, ingress-nginx on embedded; "
            "alpha 1e-06, power 0.999 at skew 1.5"
        ]
    )


def test_the_ingress_is_as_the_options_say_where_no_marker_says_otherwise(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeini("[pytest]\ngrpclb_ingress_class = edge\n")
    pytester.makepyfile(
        """
        import pytest
        from pytest_grpclb import IngressSettings

        def told(settings):
            return settings.ingress.ingress_class, settings.ingress.host_in("ns")

        def test_options(grpclb_settings):
            assert told(grpclb_settings) == ("edge", "ns.ci.example.org")

        @pytest.mark.grpclb(ingress=IngressSettings(tls="end-to-end"))
        def test_marker_of_something_else(grpclb_settings):
            assert told(grpclb_settings) == ("edge", "ns.ci.example.org")
            assert grpclb_settings.ingress.tls == "end-to-end"

        @pytest.mark.grpclb(ingress=IngressSettings(class_name="nginx", host="shop.example.org"))
        def test_marker(grpclb_settings):
            assert told(grpclb_settings) == ("nginx", "shop.example.org")
        """
    )
    options = ("--grpclb-strategy=ingress-nginx", "--grpclb-ingress-host=*.ci.example.org")
    pytester.runpytest(*options).assert_outcomes(passed=3)


def test_without_options_the_ingress_is_of_class_nginx(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it(grpclb_settings):
            assert grpclb_settings.ingress.ingress_class == "nginx"
            assert grpclb_settings.ingress.host_in("ns") == "ns.dev.mydomain.com"
        """
    )
    pytester.runpytest("--grpclb-strategy=ingress-nginx").assert_outcomes(passed=1)
