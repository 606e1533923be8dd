//! What the library wants stored, in memory: `saved` turns it into one record.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mls_rs::{GroupStateStorage, PreSharedKeyStorage};
use mls_rs_core::group::{EpochRecord, GroupState};
use mls_rs_core::psk::{ExternalPskId, PreSharedKey};
use peertap_dataplane::kdf::{Secret, expand};
use zeroize::Zeroizing;

/// Epochs whose rejoin secret is kept (ours, docs/decisions/0017: four times the log of commits).
pub const REJOIN_EPOCHS: usize = 256;
/// Epochs before the current one whose messages can still be opened (ours: we send none under MLS).
const OLD_EPOCHS: usize = 1;
/// epoch 8 ‖ secret 32.
const REJOIN_BYTES: usize = 40;
const REJOIN: &[u8] = b"PeerTap/1 rejoin";

/// The name of an epoch's rejoin secret.
pub fn rejoin_id(epoch: u64) -> ExternalPskId {
    ExternalPskId::new([REJOIN, &epoch.to_be_bytes()].concat())
}

/// The epoch that such a name means.
pub fn rejoin_epoch(id: &ExternalPskId) -> Option<u64> {
    id.strip_prefix(REJOIN)?.try_into().ok().map(u64::from_be_bytes)
}

/// The rejoin secrets of the last epochs: X(root, "rejoin").
#[derive(Clone, Default)]
pub struct RejoinSecrets(Arc<Mutex<BTreeMap<u64, Secret>>>);

impl RejoinSecrets {
    /// Those of a saved state.
    pub fn from_saved(secrets: Vec<(u64, Secret)>) -> Self {
        Self(Arc::new(Mutex::new(secrets.into_iter().collect())))
    }

    /// Those up to an epoch, in a place of their own.
    pub fn until(&self, epoch: u64) -> Self {
        Self::from_saved(self.all().into_iter().filter(|(one, _)| *one <= epoch).collect())
    }

    /// An epoch begins; the oldest goes.
    pub fn add(&self, epoch: u64, root: &Secret) {
        let mut secrets = self.lock();
        secrets.insert(epoch, expand(&root[..], "rejoin", &[]));
        while secrets.len() > REJOIN_EPOCHS {
            secrets.pop_first();
        }
    }

    /// The last epoch that there is a secret of.
    pub fn last(&self) -> Option<u64> {
        self.lock().last_key_value().map(|(&epoch, _)| epoch)
    }

    /// All of them for a member that lacks some, so that it can check who comes back (SPEC 9.3).
    pub fn emit(&self) -> Zeroizing<Vec<u8>> {
        let all = self.all();
        let mut out = Zeroizing::new(Vec::with_capacity(all.len() * REJOIN_BYTES));
        for (epoch, secret) in all {
            out.extend_from_slice(&epoch.to_be_bytes());
            out.extend_from_slice(&secret[..]);
        }
        out
    }

    /// Takes those of another member that are missing here and of epochs before `current`. False: they are not what
    /// `emit` makes, and nothing was taken.
    #[must_use]
    pub fn take_untrusted(&self, bytes: &[u8], current: u64) -> bool {
        let (given, rest) = bytes.as_chunks::<REJOIN_BYTES>();
        if !rest.is_empty() || given.len() > REJOIN_EPOCHS {
            return false;
        }
        let mut secrets = self.lock();
        for one in given {
            let (epoch, secret) = one.split_at(8);
            let epoch = u64::from_be_bytes(epoch.try_into().expect("8 bytes were split off"));
            if epoch < current {
                let secret = || Secret::new(secret.try_into().expect("32 bytes are left"));
                secrets.entry(epoch).or_insert_with(secret);
            }
        }
        while secrets.len() > REJOIN_EPOCHS {
            secrets.pop_first();
        }
        true
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Vec<(u64, Secret)> {
        self.lock().iter().map(|(&epoch, secret)| (epoch, secret.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Secret>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PreSharedKeyStorage for RejoinSecrets {
    type Error = Infallible;

    fn get(&self, id: &ExternalPskId) -> Result<Option<PreSharedKey>, Infallible> {
        let found = rejoin_epoch(id).and_then(|epoch| self.lock().get(&epoch).cloned());
        Ok(found.map(|secret| PreSharedKey::new(secret.to_vec())))
    }
}

/// A group's state as the library writes it.
#[derive(Clone, Default)]
pub struct Written {
    /// The current epoch.
    pub state: Zeroizing<Vec<u8>>,
    /// Epochs before it, by number.
    pub epochs: BTreeMap<u64, Zeroizing<Vec<u8>>>,
}

/// The place of one group's state.
#[derive(Clone, Default)]
pub struct Store(Arc<Mutex<Option<Written>>>);

impl Store {
    /// With a saved state in it.
    pub fn with(written: Written) -> Self {
        Self(Arc::new(Mutex::new(Some(written))))
    }

    /// What was written last.
    pub fn written(&self) -> Written {
        self.lock().clone().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Written>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupStateStorage for Store {
    type Error = Infallible;

    fn state(&self, _: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Infallible> {
        Ok(self.lock().as_ref().map(|written| written.state.clone()))
    }

    fn epoch(&self, _: &[u8], epoch: u64) -> Result<Option<Zeroizing<Vec<u8>>>, Infallible> {
        Ok(self.lock().as_ref().and_then(|written| written.epochs.get(&epoch).cloned()))
    }

    fn write(
        &mut self,
        state: GroupState,
        inserts: Vec<EpochRecord>,
        updates: Vec<EpochRecord>,
    ) -> Result<(), Infallible> {
        let mut place = self.lock();
        let written = place.get_or_insert_default();
        written.state = state.data;
        written.epochs.extend(inserts.into_iter().map(|one| (one.id, one.data)));
        for one in updates {
            written.epochs.entry(one.id).and_modify(|data| *data = one.data);
        }
        while written.epochs.len() > OLD_EPOCHS {
            written.epochs.pop_first();
        }
        Ok(())
    }

    fn max_epoch_id(&self, _: &[u8]) -> Result<Option<u64>, Infallible> {
        Ok(self.lock().as_ref().and_then(|written| written.epochs.last_key_value().map(|(&id, _)| id)))
    }
}
