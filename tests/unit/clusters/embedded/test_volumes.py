"""Volumes become files, mounts become links, mount paths are rewritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.node.environment import ConfigError
from pytest_grpclb.clusters.embedded.node.volumes import Mounts, PodDirectory
from pytest_grpclb.clusters.embedded.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store() -> Store:
    store = Store()
    metadata = {"name": "settings", "namespace": "test"}
    store.create("configmaps", {"metadata": metadata, "data": {"a.txt": "A", "b.txt": "B"}})
    metadata = {"name": "keys", "namespace": "test"}
    store.create("secrets", {"metadata": metadata, "data": {"key.pem": "S0VZ"}})
    return store


def pod(volumes: list[Any], mounts: list[Any]) -> dict[str, Any]:
    container = {"name": "main", "volumeMounts": mounts}
    return {
        "metadata": {"name": "p", "namespace": "test", "uid": "u", "labels": {"app": "x"}},
        "spec": {"volumes": volumes, "containers": [container]},
    }


def lay_out(store: Store, tmp_path: Path, volumes: list[Any], mounts: list[Any]) -> Mounts:
    directory = PodDirectory(tmp_path / "u")
    made = pod(volumes, mounts)
    account = {"token": b"T", "ca.crt": b"C", "namespace": b"test"}
    directory.prepare(store, made, account)
    return directory.mounts(made, made["spec"]["containers"][0], account=True)


def test_every_kind_of_volume_lies_under_its_mount_path(store: Store, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    volumes = [
        {"name": "config", "configMap": {"name": "settings"}},
        {
            "name": "some",
            "secret": {
                "secretName": "keys",
                "items": [{"key": "key.pem", "path": "tls/own.pem", "mode": 0o400}],
            },
        },
        {"name": "empty", "emptyDir": {}},
        {"name": "host", "hostPath": {"path": str(host)}},
        {
            "name": "all",
            "projected": {
                "defaultMode": 0o755,
                "sources": [
                    {"configMap": {"name": "settings", "items": [{"key": "a.txt", "path": "run"}]}},
                    {"secret": {"name": "keys"}},
                    {
                        "downwardAPI": {
                            "items": [
                                {"path": "who", "fieldRef": {"fieldPath": "metadata.labels['app']"}}
                            ]
                        }
                    },
                    {"serviceAccountToken": {"path": "token"}},
                ],
            },
        },
    ]
    mounts = [
        {"name": "config", "mountPath": "/etc/greeter/"},
        {"name": "config", "mountPath": "/etc/one/a", "subPath": "a.txt"},
        {"name": "some", "mountPath": "/certs"},
        {"name": "empty", "mountPath": "/tmp/cache"},
        {"name": "host", "mountPath": "/mnt/host"},
        {"name": "all", "mountPath": "/all"},
    ]
    root = lay_out(store, tmp_path, volumes, mounts).root
    assert (root / "etc/greeter/b.txt").read_text() == "B"
    assert (root / "etc/one/a").read_text() == "A"
    assert (root / "certs/tls/own.pem").read_bytes() == b"KEY"
    assert (root / "certs/tls/own.pem").stat().st_mode & 0o777 == 0o400
    (root / "tmp/cache/x").write_text("written")
    (root / "mnt/host/y").write_text("out")
    assert (host / "y").read_text() == "out"
    assert {path.name for path in (root / "all").iterdir()} == {"run", "key.pem", "who", "token"}
    assert (root / "all/run").stat().st_mode & 0o777 == 0o755
    assert (root / "all/who").read_text() == "x"
    assert (root / "all/token").read_text() == "T"
    assert (root / "var/run/secrets/kubernetes.io/serviceaccount/ca.crt").read_text() == "C"


def test_containers_of_a_pod_share_its_volumes(store: Store, tmp_path: Path) -> None:
    directory = PodDirectory(tmp_path / "u")
    made = pod([{"name": "v", "emptyDir": {}}], [])
    directory.prepare(store, made, {})
    first = {"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/one"}]}
    second = {"name": "b", "volumeMounts": [{"name": "v", "mountPath": "/two"}]}
    one = directory.mounts(made, first, account=False)
    two = directory.mounts(made, second, account=False)
    (one.root / "one/file").write_text("here")
    assert (two.root / "two/file").read_text() == "here"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/etc/app", "{root}/etc/app"),
        ("--config=/etc/app/x.yaml", "--config={root}/etc/app/x.yaml"),
        ("/etc/app:/etc/app/certs/a", "{root}/etc/app:{root}/etc/app/certs/a"),
        ("file:///etc/app", "file:///etc/app"),  # part of another path: left alone
        ("/etc/apple", "/etc/apple"),
        ("/etc/app-two", "/etc/app-two"),
        ("/srv/etc/app", "/srv/etc/app"),
        ('{{"dir": "/etc/app"}}', '{{"dir": "{root}/etc/app"}}'),
    ],
)
def test_a_mount_path_is_rewritten_where_it_begins_a_path(
    store: Store, tmp_path: Path, text: str, expected: str
) -> None:
    mounts = lay_out(
        store,
        tmp_path,
        [{"name": "v", "emptyDir": {}}],
        [{"name": "v", "mountPath": "/etc/app"}],
    )
    root = str(mounts.root)
    assert mounts.rewrite(text.format(root=root)) == expected.format(root=root)


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
        (
            {"configMap": {"name": "settings", "items": [{"key": "c", "path": "c"}]}},
            'configmap "settings" has no key "c", wanted by a volume',
        ),
        (
            {"configMap": {"name": "settings", "items": [{"key": "a.txt", "path": "../x"}]}},
            'path "../x" in a volume must not contain ".."',
        ),
        (
            {"nfs": {"server": "s", "path": "/"}},
            'volume "v" is of the kind nfs; the embedded cluster knows emptyDir, configMap, '
            "secret, downwardAPI, projected and hostPath",
        ),
    ],
)
def test_a_volume_that_cannot_be_made_says_why(
    store: Store, tmp_path: Path, volume: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        lay_out(store, tmp_path, [{"name": "v", **volume}], [])
    assert str(caught.value) == message


def test_an_optional_source_may_be_missing(store: Store, tmp_path: Path) -> None:
    volume = {"name": "v", "configMap": {"name": "no", "optional": True}}
    mounts = lay_out(store, tmp_path, [volume], [{"name": "v", "mountPath": "/v"}])
    assert list((mounts.root / "v").iterdir()) == []


def test_a_mount_of_no_volume_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        lay_out(store, tmp_path, [], [{"name": "v", "mountPath": "/v"}])
    assert str(caught.value) == (
        'volumeMount "v" of container "main": the pod has no volume of that name'
    )


def test_mounts_that_no_text_names_are_known(store: Store, tmp_path: Path) -> None:
    mounts = lay_out(
        store,
        tmp_path,
        [{"name": "v", "emptyDir": {}}],
        [{"name": "v", "mountPath": "/etc/app"}, {"name": "v", "mountPath": "/etc/other"}],
    )
    texts = [mounts.rewrite("--config=/etc/app/x.yaml"), mounts.rewrite("/srv/etc/other"), "/etc"]
    assert mounts.unnamed(texts).keys() == {
        "/etc/other",
        "/var/run/secrets/kubernetes.io/serviceaccount",
    }
    assert mounts.unnamed(texts)["/etc/other"] == mounts.root / "etc/other"
