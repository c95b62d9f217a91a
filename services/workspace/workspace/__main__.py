from crmkit.app import main

from workspace.app import app

main(app)
