import sys

from netns.cli import main

sys.exit(main(sys.argv[1:]))
