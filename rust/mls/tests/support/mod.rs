//! Members with real identities.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use peertap_mls::credential::{Credential, signed_message};
use peertap_mls::group::{Change, Commit, Group, Order, Received};
use peertap_mls::member::{Member, SignerKey};
use peertap_mls::suite::Suite;

pub const VLAN_ID: [u8; 16] = [7; 16];
pub const NOW: u64 = 1_800_000_000;
pub const NOT_AFTER: u64 = NOW + 365 * 86_400;

/// The identity key of a person.
pub fn identity(name: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[name; 32]).unwrap()
}

pub fn public(name: u8) -> [u8; 32] {
    identity(name).public_key().as_ref().try_into().unwrap()
}

/// What `name` signs for a key.
pub fn credential(name: u8, vlan_id: [u8; 16], suite: Suite, key: &[u8]) -> Credential {
    let message = signed_message(&vlan_id, &public(name), suite, NOT_AFTER, key);
    let signature = identity(name).sign(&message).as_ref().try_into().unwrap();
    Credential { identity: public(name), not_after: NOT_AFTER, signature }
}

pub fn member(name: u8, suite: Suite) -> Member {
    let key = SignerKey::generate(suite).unwrap();
    Member::new(&key, VLAN_ID, credential(name, VLAN_ID, suite, key.public())).unwrap()
}

/// Several members' groups that have seen the same commits; the first is the creator's.
pub struct Crowd(pub Vec<Group>);

impl Crowd {
    /// A group of members 1 to `count`.
    pub fn new(suite: Suite, count: u8) -> Self {
        let mut crowd = Self(vec![member(1, suite).create(b"context", NOW).unwrap()]);
        crowd.0[0].keep().unwrap();
        for name in 2..=count {
            crowd.add(name, suite);
        }
        crowd
    }

    pub fn add(&mut self, name: u8, suite: Suite) {
        let newcomer = member(name, suite);
        let commit = self.commit(0, Order { adds: vec![newcomer.key_package(NOW).unwrap()], ..Order::default() });
        let mut group = newcomer.join(&commit.welcome, NOW).unwrap();
        group.keep().unwrap();
        self.0.push(group);
    }

    /// One commits, all others process.
    pub fn commit(&mut self, by: usize, order: Order) -> Commit {
        let commit = self.0[by].commit(&order, NOW).unwrap();
        self.0[by].keep().unwrap();
        for (n, group) in self.0.iter_mut().enumerate() {
            if n != by {
                changed(group, &commit.message);
            }
        }
        commit
    }

    /// All are in the same epoch with the same root.
    pub fn agree(&self) {
        for group in &self.0 {
            assert_eq!(group.epoch(), self.0[0].epoch());
            assert_eq!(group.root(), self.0[0].root());
            assert_eq!(group.transcript_hash(), self.0[0].transcript_hash());
        }
    }
}

/// Processes and keeps a commit.
pub fn changed(group: &mut Group, message: &[u8]) -> Change {
    let Received::Commit(change) = group.process(message, NOW).unwrap() else { panic!("not a commit") };
    if !change.removed_us {
        group.keep().unwrap();
    }
    change
}

/// The place of a person's leaf.
pub fn index_of(group: &Group, name: u8) -> u32 {
    group.leaves().iter().find(|leaf| leaf.credential.identity == public(name)).unwrap().index
}
