//! The handles of frame keys and hop keys. Their bytes never leave.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};

use crate::aead::{Aead, AeadKey, NONCE_BYTES};
use crate::drops::DropReason;
use crate::error::{Error, Result};
use crate::kdf::{Secret, expand, expand_name};
use crate::replay::{COUNTER_END, ReplayWindow};

/// At this counter a frame key's generation steps (SPEC 3.3).
pub const GENERATION_STEP: u64 = 1 << 30;
/// After this many failed opens a receive key is given up (SPEC 3.3).
const FAILED_OPENS_END: u64 = 1 << 32;

/// The names that every frame of one VLAN and epoch authenticates (SPEC 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// VLAN-ID (SPEC 3.2).
    pub vlan_id: [u8; 16],
    /// MLS-ID (SPEC 3.2).
    pub mls_id: [u8; 16],
}

/// An Ed25519 key that signs group frames.
pub struct FrameSigner(Ed25519KeyPair);

impl FrameSigner {
    /// A new random key.
    pub fn generate() -> Result<Self> {
        let mut seed = Secret::default();
        crate::sys::fill_random(&mut seed[..])?;
        Self::from_seed(&seed)
    }

    /// The key of a seed.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| Error::argument("this Ed25519 seed is refused"))
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        std::array::from_fn(|i| self.0.public_key().as_ref()[i])
    }

    /// A signature.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.0.sign(message);
        std::array::from_fn(|i| signature.as_ref()[i])
    }
}

/// A frame key of ours with its counter (SPEC 3.3).
pub struct SendKey {
    aead: AeadKey,
    kid: [u8; 4],
    names: Names,
    counter: AtomicU64,
    step_told: AtomicBool,
    signer: Option<Arc<FrameSigner>>,
}

impl SendKey {
    /// The key of a sender secret; a signer makes it a group key.
    pub fn new(g: &Secret, aead: Aead, names: Names, signer: Option<Arc<FrameSigner>>) -> Self {
        Self {
            aead: AeadKey::new(aead, &expand(&g[..], "key", &[])),
            kid: expand_name(&g[..], "kid", &[]),
            names,
            counter: AtomicU64::new(0),
            step_told: AtomicBool::new(false),
            signer,
        }
    }

    /// The key's name in nonces.
    pub fn kid(&self) -> [u8; 4] {
        self.kid
    }

    /// The counter of the next frame.
    pub fn next_counter(&self) -> u64 {
        self.counter.load(Ordering::Relaxed).min(COUNTER_END)
    }

    /// What its frames authenticate.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The signer of a group key.
    pub fn signer(&self) -> Option<&FrameSigner> {
        self.signer.as_deref()
    }

    pub(crate) fn aead(&self) -> &AeadKey {
        &self.aead
    }

    /// Takes a counter that nobody else gets, whatever thread asks, as kid ‖ ctr.
    pub(crate) fn take_nonce(&self) -> std::result::Result<[u8; NONCE_BYTES], DropReason> {
        let counter = take(&self.counter)?;
        let mut nonce = [0; NONCE_BYTES];
        nonce[..4].copy_from_slice(&self.kid);
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        Ok(nonce)
    }

    /// True once, when the generation should step.
    pub(crate) fn step_is_due(&self) -> bool {
        self.counter.load(Ordering::Relaxed) >= GENERATION_STEP && !self.step_told.swap(true, Ordering::Relaxed)
    }

    /// Moves the counter forward, so that a test reaches its limits.
    #[doc(hidden)]
    pub fn skip_to(&self, counter: u64) {
        self.counter.fetch_max(counter, Ordering::Relaxed);
    }
}

/// A frame key of another member with its replay window (SPEC 2.5).
pub struct ReceiveKey {
    aead: AeadKey,
    kid: [u8; 4],
    names: Names,
    verifier: Option<ParsedPublicKey>,
    window: Mutex<ReplayWindow>, // uncontended: the inbound loop alone uses it
    failed_opens: AtomicU64,
}

impl ReceiveKey {
    /// The key of a sender secret; a signer's public key makes it a group key.
    pub fn new(g: &Secret, aead: Aead, names: Names, signer: Option<&[u8; 32]>, floor: u64) -> Result<Self> {
        let verifier = signer
            .map(|key| ParsedPublicKey::new(&ED25519, key))
            .transpose()
            .map_err(|_| Error::argument("signer_public is no Ed25519 public key"))?;
        Ok(Self {
            aead: AeadKey::new(aead, &expand(&g[..], "key", &[])),
            kid: expand_name(&g[..], "kid", &[]),
            names,
            verifier,
            window: Mutex::new(ReplayWindow::with_floor(floor)),
            failed_opens: AtomicU64::new(0),
        })
    }

    /// The key's name in nonces.
    pub fn kid(&self) -> [u8; 4] {
        self.kid
    }

    /// What its frames authenticate.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Whether its frames are signed.
    pub fn is_group(&self) -> bool {
        self.verifier.is_some()
    }

    /// Checks a group frame's signature; false for a pair key.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.verifier.as_ref().is_some_and(|key| key.verify_sig(message, signature).is_ok())
    }

    pub(crate) fn aead(&self) -> &AeadKey {
        &self.aead
    }

    pub(crate) fn window(&self) -> MutexGuard<'_, ReplayWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count_failed_open(&self) {
        self.failed_opens.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.failed_opens.load(Ordering::Relaxed) >= FAILED_OPENS_END
    }
}

/// Key of one (trunk, direction, epoch, carrier) towards the neighbour (SPEC 2.1).
pub struct HopSendKey {
    index: u32,
    aead: AeadKey,
    counter: AtomicU64,
}

impl HopSendKey {
    /// The key under the index that the neighbour chose.
    pub fn new(index: u32, key: &[u8; 32], aead: Aead) -> Self {
        Self { index, aead: AeadKey::new(aead, key), counter: AtomicU64::new(0) }
    }

    /// The index that the neighbour chose.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The counter of the next packet.
    pub fn next_counter(&self) -> u64 {
        self.counter.load(Ordering::Relaxed).min(COUNTER_END)
    }

    pub(crate) fn aead(&self) -> &AeadKey {
        &self.aead
    }

    pub(crate) fn take_counter(&self) -> std::result::Result<u64, DropReason> {
        take(&self.counter)
    }
}

/// Key of one (trunk, direction, epoch, carrier) from the neighbour.
pub struct HopReceiveKey {
    index: u32,
    aead: AeadKey,
    window: Mutex<ReplayWindow>, // uncontended: the inbound loop alone uses it
    failed_opens: AtomicU64,
}

impl HopReceiveKey {
    /// The key under the index that this node chose.
    pub fn new(index: u32, key: &[u8; 32], aead: Aead) -> Self {
        Self {
            index,
            aead: AeadKey::new(aead, key),
            window: Mutex::new(ReplayWindow::default()),
            failed_opens: AtomicU64::new(0),
        }
    }

    /// The index that this node chose.
    pub fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn aead(&self) -> &AeadKey {
        &self.aead
    }

    pub(crate) fn window(&self) -> MutexGuard<'_, ReplayWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count_failed_open(&self) {
        self.failed_opens.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.failed_opens.load(Ordering::Relaxed) >= FAILED_OPENS_END
    }
}

/// Once the end is reached the counter runs on harmlessly: 2^63 refused packets would have to follow before it wrapped.
fn take(counter: &AtomicU64) -> std::result::Result<u64, DropReason> {
    let taken = counter.fetch_add(1, Ordering::Relaxed);
    if taken < COUNTER_END { Ok(taken) } else { Err(DropReason::KeyExhausted) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::thread;

    const NAMES: Names = Names { vlan_id: [1; 16], mls_id: [2; 16] };

    #[test]
    fn many_threads_never_take_the_same_nonce() {
        let key = Arc::new(SendKey::new(&Secret::new([1; 32]), Aead::Aes256Gcm, NAMES, None));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let key = Arc::clone(&key);
                thread::spawn(move || (0..20_000).map(|_| key.take_nonce().unwrap()).collect::<Vec<_>>())
            })
            .collect();
        let nonces: HashSet<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        assert_eq!(nonces.len(), 160_000);
        assert_eq!(key.next_counter(), 160_000);
    }

    #[test]
    fn a_key_steps_once_at_2_to_30_and_refuses_at_2_to_32() {
        let key = SendKey::new(&Secret::new([1; 32]), Aead::Aes256Gcm, NAMES, None);
        assert!(!key.step_is_due());
        key.skip_to(GENERATION_STEP);
        assert!(key.step_is_due());
        assert!(!key.step_is_due());
        key.skip_to(COUNTER_END - 1);
        assert!(key.take_nonce().is_ok());
        assert_eq!(key.take_nonce(), Err(DropReason::KeyExhausted));
        assert_eq!(key.take_nonce(), Err(DropReason::KeyExhausted));
        assert_eq!(key.next_counter(), COUNTER_END);
    }
}
