"""PeerTap: a private Ethernet for machines that are anywhere."""

from typing import Final

__version__: Final = "0.1.0"
