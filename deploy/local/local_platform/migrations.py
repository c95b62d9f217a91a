"""`python -m local_platform.migrations`: `python -m <app> migrate` for every app, in one process.

Importing what the apps have in common takes longer than a database that is up to date; so it is done once.
`MIGRATIONS` in the environment is a JSON object: app → what its environment has beyond the common one.
"""

import json
import os
import runpy
import sys


def main() -> None:
    environments: dict[str, dict[str, str]] = json.loads(os.environ.pop("MIGRATIONS"))
    for app, environment in environments.items():
        os.environ.update(environment)
        sys.argv = [app, "migrate"]
        try:
            runpy.run_module(app, run_name="__main__", alter_sys=True)
        except BaseException:
            print(f"{app} could not migrate", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
