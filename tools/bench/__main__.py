"""Entry point of `python -m tools.bench`."""

import sys

from tools.bench import cli, membership

if sys.argv[1:2] == ["membership"]:
    sys.exit(membership.main(sys.argv[2:]))
sys.exit(cli.main(sys.argv[1:]))
