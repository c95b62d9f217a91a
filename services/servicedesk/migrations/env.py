from crmkit.migrate import run
from servicedesk.app import app

run(app().tables)
