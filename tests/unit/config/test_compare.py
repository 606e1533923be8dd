"""What SIGHUP can take up."""

from peertap.config.compare import changes
from peertap.config.load import parse_config

BASE = "node: a\nstate_dir: /s\nvlans: [{label: lab}]\n"


def differences(more: str, base: str = BASE) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return changes(parse_config(BASE, environ={}), parse_config(base + more, environ={}))


def test_equal_configurations_have_no_changes() -> None:
    assert differences("") == ((), ())


def test_peers_relay_and_log_level_reload() -> None:
    peer = "/ip4/192.0.2.1/p2p/12D3KooWSqSKrnzEZQAsumacQ7CZEa8AvjDmokuuEKs82SgiizgY"
    assert differences(f"peers: [{peer}]\nrelay: {{mode: open}}\nlog: {{level: debug}}\n") == (
        ("peers", "relay", "log.level"),
        (),
    )


def test_a_change_inside_the_relay_section_names_its_key() -> None:
    old = parse_config(BASE + "relay: {mode: open}\n", environ={})
    new = parse_config(BASE + "relay: {mode: deny, vlans: ['3*']}\n", environ={})
    assert changes(old, new) == (("relay.mode", "relay.vlans"), ())


def test_everything_else_needs_a_restart() -> None:
    reload, restart = differences(
        "listen: {tcp: 1}\nunderlay_mtu: 1400\ncarrier: stream\nlog: {format: json}\nadmin_socket: /x\n",
        base="node: b\nstate_dir: /t\nvlans: [{label: lab, bridge: true}]\n",
    )
    assert reload == ()
    assert restart == (
        "node",
        "state_dir",
        "listen.tcp",
        "vlans",
        "underlay_mtu",
        "carrier",
        "log.format",
        "admin_socket",
    )
