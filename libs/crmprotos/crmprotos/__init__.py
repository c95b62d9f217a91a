"""The expanded descriptor set: every message and RPC of the platform with its comments."""

from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet


def load_bytes() -> bytes:
    """The serialised FileDescriptorSet, imports included."""
    return (Path(__file__).parent / "descriptors.binpb").read_bytes()


def load() -> FileDescriptorSet:
    """The FileDescriptorSet, parsed with our options known."""
    from crm.options.v1 import options_pb2  # noqa: F401  # pyright: ignore[reportUnusedImport]

    return FileDescriptorSet.FromString(load_bytes())
