"""What every service of Guanxi has in common; `docs/kit.md` is its contract."""
