from crmkit.migrate import run
from workspace.app import app

run(app().tables)
