//! PeerTap's data plane: packets, keys, switching, and the loops that move frames.
//!
//! The layers, from pure to dirty: formats ([`packet`], [`frame`], [`kdf`], [`trailer`]), keys
//! ([`aead`], [`keys`], [`replay`], [`seal`]), bounded state ([`bucket`], [`fragment`], [`switch`], [`hold`],
//! [`stream`], [`liveness`], [`verify`]), what the control plane publishes ([`tables`]), and the
//! [`engine`] with its threads. Only [`sys`] makes system calls. Nothing here knows Python.
//! Sections cited as "SPEC 2.1" are those of SPEC.md.

pub mod aead;
pub mod bucket;
pub mod claims;
pub mod class;
pub mod drops;
pub mod engine;
pub mod error;
pub mod events;
pub mod flow;
pub mod fragment;
pub mod frame;
pub mod hold;
pub mod kdf;
pub mod keys;
pub mod liveness;
pub mod lookup;
pub mod loops;
pub mod multicast;
pub mod neighbours;
pub mod offload;
pub mod packet;
pub mod port;
pub mod replay;
pub mod seal;
pub mod state;
pub mod storm;
pub mod stream;
pub mod switch;
pub mod sys;
pub mod tables;
pub mod trace;
pub mod trailer;
pub mod udp;
pub mod udp_path;
pub mod verify;
pub mod vlan_keys;
pub mod vrrp;

/// A trunk's id; never used again in a process.
pub type TrunkId = u32;
/// A VLAN's id, chosen by the control plane.
pub type VlanId = u32;
/// A member's id within its VLAN, chosen by the control plane.
pub type MemberId = u32;
/// A class of carried packets: a VTag's; never used again in a process.
pub type ClassId = u32;
/// A port's id, from [`engine::Engine::add_port`].
pub type PortId = u32;
/// What a packet's label field carries (SPEC 2.1).
pub type LabelValue = u32;
/// A VFT: the routing token of a (VLAN, MAC) pair (SPEC 3.2).
pub type Token = [u8; 16];
/// Nanoseconds of CLOCK_MONOTONIC; what Python's `time.monotonic()` counts too.
pub type Nanos = u64;
