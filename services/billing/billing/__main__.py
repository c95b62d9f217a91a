from crmkit.app import main

from billing.app import app

main(app)
