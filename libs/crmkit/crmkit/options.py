"""Our options on descriptors. protobuf's stubs do not know what its extensions are, so they are read here."""

from typing import Any


def option(of: Any, extension: Any) -> Any:
    """The value of an extension on a message, field, method or enum value; its default where it is not set.

    They may be given as descriptors of the pool or as protos of a descriptor set.
    """
    return _options(of).Extensions[extension]


def has_option(of: Any, extension: Any) -> bool:
    """True where the extension is set."""
    return _options(of).HasExtension(extension)


def _options(of: Any) -> Any:
    return of.GetOptions() if hasattr(of, "GetOptions") else of.options
