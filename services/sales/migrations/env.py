from crmkit.migrate import run
from sales.app import app

run(app().tables)
