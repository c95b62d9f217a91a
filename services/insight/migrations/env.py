from crmkit.migrate import run
from insight.app import app

run(app().tables)
