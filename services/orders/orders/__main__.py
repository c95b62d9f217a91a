from crmkit.app import main

from orders.app import app

main(app)
