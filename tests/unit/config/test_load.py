"""Every kind of mistake says where it is and what to do."""

import json
from pathlib import Path

import pytest

from peertap.config.load import load_config, parse_config
from peertap.config.paths import default_config_path, find_config
from peertap.config.text import MAX_FILE_BYTES
from peertap.errors import ConfigError

A = "12D3KooWSqSKrnzEZQAsumacQ7CZEa8AvjDmokuuEKs82SgiizgY"
B = "12D3KooWCsygo5ub8Soju8syRjQB1xgEmLZdcCbFT224q3NcsbsX"
LAB = "vlans: [{label: lab}]\n"
SECRET = "ptvlan1-lab-2ncr75picf6jk6yjwbieijgndeorkg4dkuugodpqbac2wej3lhvllokrmm"

# text, line, key, part of what, part of hint
MISTAKES = [
    pytest.param("nod: x\n" + LAB, 1, "nod", "unknown key", "did you mean node?", id="unknown key, near"),
    pytest.param(LAB + "zzzz: 1\n", 2, "zzzz", "unknown key", "keys here: node, state_dir", id="unknown key, far"),
    pytest.param(
        "vlans:\n  - label: lab\n    tap: {nam: x}\n", 3, "vlans[0].tap.nam", "unknown", "mean name", id="deep"
    ),
    pytest.param(LAB + f"{SECRET}: 1\n", 2, "(a secret)", "unknown key", "keys here", id="a secret as a key"),
    pytest.param("vlans:\n- bridge: true\n", 2, "vlans[0].label", "is missing", "label", id="missing"),
    pytest.param(LAB + "node: a\nnode: b\n", 3, "node", "twice", "line 2", id="twice"),
    pytest.param("vlans:\n- label: a\n  label: b\n", 3, "vlans[0].label", "twice", "line 2", id="twice in a list"),
    pytest.param("node: Big\n" + LAB, 1, "node", "'Big' is not a node's name", "a-z", id="node"),
    pytest.param("node: 7\n" + LAB, 1, "node", "7 is not text", "quotes", id="number for text"),
    pytest.param("state_dir: x\n" + LAB, 1, "state_dir", "not an absolute path", "start it with /", id="relative path"),
    pytest.param(
        "admin_socket: /" + "x" * 107 + "\n" + LAB, 1, "admin_socket", "longer than 107", "Linux", id="socket"
    ),
    pytest.param("listen: 4511\n" + LAB, 1, "listen", "needs keys", "where the node", id="value for a section"),
    pytest.param(
        "listen:\n  tcp: '1'\n" + LAB, 2, "listen.tcp", "a whole number, not '1'", "delete the quotes", id="quoted"
    ),
    pytest.param(
        "listen:\n  tcp: 1.5\n" + LAB, 2, "listen.tcp", "a whole number, not 1.5", "default 4511", id="fraction"
    ),
    pytest.param(
        "listen:\n  tcp: true\n" + LAB, 2, "listen.tcp", "a whole number", "default 4511", id="truth for number"
    ),
    pytest.param("listen:\n  tcp: 65536\n" + LAB, 2, "listen.tcp", "more than 65535", "default 4511", id="above"),
    pytest.param("listen:\n  tcp: -1\n" + LAB, 2, "listen.tcp", "less than 0", "default 4511", id="below"),
    pytest.param(
        "listen:\n  address: x\n" + LAB, 2, "listen.address", "not an IP address", "0.0.0.0", id="listen address"
    ),
    pytest.param("listen:\n  address: []\n" + LAB, 2, "listen.address", "at least 1", "IP addresses", id="empty list"),
    pytest.param("listen: {address: 224.0.0.1}\n" + LAB, 1, "listen.address", "multicast", "0.0.0.0", id="multicast"),
    pytest.param(
        "listen:\n  tcp: 4512\n" + LAB, 2, "listen.tcp", "both tcp and websocket", "change one", id="port twice"
    ),
    pytest.param("listen: {udp: 7, quic: 7}\n" + LAB, 1, "listen.quic", "both udp and quic", "change", id="udp twice"),
    pytest.param("peers: x\n" + LAB, 1, "peers", "needs a list", "multiaddr", id="text for a list"),
    pytest.param("peers:\n- 192.0.2.1:4511\n" + LAB, 2, "peers[0]", "not a multiaddr", "write /ip4/", id="host:port"),
    pytest.param("peers: [[]]\n" + LAB, 1, "peers[0]", "at least 1", "multiaddr", id="no address"),
    pytest.param("peers:\n-\n  - {}\n" + LAB, 3, "peers[0][0]", "is text, not dict", "write /ip4", id="no text"),
    pytest.param(
        f"peers:\n- [/ip4/192.0.2.1/p2p/{A}, /ip4/192.0.2.1/p2p/{B}]\n" + LAB,
        2,
        "peers[0]",
        "different peers",
        "one entry per peer",
        id="two peers in one entry",
    ),
    pytest.param(
        f"peers:\n- /ip4/192.0.2.1/p2p/{A}\n- /ip4/192.0.2.2/p2p/{A}\n" + LAB,
        3,
        "peers[1]",
        "same peer as peers[0]",
        "one list",
        id="one peer in two entries",
    ),
    pytest.param("relay: {mode: opne}\n", 1, "relay.mode", "none of open, restricted", "mean open?", id="choice, near"),
    pytest.param("relay: {mode: 9}\n", 1, "relay.mode", "9 is none of", "open: every", id="choice, far"),
    pytest.param(
        "relay: {controllers: [bob]}\n", 1, "relay.controllers[0]", "peer ID", "peertap id", id="controller's name"
    ),
    pytest.param("relay: {controllers: 7}\n", 1, "relay.controllers", "list", "peer IDs", id="controllers no list"),
    pytest.param("relay: {rate: 0}\n", 1, "relay.rate", "0", "null", id="rate of nothing"),
    pytest.param("relay: {trunk_rate: .inf}\n", 1, "relay.trunk_rate", "", "null", id="rate without end"),
    pytest.param("relay: {vlan_rate: fast}\n", 1, "relay.vlan_rate", "fast", "null", id="rate in words"),
    pytest.param("relay: {mode: allow}\n", 1, "relay.mode", "nothing is allowed", "restricted", id="empty allow"),
    pytest.param("relay: {mode: deny}\n", 1, "relay.mode", "nothing is denied", "open", id="empty deny"),
    pytest.param("relay: {mode: open, vlans: ['3*']}\n", 1, "relay.vlans", "no effect", "allow", id="list with open"),
    pytest.param(
        "relay: {vlans: ['3*']}\n", 1, "relay.vlans[0]", "is a pattern", "32 digits", id="pattern, restricted"
    ),
    pytest.param("relay: {mode: deny, vlans: [3f]}\n", 1, "relay.vlans[0]", "2 digits", "end it with *", id="short id"),
    pytest.param("relay: {mode: deny, vlans: [xyz]}\n", 1, "relay.vlans[0]", "no pattern", "hexadec", id="no pattern"),
    pytest.param("relay: {mode: deny, vlans: [12]}\n", 1, "relay.vlans[0]", "not text", "quotes", id="number pattern"),
    pytest.param("vlans: [{label: Lab}]\n", 1, "vlans[0].label", "'Lab' is not a label", "a-z", id="label"),
    pytest.param("vlans: [lab]\n", 1, "vlans[0]", "needs keys", "VLANs that", id="text for a VLAN"),
    pytest.param(
        "vlans:\n- label: lab\n- label: lab\n  tap: {name: b}\n", 3, "vlans[1].label", "also that", "own", id="labels"
    ),
    pytest.param("vlans:\n- label: a\n- label: b\n", 3, "vlans[1].tap.name", "also that of", "ptap1", id="TAP names"),
    pytest.param(
        "vlans: [{label: a, membership: mls}]\n", 1, "vlans[0].membership", "none of static", "secret", id="mode"
    ),
    pytest.param(
        f"vlans: [{{label: a, secret_file: {SECRET}}}]\n", 1, "vlans[0].secret_file", "itself", "0600", id="secret"
    ),
    pytest.param(
        "vlans: [{label: a, secret_file: ''}]\n", 1, "vlans[0].secret_file", "not a file", "lab.", id="no file"
    ),
    pytest.param(
        "vlans: [{label: a, bridge: yes}]\n", 1, "vlans[0].bridge", "true or false, not 'yes'", "MAC", id="yes"
    ),
    pytest.param("vlans: []\nswitch: {broadcasts: -1}\n", 2, "switch.broadcasts", "-1", "", id="less than no frame"),
    pytest.param("vlans: []\nswitch: {broadcasts: 1.5}\n", 2, "switch.broadcasts", "1.5", "", id="half a frame"),
    pytest.param("vlans: []\nswitch: {bpdus: lab}\n", 2, "switch.bpdus", "list", "", id="no list of labels"),
    pytest.param("vlans: []\npaths: {spread: [a], duplicate: [a]}\n", 2, "paths", "a is in", "one", id="both uses"),
    pytest.param("vlans: [{label: a, tap: {name: a/b}}]\n", 1, "vlans[0].tap.name", "cannot name", "15", id="TAP name"),
    pytest.param("vlans: [{label: a, tap: {name: lo}}]\n", 1, "vlans[0].tap.name", "cannot name", "15", id="lo"),
    pytest.param("vlans: [{label: a, tap: {mtu: 575}}]\n", 1, "vlans[0].tap.mtu", "neither auto nor", "auto", id="MTU"),
    pytest.param(
        "vlans: [{label: a, tap: {mtu: big}}]\n", 1, "vlans[0].tap.mtu", "neither auto nor", "auto", id="MTU 2"
    ),
    pytest.param(
        "vlans: [{label: a, tap: {address: 10.0.0.1}}]\n", 1, "vlans[0].tap.address", "no prefix", "/24", id="no /"
    ),
    pytest.param(
        "vlans: [{label: a, tap: {address: 10.0.0.0/24}}]\n",
        1,
        "vlans[0].tap.address",
        "the network",
        "10.0.0.1/24",
        id="net",
    ),
    pytest.param(
        "vlans: [{label: a, tap: {address: 10.0.0.255/24}}]\n",
        1,
        "vlans[0].tap.address",
        "broadcast",
        "10.0.0.1/24",
        id="brd",
    ),
    pytest.param(
        "vlans: [{label: a, tap: {address: 10.0.0.999/24}}]\n", 1, "vlans[0].tap.address", "not an", "/24", id="no IP"
    ),
    pytest.param(
        "vlans: [{label: a, tap: {address: 127.0.0.1/8}}]\n", 1, "vlans[0].tap.address", "cannot be", "/24", id="lo IP"
    ),
    pytest.param(
        "vlans: [{label: a, tap: {address: ['fd00::1/64'], mtu: 1000}}]\n",
        1,
        "vlans[0].tap.mtu",
        "IPv6",
        "1280",
        id="v6 MTU",
    ),
    pytest.param(
        "vlans:\n- {label: a, tap: {address: 10.0.0.1/24}}\n- {label: b, tap: {name: b, address: [10.0.0.1/24]}}\n",
        3,
        "vlans[1].tap.address[0]",
        "also that of vlans[0]",
        "own",
        id="address twice",
    ),
    pytest.param("underlay_mtu: 1279\n" + LAB, 1, "underlay_mtu", "less than 1280", "1500", id="underlay MTU"),
    pytest.param("carrier: udp\n" + LAB, 1, "carrier", "none of auto, stream", "UDP when", id="carrier"),
    pytest.param("log: {level: warn}\n" + LAB, 1, "log.level", "none of debug", "warning?", id="level"),
    pytest.param("", 1, None, "nothing to do", "peertap init", id="empty file"),
    pytest.param("# only this\n", 1, None, "nothing to do", "peertap init", id="comment only"),
    pytest.param("- a\n", 1, None, "must hold keys", "peertap init", id="a list at the top"),
    pytest.param("a: [\n", 2, None, "not YAML", "quotes", id="syntax"),
    pytest.param("log:\n\tlevel: info\n", 2, None, "not YAML", "not tabs", id="tab"),
    pytest.param("a: b: c\n", 1, None, "not YAML", "colons", id="two colons"),
    pytest.param("a: &x 1\n", 1, "a", "anchors", "write the value out", id="anchor"),
    pytest.param("a: 1\nb: *x\n", 2, "b", "aliases", "write the value out", id="alias"),
    pytest.param("a: !!python/object:os.system x\n", 1, "a", "tags", "delete the tag", id="tag"),
    pytest.param("a: 1\n---\nb: 2\n", 2, None, "second document", "---", id="documents"),
    pytest.param("a: 1\n? [x]\n: 2\n", 2, None, "plain word", "key: value", id="odd key"),
    pytest.param("a: 1\nb: \x01\n", 2, None, "control character", "delete it", id="control character"),
    pytest.param("a: " + "[" * 40 + "\n", 1, None, "nested more than 16", "no key needs", id="depth"),
    pytest.param("underlay_mtu: " + "9" * 40 + "\n", 1, "underlay_mtu", "too many digits", "quotes", id="digits"),
]


@pytest.mark.parametrize(("text", "line", "key", "what", "hint"), MISTAKES)
def test_a_mistake_in_yaml_is_reported_with_file_line_key_and_hint(
    text: str, line: int, key: str | None, what: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, file=Path("n.yaml"), environ={})
    mistake = caught.value
    assert len(mistake.mistakes) == 1, str(mistake)
    assert (mistake.file, mistake.line, mistake.key) == ("n.yaml", line, key)
    assert what in mistake.what
    assert mistake.hint is not None
    assert hint in mistake.hint
    assert SECRET not in str(mistake)
    assert str(mistake) == f"n.yaml:{line}: {key + ': ' if key else ''}{mistake.what} (hint: {mistake.hint})"


JSON_MISTAKES = [
    pytest.param('{"node": "Big",\n"vlans": [{"label": "a"}]}', 1, "node", "node's name", "a-z", id="value"),
    pytest.param('{"vlans": [{"label": "a"}],\n"nod": 1}', 2, "nod", "unknown key", "node?", id="unknown key"),
    pytest.param('{"node": "a",\n"node": "b", "relay": {}}', 2, "node", "twice", "line 1", id="twice"),
    pytest.param('{"node": "a",\n}', 2, None, "a key in double quotes", "comma", id="comma at the end"),
    pytest.param('{"a": [1,\n]}', 2, "a[1]", "a value is missing", "comma", id="comma at the end of a list"),
    pytest.param('{"a": [1\n2]}', 2, "a", "a comma or ]", "comma", id="no comma"),
    pytest.param('{"a"\n1}', 2, "a", "a colon", '"key": value', id="no colon"),
    pytest.param("{a: 1}", 1, None, "a key in double quotes", '"key"', id="YAML"),
    pytest.param("# x\n{}", 1, None, "unexpected '#'", "no comments", id="comment"),
    pytest.param('{"a": 01}', 1, "a", "unexpected '0'", "JSON", id="leading zero"),
    pytest.param('{"a": "x\ty"}', 1, "a", "text without end", "quotes", id="raw tab"),
    pytest.param('{"a": "\\ud800"}', 1, "a", "half a surrogate", "itself", id="surrogate"),
    pytest.param('{"a": 1} x', 1, None, "after the end", "delete", id="text after"),
    pytest.param("", 1, None, "a value is missing", "JSON", id="empty"),
    pytest.param('{"a": ' + "[" * 40, 1, None, "nested more than 16", "no key", id="depth"),
    pytest.param('{"a": ' + "1" * 40 + "}", 1, "a", "too many digits", "quotes", id="digits"),
    pytest.param("[]", 1, None, "must hold keys", "init", id="a list at the top"),
]


@pytest.mark.parametrize(("text", "line", "key", "what", "hint"), JSON_MISTAKES)
def test_a_mistake_in_json_is_reported_with_file_line_key_and_hint(
    text: str, line: int, key: str | None, what: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, file=Path("n.json"), environ={})
    mistake = caught.value
    assert (mistake.line, mistake.key) == (line, key), str(mistake)
    assert what in mistake.what
    assert hint in str(mistake.hint)


def test_all_mistakes_of_a_file_are_reported_at_once_in_its_order() -> None:
    text = "nod: x\nlisten: {tcp: x, quic: 70000}\nlog: {level: x}\nvlans:\n- label: A\n- label: b\n- label: c\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, file=Path("n.yaml"), environ={"PEERTAP_CARRIER": "x"})
    found = [(mistake.line, mistake.key) for mistake in caught.value.mistakes]
    assert found == [
        (1, "nod"),
        (2, "listen.tcp"),
        (2, "listen.quic"),
        (3, "log.level"),
        (5, "vlans[0].label"),
        (6, "vlans[1].tap.name"),
        (7, "vlans[2].tap.name"),
        (None, "PEERTAP_CARRIER"),
    ]
    assert len(str(caught.value).splitlines()) == len(found)


def test_a_file_of_many_mistakes_reports_a_bounded_number() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("".join(f"k{number}: 1\n" for number in range(20_000)), environ={})
    assert len(caught.value.mistakes) == 100


def test_yaml_and_json_of_the_same_data_give_the_same_configuration() -> None:
    text = json.dumps({"node": "n", "vlans": [{"label": "lab", "tap": {"address": ["10.9.0.1/24"], "mtu": 1400}}]})
    assert parse_config(text, file=Path("n.json"), environ={}) == parse_config(text, environ={})


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "n"])
def test_words_that_other_readers_take_for_truth_values_are_text(word: str) -> None:
    assert parse_config(f"node: {word}\n{LAB}", environ={}).node == word


def test_environment_wins_over_the_file() -> None:
    environ = {
        "PEERTAP_LOG__LEVEL": "debug",
        "PEERTAP_LISTEN__TCP": "null",
        "PEERTAP_LISTEN__QUIC": "0",
        "PEERTAP_RELAY__MODE": "open",
        "PEERTAP_PEERS": f"[/ip4/192.0.2.1/p2p/{A}]",
        "PEERTAP_NODE": "123",
        "PEERTAP_CARRIER": "",
        "PEERTAP_FOREIGN": "not ours",
        "PEERTAP_CONFIG": "/x",
    }
    config = parse_config("log: {level: error, format: json}\npeers: 17\n" + LAB, environ=environ)
    assert (config.log.level, config.log.format) == ("debug", "json")
    assert (config.listen.tcp, config.listen.quic, config.listen.udp) == (None, 0, 4511)
    assert config.relay is not None
    assert config.relay.mode == "open"
    assert str(config.peers[0][0]) == f"/ip4/192.0.2.1/p2p/{A}"
    assert config.node == "123"
    assert config.carrier == "auto"


@pytest.mark.parametrize(
    ("variable", "value", "what", "hint"),
    [
        ("PEERTAP_LOG__LEVEL", "loud", "'loud' is none of", "the least"),
        ("PEERTAP_LISTEN__TCP", "70000", "more than 65535", "default 4511"),
        ("PEERTAP_LISTEN__TCP", "[", "not YAML", "quotes"),
        ("PEERTAP_LISTEN__TCP", "\udcff", "control character", "UTF-8"),
        ("PEERTAP_LISTEN", "{tpc: 1}", "tpc: unknown key", "did you mean tcp?"),
        ("PEERTAP_PEERS", "[x]", "[0]: 'x' is not a multiaddr", "write /ip4"),
        ("PEERTAP_LOG_LEVEL", "info", "no such key", "PEERTAP_LOG__LEVEL"),
        ("PEERTAP_VLANS__0__LABEL", "x", "no such key", ""),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(variable: str, value: str, what: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(LAB, file=Path("n.yaml"), environ={variable: value})
    (mistake,) = caught.value.mistakes
    assert (mistake.file, mistake.line, mistake.key) == (None, None, variable)
    assert what in mistake.what
    assert hint in str(mistake.hint)


def test_the_node_argument_wins_and_moves_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peertap.config.paths.running_as_root", lambda: True)
    config = parse_config("node: a\n" + LAB, node="b", environ={"PEERTAP_NODE": "c"})
    assert (config.node, config.state_dir) == ("b", Path("/var/lib/peertap/b"))
    assert config.admin_socket == Path("/run/peertap/b.sock")


def test_defaults_for_a_user_follow_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peertap.config.paths.running_as_root", lambda: False)
    bare = parse_config(LAB, environ={"HOME": "/home/u", "XDG_STATE_HOME": "relative, so ignored"})
    assert bare.state_dir == Path("/home/u/.local/state/peertap/default")
    assert bare.admin_socket == bare.state_dir / "admin.sock"
    full = parse_config(LAB, environ={"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/run/user/1000"})
    assert full.state_dir == Path("/s/peertap/default")
    assert full.admin_socket == Path("/run/user/1000/peertap/default.sock")


def test_defaults_under_systemd_are_its_directories() -> None:
    environ = {"STATE_DIRECTORY": "/var/lib/peertap", "RUNTIME_DIRECTORY": "/run/peertap"}
    config = parse_config(LAB, node="n", environ=environ)
    assert (config.state_dir, config.admin_socket) == (Path("/var/lib/peertap/n"), Path("/run/peertap/n.sock"))


def test_secret_files_count_from_the_state_directory() -> None:
    config = parse_config(
        "state_dir: /s\nvlans:\n- {label: a}\n- {label: b, secret_file: /x/y, tap: {name: b}}\n", environ={}
    )
    assert [config.secret_path(vlan) for vlan in config.vlans] == [Path("/s/a.secret"), Path("/x/y")]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "does not exist"),
        (b"node: \xff\n", "not UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), "longer than"),
    ],
)
def test_a_file_that_cannot_be_a_configuration_is_refused(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "n.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=what) as caught:
        load_config(path, environ={})
    assert caught.value.file == str(path)
    assert caught.value.hint


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, environ={})


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "n.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + LAB.encode())
    assert load_config(path, environ={}).vlans[0].label == "lab"


def test_configurations_lie_where_the_system_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peertap.config.paths.running_as_root", lambda: True)
    assert default_config_path(None, {}) == default_config_path("default", {}) == Path("/etc/peertap/peertap.yaml")
    assert default_config_path("two", {}) == Path("/etc/peertap/two.yaml")
    monkeypatch.setattr("peertap.config.paths.running_as_root", lambda: False)
    assert default_config_path(None, {"HOME": "/home/u"}) == Path("/home/u/.config/peertap/peertap.yaml")
    assert default_config_path("two", {"XDG_CONFIG_HOME": "/c"}) == Path("/c/peertap/two.yaml")


def test_a_named_configuration_wins_over_the_variable_and_that_over_the_default_place(tmp_path: Path) -> None:
    environ = {"PEERTAP_CONFIG": "/from/variable"}
    assert find_config(tmp_path, None, environ) == tmp_path
    assert find_config(None, None, environ) == Path("/from/variable")
