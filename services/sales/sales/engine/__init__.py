"""Prices, reckoned without any I/O: the same input gives the same output for ever.

The order of the steps is fixed and part of `ENGINE`: price book, configuration, promotion, volume, customer type, cash,
manual, order level, tax. What changes it must raise the number, and keep the old way for inputs of the old one.
"""

from sales.engine.given import ENGINE, Given, Line, Party, Policy, Price
from sales.engine.result import CashTerm, FreeLine, Ground, Hint, PricedLine, Rejection, Result, Step
from sales.engine.run import TooMuchOff, run

__all__ = [
    "ENGINE", "CashTerm", "FreeLine", "Given", "Ground", "Hint", "Line", "Party", "Policy", "Price", "PricedLine",
    "Rejection", "Result", "Step", "TooMuchOff", "run",
]  # fmt: skip
