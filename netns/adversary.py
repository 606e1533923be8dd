"""A malicious member: it holds the VLAN's secret and a link to the relay, and speaks in another member's name.

It is built from PeerTap's own modules (libp2p host, trunk handshake, vlan, wire), because only then are its frames
right in everything but the signature.
"""

from pathlib import Path

from netns.errors import LabError
from netns.namespace import Namespace


def send_forged_group_frame(
    *, machine: Namespace, relay_address: str, relay_peer_id: str, state_directory: Path, secret_file: Path,
    victim_peer_id: str, frame: bytes,
) -> None:  # fmt: skip
    """Joins the VLAN through the relay and sends `frame` as a group frame sealed under the victim's group key.

    The steps, inside `machine`:
      1. a trunk to the relay with the identity in `state_directory`; a JOIN for the VLAN's group token;
      2. from Hellos: the victim's sid and generation, hence its group key (SPEC 3.3);
      3. the frame sealed under that key with a counter far ahead (a window that moved before the signature was checked
         would now refuse the victim's own frames), signed by the adversary's own key, sent down the tree.

    Raises:
        LabError: the frame could not be sent.
    """
    raise LabError("adversary.send_forged_group_frame is not written: it needs the node's own modules")
