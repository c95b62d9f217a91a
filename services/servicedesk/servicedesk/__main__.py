from crmkit.app import main

from servicedesk.app import app

main(app)
