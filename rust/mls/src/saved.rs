//! The record of a group: all that a member needs to go on after a restart (SPEC 9.5).
//!
//! ```text
//!     "PTM1" ‖ suite 2 ‖ VLAN-ID 16 ‖ credential 104 ‖ root 32 ‖ lp32(MLS secret key)
//!     ‖ n 2 ‖ n × (epoch 8 ‖ rejoin secret 32) ‖ n 2 ‖ n × (epoch 8 ‖ lp32(old epoch)) ‖ lp32(state)
//! ```

use peertap_dataplane::kdf::Secret;
use zeroize::Zeroizing;

use crate::VLAN_ID_BYTES;
use crate::credential::{CREDENTIAL_BYTES, Credential};
use crate::error::{Error, Result};
use crate::store::Written;
use crate::suite::Suite;

const MAGIC: [u8; 4] = *b"PTM1";

/// What is in a record.
pub struct Saved {
    /// The group's suite.
    pub suite: Suite,
    /// The VLAN.
    pub vlan_id: [u8; VLAN_ID_BYTES],
    /// Our credential.
    pub credential: Credential,
    /// Our MLS signature key.
    pub signer: Zeroizing<Vec<u8>>,
    /// The current epoch's root.
    pub root: Secret,
    /// Rejoin secrets by epoch.
    pub rejoin: Vec<(u64, Secret)>,
    /// The library's state.
    pub written: Written,
}

impl Saved {
    /// The record.
    pub fn emit(&self) -> Zeroizing<Vec<u8>> {
        let old: usize = self.written.epochs.values().map(|one| 12 + one.len()).sum();
        let bytes = 256 + self.signer.len() + 40 * self.rejoin.len() + old + self.written.state.len();
        let mut out = Zeroizing::new(Vec::with_capacity(bytes)); // never moved while it grows: nothing is left behind
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&(self.suite as u16).to_be_bytes());
        out.extend_from_slice(&self.vlan_id);
        out.extend_from_slice(&self.credential.emit());
        out.extend_from_slice(&self.root[..]);
        put(&mut out, &self.signer);
        out.extend_from_slice(&(self.rejoin.len() as u16).to_be_bytes());
        for (epoch, secret) in &self.rejoin {
            out.extend_from_slice(&epoch.to_be_bytes());
            out.extend_from_slice(&secret[..]);
        }
        out.extend_from_slice(&(self.written.epochs.len() as u16).to_be_bytes());
        for (epoch, data) in &self.written.epochs {
            out.extend_from_slice(&epoch.to_be_bytes());
            put(&mut out, data);
        }
        put(&mut out, &self.written.state);
        out
    }

    /// What a record holds.
    pub fn parse(record: &[u8]) -> Result<Self> {
        Fields(record).saved().ok_or_else(|| Error::refused("this is no record of a group, or it is damaged"))
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn saved(&mut self) -> Option<Saved> {
        if self.array()? != MAGIC {
            return None;
        }
        let suite = Suite::from_id(u16::from_be_bytes(self.array()?)).ok()?;
        let vlan_id = self.array()?;
        let credential = Credential::parse_untrusted(self.take(CREDENTIAL_BYTES)?)?;
        let root = Zeroizing::new(self.array()?);
        let signer = self.counted()?;
        let rejoin =
            (0..self.count()?).map(|_| Some((self.number()?, Zeroizing::new(self.array()?)))).collect::<Option<_>>()?;
        let epochs = (0..self.count()?).map(|_| Some((self.number()?, self.counted()?))).collect::<Option<_>>()?;
        let state = self.counted()?;
        let written = Written { state, epochs };
        self.0.is_empty().then_some(Saved { suite, vlan_id, credential, signer, root, rejoin, written })
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn count(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn counted(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = u32::from_be_bytes(self.array()?);
        self.take(bytes as usize).map(|taken| Zeroizing::new(taken.to_vec()))
    }
}
