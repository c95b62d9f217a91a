"""Where the bytes of files lie in the store at `FILES_URL`."""


def storage_key(sha256: str) -> str:
    """The key of a content, by its hash in hex: the gateway writes there, services read there."""
    return f"sha256/{sha256[:2]}/{sha256}"
