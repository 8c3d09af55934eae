from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from re import escape
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.calls import Types, split_name, types_of_files
from pytest_grpclb.errors import CallError, ProtocMissingError, TypesError
from pytest_grpclb.settings import TypeSource

from .conftest import SHOP, SOURCE

if TYPE_CHECKING:
    from pathlib import Path


def test_services_and_methods_are_found_by_name(shop: Types) -> None:
    assert shop.services() == ("shop.v1.Catalog",)
    assert shop.method("/shop.v1.Catalog/GetItem").output_type.full_name == "shop.v1.Item"


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (
            "shop.v1.Catalogue/GetItem",
            f"{SHOP / 'shop.proto'} knows no service 'shop.v1.Catalogue'; did you mean "
            "'shop.v1.Catalog'?",
        ),
        (
            "shop.v1.Catalog/Getitem",
            "service 'shop.v1.Catalog' has no method 'Getitem'; did you mean 'GetItem' or "
            "'PutItem'?",
        ),
        (
            "shop.v1.Catalog/Buy",
            "service 'shop.v1.Catalog' has no method 'Buy'; there are: GetItem, PutItem, "
            "UploadItems, WatchItems",
        ),
        ("GetItem", "this is no method's name; write it as package.Service/Method"),
    ],
)
def test_what_is_not_there_is_told_with_what_is_like_it(
    shop: Types, method: str, told: str
) -> None:
    with pytest.raises(CallError, match=f"^{escape(f'call {method!r}: {told}')}$"):
        shop.method(method)


def test_a_name_may_have_a_slash_in_front() -> None:
    assert split_name("/shop.v1.Catalog/GetItem") == ("shop.v1.Catalog", "GetItem")


def test_the_types_are_in_no_common_pool(shop: Types) -> None:
    from google.protobuf import descriptor_pool

    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("shop.v1.Item")
    assert shop.pool.FindMessageTypeByName("shop.v1.Item").full_name == "shop.v1.Item"


def test_a_proto_that_does_not_compile_is_told_in_protocs_own_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.proto"
    broken.write_text('syntax = "proto3";\nmessage Item { strin id = 1; }\n')
    source = TypeSource(protos=(broken,), proto_path=(tmp_path,))
    told = escape(
        f"types by {broken}: protoc refuses it; imports are looked for below --grpclb-proto-path; "
        "it said:\n"
    )
    said = escape('broken.proto:2:16: "strin" is not defined.')
    with pytest.raises(TypesError, match=rf"^{told}\S*{said}$"):  # its path, in newer ones
        types_of_files(source)


def test_a_proto_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = TypeSource(protos=(SHOP / "shop.proto", tmp_path / "shup.proto"), proto_path=(SHOP,))
    told = escape(
        f"types by {tmp_path / 'shup.proto'}: there is no such file; name it as seen from pytest's "
        "rootdir, or from a folder of --grpclb-proto-path"
    )
    with pytest.raises(TypesError, match=f"^{told}$"):
        types_of_files(source)


def test_without_grpcio_tools_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    source = replace(SOURCE, proto_path=(tmp_path,))  # not compiled before
    told = (
        f"types by {SHOP / 'shop.proto'}: grpcio-tools, which compiles them, is not here; install "
        "it with: pip install 'pytest-grpclb[protos]', or set --grpclb-descriptor-set"
    )
    with pytest.raises(ProtocMissingError, match=f"^{escape(told)}$"):
        types_of_files(source)


def described(folder: Path, *flags: str) -> Path:
    made = folder / "shop.pb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SHOP}", *flags]
    subprocess.run([*command, f"--descriptor_set_out={made}", "shop.proto"], check=True)
    return made


def test_a_descriptor_set_tells_the_same(tmp_path: Path) -> None:
    made = described(tmp_path, "--include_imports")
    assert types_of_files(TypeSource(descriptor_set=made)).services() == ("shop.v1.Catalog",)


def test_well_known_imports_need_not_be_in_the_set(tmp_path: Path) -> None:
    made = described(tmp_path)
    assert types_of_files(TypeSource(descriptor_set=made)).services() == ("shop.v1.Catalog",)


def test_a_set_without_its_imports_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text('syntax = "proto3"; message A {}')
    (tmp_path / "b.proto").write_text('syntax = "proto3"; import "a.proto"; message B { A a = 1; }')
    made = tmp_path / "b.pb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{tmp_path}"]
    subprocess.run([*command, f"--descriptor_set_out={made}", "b.proto"], check=True)
    told = (
        f"types by descriptor set {str(made)!r}: 'b.proto' imports 'a.proto', which is not there; "
        "protoc writes such files with --include_imports"
    )
    with pytest.raises(TypesError, match=f"^{escape(told)}$"):
        types_of_files(TypeSource(descriptor_set=made))


@pytest.mark.parametrize("content", [b"", b"not a set", b"\x0a\x03abc"])
def test_what_is_no_descriptor_set_is_refused(tmp_path: Path, content: bytes) -> None:
    made = tmp_path / "shop.pb"
    made.write_bytes(content)
    told = (
        f"types by descriptor set {str(made)!r}: its {len(content)} bytes are no "
        "FileDescriptorSet; write it with protoc --include_imports --descriptor_set_out=FILE"
    )
    with pytest.raises(TypesError, match=f"^{escape(told)}$"):
        types_of_files(TypeSource(descriptor_set=made))


def test_a_descriptor_set_that_is_not_there_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "shop.pb"
    told = (
        f"types by descriptor set {str(missing)!r}: it cannot be read: No such file or directory; "
        "mend --grpclb-descriptor-set"
    )
    with pytest.raises(TypesError, match=f"^{escape(told)}$"):
        types_of_files(TypeSource(descriptor_set=missing))
