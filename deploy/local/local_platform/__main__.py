"""`python -m local_platform run`."""

import argparse
import asyncio
import sys

from local_platform.child import StartFailed


def main() -> int:
    parser = argparse.ArgumentParser(prog="local_platform", description="The whole platform on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="start everything and stay until Ctrl-C")
    run.add_argument("--identity", choices=["dev", "keycloak"], default="dev", help="who signs people in")
    run.add_argument("--no-demo", dest="demo", action="store_false", help="start with empty databases")
    run.add_argument("--one-process", action="store_true", help="all apps on one event loop")
    arguments = parser.parse_args()

    from local_platform import launcher

    status = 0
    try:
        asyncio.run(launcher.run(arguments.identity, arguments.demo, arguments.one_process))
    except* StartFailed as failures:
        # One reason is enough: what failed beside it failed of the same.
        print(f"\nThe platform could not start. {first(failures)}", file=sys.stderr)
        status = 1
    return status


def first(failure: BaseException) -> BaseException:
    """Return the first exception of a group, however deep."""
    return first(failure.exceptions[0]) if isinstance(failure, BaseExceptionGroup) else failure


if __name__ == "__main__":
    sys.exit(main())
