"""`python -m local_platform run`."""

import argparse
import asyncio
import sys

from local_platform.child import StartFailed
from local_platform.issuer import NotLoopback


def main() -> int:
    parser = argparse.ArgumentParser(prog="local_platform", description="The whole platform on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="start everything and stay until Ctrl-C")
    run.add_argument("--identity", choices=["dev", "keycloak"], default="dev", help="who signs people in")
    run.add_argument("--no-demo", dest="demo", action="store_false", help="start with empty databases")
    arguments = parser.parse_args()

    from local_platform import launcher

    try:
        asyncio.run(launcher.run(arguments.identity, arguments.demo))
    except* (StartFailed, NotLoopback) as failures:
        for failure in failures.exceptions:
            print(f"\nThe platform could not start.\n{failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
