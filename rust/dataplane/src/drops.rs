//! Every reason for which a packet or frame is dropped, and one counter for each.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a packet or frame was not delivered or sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            /// All reasons, in the order of the counters.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// The name in snapshots and metrics.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }
        }
    };
}

drop_reasons! {
    // Outbound: from a port.
    /// A frame from a port is shorter than an Ethernet header.
    Runt => "runt",
    /// A frame came from a port that no VLAN uses.
    NoVlan => "no_vlan",
    /// Host mode: a local frame's source is not the VLAN's own MAC.
    ForeignMac => "foreign_mac",
    /// A local frame's source is a group address.
    BadSource => "bad_source",
    /// Nobody is known under the destination MAC.
    UnknownMac => "unknown_mac",
    /// The destination is on the port that the frame came from.
    SamePort => "same_port",
    /// A frame needs more than 64 fragments or is longer than 65,535 bytes.
    TooLarge => "too_large",
    /// A super-frame from a port that is not plain TCP or UDP, or a virtio header that makes no sense.
    BadOffload => "bad_offload",
    /// The VLAN's port is blocked: another member forwards for the same LAN, or the LAN leads back to it.
    PortBlocked => "port_blocked",
    /// More loop probes at a port than are checked.
    ProbeExcess => "probe_excess",
    /// A frame that bridges keep to themselves, and the VLAN does not carry them.
    Bpdu => "bpdu",
    /// A local frame's source MAC is frozen elsewhere: it moved too often.
    MacFrozen => "mac_frozen",
    /// A local frame's source MAC is behind another member, which may forward for the same LAN.
    MacMoving => "mac_moving",
    /// More broadcasts than a port or member may send.
    StormBroadcast => "storm_broadcast",
    /// More multicasts than a port or member may send.
    StormMulticast => "storm_multicast",
    /// More frames to unknown MACs than a port or member may send.
    StormUnknown => "storm_unknown",
    /// More came from a port than leaves: 1 MiB waits, or 128 KiB for 5 ms.
    BacklogFull => "backlog_full",
    /// Nobody listens to the group that a multicast frame is for, or it is a report and there is no router here.
    NoListener => "no_listener",
    /// More IGMP or MLD messages than control is told, or one that is too long.
    MulticastLimited => "multicast_limited",
    /// No tree edge leads anywhere yet.
    NoEdge => "no_edge",
    /// A destination without key or route already holds its 32 frames.
    HoldFull => "hold_full",
    /// A held frame or packet found no key or route within 200 ms.
    HoldExpired => "hold_expired",
    /// A control message has no key or route.
    NoRoute => "no_route",
    /// A key has used up its counters or its failed opens.
    KeyExhausted => "key_exhausted",
    // Sending on a trunk.
    /// The trunk is gone.
    NoTrunk => "no_trunk",
    /// The trunk has no carrier or no key for it.
    NoCarrier => "no_carrier",
    /// The packet exceeds the trunk's largest payload.
    ExceedsMtu => "exceeds_mtu",
    /// The UDP socket's send buffer is full.
    UdpFull => "udp_full",
    /// The system refused to send a datagram.
    UdpError => "udp_error",
    /// The stream carrier's queue is full or too old.
    StreamFull => "stream_full",
    // Carrying for others.
    /// More came from this trunk than the relay takes from one.
    RelayTrunkRate => "relay_trunk_rate",
    /// More came of this VLAN than the relay carries of one.
    RelayVlanRate => "relay_vlan_rate",
    /// More is to be carried than leaves, and this VLAN on this trunk has most of what waits.
    RelayFull => "relay_full",
    // Ports.
    /// The port takes no frame now.
    PortFull => "port_full",
    /// The port's link is down.
    PortDown => "port_down",
    /// The port's descriptor is broken or its device gone.
    PortGone => "port_gone",
    // Inbound: before anything is authenticated.
    /// Shorter than the smallest packet.
    TooShort => "too_short",
    /// No receive key has this index.
    UnknownIndex => "unknown_index",
    /// A packet came by a carrier or trunk that its index does not belong to.
    WrongCarrier => "wrong_carrier",
    /// The type byte is none of ours.
    BadType => "bad_type",
    /// The hop tag is wrong.
    HopAuth => "hop_auth",
    // Inbound: authentic from the neighbour.
    /// The hop counter was seen already, or is too old.
    HopReplay => "hop_replay",
    /// A reserved flag is set.
    BadFlags => "bad_flags",
    /// The label means nothing on this trunk.
    UnknownLabel => "unknown_label",
    /// The hop limit ran out.
    HopLimit => "hop_limit",
    /// A probe of the wrong size.
    BadProbe => "bad_probe",
    /// A probe reply that matches no probe of the last 5 s.
    ProbeUnmatched => "probe_unmatched",
    /// The label's VLAN is not here.
    UnknownVlan => "unknown_vlan",
    /// A group frame of our own came back, as one does while our place on the tree changes.
    OwnFrame => "own_frame",
    /// No introduced key has this kid and the hold is full.
    UnknownKid => "unknown_kid",
    /// The inner tag is wrong.
    InnerAuth => "inner_auth",
    // Inbound: authentic from a member.
    /// The frame counter was seen already, is too old, or below the floor.
    InnerReplay => "inner_replay",
    /// The plaintext is not well formed.
    Malformed => "malformed",
    /// A group frame with a right tag and a wrong signature.
    Forged => "forged",
    /// Too many group frames of this sender, or of all, wait for verification.
    VerifyFull => "verify_full",
    /// A verified frame whose key is no longer in the tables.
    Revoked => "revoked",
    /// A fragment that contradicts the others of its message, or repeats one.
    FragmentInvalid => "fragment_invalid",
    /// A message that was not complete within 2 s.
    FragmentExpired => "fragment_expired",
    /// A message given up because its sender or VLAN has too many.
    FragmentEvicted => "fragment_evicted",
    /// A member sent a frame with a source MAC that is not its own.
    SpoofedMac => "spoofed_mac",
    /// A member's ARP or neighbour discovery names another MAC, or claims an address that another member has.
    SpoofedAddress => "spoofed_address",
    /// A member sent a frame from a host that is at a port of ours or behind another member.
    MacElsewhere => "mac_elsewhere",
    /// A unicast frame for a MAC that is not here.
    NotForUs => "not_for_us",
    /// A source MAC was not learned because the port has 1,024; the frame went on.
    MacNotLearned => "mac_not_learned",
    // Between Python and the loops.
    /// A stream batch that is not a sequence of lp(packet).
    StreamMalformed => "stream_malformed",
    /// The inbound stream ring is full.
    StreamRingFull => "stream_ring_full",
    /// An event was lost because Python did not collect.
    EventsFull => "events_full",
}

/// One counter per reason.
pub struct Drops([AtomicU64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Drops {
    /// Counts one drop.
    pub fn count(&self, reason: DropReason) {
        self.add(reason, 1);
    }

    /// Counts several.
    pub fn add(&self, reason: DropReason, n: u64) {
        self.0[reason as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// The count of one reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    /// All reasons with their counts, zeros included.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        DropReason::ALL.iter().map(|&r| (r.name(), self.get(r))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_snake_case() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert!(names.iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}
