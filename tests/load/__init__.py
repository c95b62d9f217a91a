"""The figures of the platform under load: `make bench`."""
