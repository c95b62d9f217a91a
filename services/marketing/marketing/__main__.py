from crmkit.app import main

from marketing.app import app

main(app)
