//! Addresses and the one UDP socket.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use crate::drops::DropReason;
use crate::error::{Error, Result};
use crate::sys::udp::{self as system, Socket};

/// What both socket buffers are asked for: 4 MiB, about 4 ms at 8 Gbit/s (ours; rmem_max clips it where we lack CAP_NET_ADMIN).
pub const SOCKET_BUFFER_BYTES: u32 = 4 << 20;

/// An underlay address; IPv4 is mapped into IPv6 inside, and plain at every interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// IPv6, or IPv4 mapped.
    pub ip: [u8; 16],
    /// UDP port.
    pub port: u16,
    /// Interface of a link-local address, else 0.
    pub scope: u32,
}

impl Address {
    /// From "192.0.2.1", "2001:db8::1" or "fe80::1%3" (a numeric scope).
    pub fn parse(host: &str, port: u16) -> Result<Self> {
        let bad = || Error::argument(format!("{host:?} is no IP address"));
        let (ip, scope) = host.split_once('%').unwrap_or((host, "0"));
        let scope = scope.parse().map_err(|_| bad())?;
        let ip = match ip.parse().map_err(|_| bad())? {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        if port == 0 {
            return Err(Error::argument("port must be 1 to 65,535, not 0"));
        }
        Ok(Self { ip: ip.octets(), port, scope })
    }

    /// The text that `parse` reads.
    pub fn host(&self) -> String {
        let ip = Ipv6Addr::from(self.ip);
        match (ip.to_ipv4_mapped(), self.scope) {
            (Some(v4), _) => v4.to_string(),
            (None, 0) => ip.to_string(),
            (None, scope) => format!("{ip}%{scope}"),
        }
    }

    /// Whether it is an IPv4 address.
    pub fn is_v4(&self) -> bool {
        Ipv6Addr::from(self.ip).to_ipv4_mapped().is_some()
    }
}

/// The engine's UDP socket.
pub struct Udp(pub Socket);

impl Udp {
    /// Opens and binds; port 0 lets the system choose. `gro`: ask for trains of datagrams.
    pub fn open(port: u16, gro: bool) -> io::Result<Self> {
        system::open(port, SOCKET_BUFFER_BYTES, gro).map(Self)
    }

    /// Sends one packet now, or says why not.
    pub fn send(&self, packet: &[u8], to: &Address) -> std::result::Result<(), DropReason> {
        self.0.send(packet, to).map_err(|error| reason_of(&error))
    }
}

/// Why a datagram was not sent.
pub fn reason_of(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS) => DropReason::UdpFull,
        Some(libc::EMSGSIZE) => DropReason::ExceedsMtu,
        _ => DropReason::UdpError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_plain_outside_and_mapped_inside() {
        for host in ["192.0.2.1", "2001:db8::1", "fe80::1%3"] {
            let address = Address::parse(host, 5).unwrap();
            assert_eq!(address.host(), host);
            assert_eq!(address.is_v4(), host == "192.0.2.1");
        }
        assert_eq!(Address::parse("::ffff:192.0.2.1", 5).unwrap().host(), "192.0.2.1");
        assert!(Address::parse("example.org", 5).is_err());
        assert!(Address::parse("192.0.2.1", 0).is_err());
    }

    fn receive(socket: &Socket) -> Vec<(Vec<u8>, Address)> {
        let (mut buffers, mut received) = (system::ReceiveBuffers::new(), Default::default());
        let count = socket.receive(&mut buffers, &mut received, true).unwrap();
        let cut = |n: usize| {
            let (start, one) = (system::ReceiveBuffers::start(n), received[n]);
            let packets = buffers.bytes()[start..start + one.length].chunks(one.segment);
            packets.map(|p| (p.to_vec(), one.from.unwrap())).collect::<Vec<_>>()
        };
        (0..count).flat_map(cut).collect()
    }

    #[test]
    fn the_socket_carries_both_families() {
        let (a, b) = (Udp::open(0, true).unwrap(), Udp::open(0, true).unwrap());
        assert!(b.0.receive_buffer_bytes > 0);
        let hosts = if a.0.v4_only { &["127.0.0.1"][..] } else { &["127.0.0.1", "::1"] };
        for host in hosts {
            a.send(b"hi", &Address::parse(host, b.0.port).unwrap()).unwrap();
            let got = receive(&b.0);
            let (bytes, from) = &got[0];
            assert_eq!((&bytes[..], from.host().as_str(), from.port), (&b"hi"[..], *host, a.0.port));
        }
    }

    #[test]
    fn a_train_arrives_as_its_datagrams_with_and_without_gro() {
        let packets = [[1u8; 100], [2; 100], [3; 100]];
        for gro in [true, false] {
            let (a, b) = (Udp::open(0, true).unwrap(), Udp::open(0, gro).unwrap());
            let to = Address::parse("127.0.0.1", b.0.port).unwrap();
            let train = system::Message { to, first: 0, count: 3, segment: 100 };
            let short = system::Message { to, first: 3, count: 1, segment: 0 };
            let slices = [&packets[0][..], &packets[1], &packets[2], b"end"].map(io::IoSlice::new);
            let (sent, error) = a.0.send_messages(&[train, short], &slices, true);
            assert!(sent == 2 && error.is_none(), "{error:?}");
            let got: Vec<_> = receive(&b.0).into_iter().map(|(bytes, _)| bytes).collect();
            assert_eq!(got, [&packets[0][..], &packets[1], &packets[2], b"end"]);
        }
    }
}
