"""Written by hand: only what is not a resource."""
