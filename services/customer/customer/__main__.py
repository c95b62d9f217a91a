from crmkit.app import main

from customer.app import app

main(app)
