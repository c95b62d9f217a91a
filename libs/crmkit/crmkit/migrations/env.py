from crmkit.migrate import run
from crmkit.tables import kit_metadata

run(kit_metadata)
