from crmkit.migrate import run
from billing.app import app

run(app().tables)
