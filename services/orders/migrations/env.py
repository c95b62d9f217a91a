from crmkit.migrate import run
from orders.app import app

run(app().tables)
