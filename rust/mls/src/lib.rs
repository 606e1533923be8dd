//! MLS groups (RFC 9420) for VLANs: a thin, typed face of mls-rs. Bytes in, bytes and plain structures out; what is
//! allowed in a VLAN beyond RFC 9420's own rules is decided elsewhere, but for what must hold in every member at once:
//! who a leaf is ([`credential`]), what an external commit must carry and what counts by reference ([`rules`]).
//!
//! ```text
//!     Member (our key and credential of one VLAN)
//!        ├─ create ──────────> Group          first member
//!        ├─ key package, join(Welcome) ──> Group
//!        └─ restore(saved state) ───────> Group
//!     Group: commit ─> keep │ drop          process(message) ─> Received, then keep │ drop          save ─> bytes
//! ```
//!
//! A group takes each step tentatively: nothing counts until `keep`, and `drop_step` goes back to where it was.

#[cfg(test)]
extern crate self as peertap_mls; // so that the support of the tests is found here too

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

pub mod credential;
pub mod error;
pub mod group;
pub mod member;
pub mod rules;
pub mod saved;
pub mod store;
pub mod suite;
pub mod xwing;

/// Bytes of a VLAN-ID, which is the MLS group ID too (SPEC 3.2).
pub const VLAN_ID_BYTES: usize = 16;
