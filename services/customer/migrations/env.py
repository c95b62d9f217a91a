from crmkit.migrate import run
from customer.app import app

run(app().tables)
