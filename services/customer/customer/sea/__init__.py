"""The public sea: clocks, returns, claims, simulation."""
