from crmkit.app import main

from sales.app import app

main(app)
