"""`python -m crmprotos.build`: protos/ → expanded descriptor set → Python.

The step between is `expand.py`, which adds what a resource declaration implies.
"""

import hashlib
import importlib
import shutil
import sys
from pathlib import Path

import google.api
import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

PACKAGE = Path(__file__).parent
OUT = PACKAGE.parent
PROTOS = OUT.parents[1] / "protos"
INCLUDES = [
    PROTOS,
    Path(next(iter(google.api.__path__))).parents[1],
    Path(next(iter(grpc_tools.__path__))) / "_proto",
]

# What the expansion and the gateway use beyond the imports of protos/.
EXTRA = [
    "google/protobuf/empty.proto",
    "google/protobuf/field_mask.proto",
    "google/rpc/status.proto",
    "google/rpc/error_details.proto",
]


def build() -> None:
    """Generates everything anew; leaves the tree alone where protos/ has not changed."""
    sources = sorted(PROTOS.rglob("*.proto"))
    names = [str(path.relative_to(PROTOS)) for path in sources]
    stamp = hashlib.sha256(
        b"".join(p.read_bytes() for p in [*sources, *sorted(PACKAGE.glob("*.py"))])
    ).hexdigest()
    stamp_file = OUT / "crm" / ".stamp"
    if stamp_file.exists() and stamp_file.read_text() == stamp:
        return
    shutil.rmtree(OUT / "crm", ignore_errors=True)
    (OUT / "crm").mkdir()
    raw = PACKAGE / "written.binpb"
    includes = [f"-I{path}" for path in INCLUDES]
    _run(*includes, f"--python_out={OUT}", "crm/options/v1/options.proto")
    _run(*includes, "--include_imports", "--include_source_info", f"-o{raw}", *names, *EXTRA)
    sys.path.insert(0, str(OUT))
    importlib.invalidate_caches()
    from crmprotos import expand

    expanded = expand.expand(FileDescriptorSet.FromString(raw.read_bytes()))
    target = PACKAGE / "descriptors.binpb"
    target.write_bytes(expanded.SerializeToString(deterministic=True))
    services = [f.name for f in expanded.file if f.name in names and f.service]
    _run(f"--descriptor_set_in={target}", f"--python_out={OUT}", f"--pyi_out={OUT}", *names)
    _run(f"--descriptor_set_in={target}", f"--grpc_python_out={OUT}", *services)
    for file in expanded.file:
        if file.name in services:
            _write_area_module(file.name)
    (OUT / "crm" / "py.typed").touch()
    stamp_file.write_text(stamp)


def _run(*arguments: str) -> None:
    if protoc.main(["protoc", *arguments]) != 0:
        raise SystemExit("protoc failed")


def _write_area_module(service_file: str) -> None:
    """Writes `crm/<area>/v1/pb.py`: everything of the area but its events."""
    folder = OUT / Path(service_file).parent
    modules = sorted(path.stem for path in folder.glob("*_pb2.py") if path.stem != "events_pb2")
    lines = [f"from {'.'.join(Path(service_file).parent.parts)}.{module} import *" for module in modules]
    (folder / "pb.py").write_text('"""Every message of the area."""\n\n' + "\n".join(lines) + "\n")


if __name__ == "__main__":
    build()
