from crmkit.app import main

from insight.app import app

main(app)
