from crmkit.migrate import run
from marketing.app import app

run(app().tables)
