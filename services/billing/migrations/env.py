from billing.app import app
from crmkit.migrate import run

run(app().tables)
