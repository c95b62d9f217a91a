"""Customers brought in from a file: checked, written, taken back. Each is a run of the kit."""

from crmkit.runs import Kind

from customer.importing.check import check
from customer.importing.revert import revert
from customer.importing.run import run
from customer.importing.work import fail

RUNS = {"CheckImport": Kind(check, fail), "RunImport": Kind(run, fail), "RevertImport": Kind(revert, fail)}
