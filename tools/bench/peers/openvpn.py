"""OpenVPN, point to point over TLS, dev tap."""

from typing import Final

from tools.bench.peers.tunnel import A_TUNNEL_IP, B_TUNNEL_IP, Peer, Program, Tunnel

PORT: Final = "1194"
OPTIONS: Final = (
    "--dev-type", "tap", "--dev", "tap0", "--proto", "udp4", "--port", PORT, "--data-ciphers", "AES-256-GCM",
    "--cipher", "AES-256-GCM", "--disable-dco", "--verb", "1",
)  # fmt: skip


class OpenVpn(Tunnel):
    """Each knows the fingerprint of the other's self-signed certificate."""

    def prepare(self) -> None:
        self.fingerprint: dict[str, str] = {}
        for name in ("a", "b"):
            self.run(
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "30", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt",
            )  # fmt: skip
            said = self.run("openssl", "x509", "-in", f"{name}.crt", "-noout", "-fingerprint", "-sha256")
            self.fingerprint[name] = said.strip().partition("=")[2]

    def start_far(self) -> None:
        site = self.site
        self.site.spawn(
            site.b, self.programs["openvpn"], "--tls-server", "--dh", "none", *OPTIONS, "--local", site.b_ip,
            "--remote", site.a_ip, PORT, "--cert", "b.crt", "--key", "b.key",
            "--peer-fingerprint", self.fingerprint["a"], "--ifconfig", B_TUNNEL_IP, "255.255.255.0",
        )  # fmt: skip

    def start_near(self) -> None:
        site = self.site
        self.site.spawn(
            site.a, self.programs["openvpn"], "--tls-client", *OPTIONS, "--local", site.a_ip,
            "--remote", site.b_ip, PORT, "--cert", "a.crt", "--key", "a.key",
            "--peer-fingerprint", self.fingerprint["b"], "--ifconfig", A_TUNNEL_IP, "255.255.255.0",
        )  # fmt: skip


OPENVPN = Peer(
    "openvpn-tap", "L2", "dev tap, UDP, AES-256-GCM, no DCO, MTU 1500, its own mssfix", OpenVpn,
    (Program("openvpn", package="openvpn"), Program("openssl", package="openssl")),
)  # fmt: skip
