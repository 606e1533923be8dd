//! A group that we are in: its members, its next step, its epoch's root.

use std::collections::BTreeMap;

use mls_rs::group::proposal::Proposal;
use mls_rs::group::{CommitEffect, CommitMessageDescription, ProposalSender, ReceivedMessage};
use peertap_dataplane::kdf::Secret;
use zeroize::Zeroizing;

use crate::credential::{Credential, credential_of};
use crate::error::{Error, Result};
use crate::member::{CONTEXT_EXTENSION, Config, Member, context_list, message, rejoin_list, time};
use crate::saved::Saved;
use crate::store::{RejoinSecrets, Store};

/// Label of the exporter that gives an epoch's root (PROTOCOL 2).
const ROOT_LABEL: &[u8] = b"PeerTap/1 epoch";

/// A leaf of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its place; another member may get it later.
    pub index: u32,
    /// Who it is.
    pub credential: Credential,
    /// Its MLS signature key.
    pub key: Vec<u8>,
}

/// What a commit is to do, beside making new keys and taking up the proposals that came before.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Key packages of those who are added.
    pub adds: Vec<Vec<u8>>,
    /// Leaves that go.
    pub removes: Vec<u32>,
    /// What the members agree on from now on; None: as before.
    pub context: Option<Vec<u8>>,
}

/// A commit of ours, to be sent once the group has kept the step.
#[derive(Clone, Debug)]
pub struct Commit {
    /// For the members.
    pub message: Vec<u8>,
    /// For those who are added; empty when nobody is.
    pub welcome: Vec<u8>,
}

/// What a commit changed.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its sender, as it stands in the new tree.
    pub committer: Option<Leaf>,
    /// Whether its sender came back by it.
    pub is_external: bool,
    /// Those that were let in, also anew.
    pub added: Vec<Leaf>,
    /// Identities that are gone.
    pub removed: Vec<Leaf>,
    /// Whether we are gone; the group is of no more use then.
    pub removed_us: bool,
}

/// What a proposal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// New keys for its sender.
    Update,
    /// To go.
    Leave,
}

/// What a message was.
#[derive(Clone, Debug)]
pub enum Received {
    /// A step of the group, taken tentatively.
    Commit(Change),
    /// A wish that the next commit takes up: its sender's leaf, and what came with it.
    Proposal(u32, Wish, Vec<u8>),
}

/// Epoch and transcript hash that a GroupInfo speaks of; None: it is none.
pub fn info_position(bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
    let info = message(bytes).ok()?.into_group_info()?;
    Some((info.group_context().epoch, info.group_context().confirmed_transcript_hash.to_vec()))
}

/// Identity and MLS signature key of whoever made a key package; None: it is none. Neither is looked at.
pub fn package_owner(bytes: &[u8]) -> Option<([u8; 32], Vec<u8>)> {
    let package = message(bytes).ok()?.into_key_package()?;
    let who = package.signing_identity();
    Some((credential_of(who)?.identity, who.signature_key.to_vec()))
}

/// The epoch that an MLS message was made in; None for one that belongs to none, or is no MLS message.
pub fn message_epoch(bytes: &[u8]) -> Option<u64> {
    message(bytes).ok()?.epoch()
}

/// A group. Steps are tentative until `keep`.
pub struct Group {
    member: Member,
    inner: mls_rs::Group<Config>,
    store: Store,
    rejoin: RejoinSecrets,
    root: Secret,
    /// The last record; empty before the first `keep`.
    kept: Zeroizing<Vec<u8>>,
}

impl Group {
    pub(crate) fn begin(
        member: Member,
        inner: mls_rs::Group<Config>,
        store: Store,
        rejoin: RejoinSecrets,
    ) -> Result<Self> {
        let mut group = Self { member, inner, store, rejoin, root: Secret::default(), kept: Zeroizing::default() };
        group.arrive()?;
        Ok(group)
    }

    pub(crate) fn resume(
        member: Member,
        inner: mls_rs::Group<Config>,
        store: Store,
        rejoin: RejoinSecrets,
        root: Secret,
        kept: Zeroizing<Vec<u8>>,
    ) -> Self {
        Self { member, inner, store, rejoin, root, kept }
    }

    /// Takes the new epoch's root, once; after that the exporter is gone.
    fn arrive(&mut self) -> Result<()> {
        let root = self.inner.export_secret(ROOT_LABEL, &self.member.vlan_id, self.root.len())?;
        self.inner.delete_exporter();
        self.root.copy_from_slice(root.as_bytes());
        self.rejoin.add(self.epoch(), &self.root);
        Ok(())
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    pub(crate) fn rejoin(&self) -> &RejoinSecrets {
        &self.rejoin
    }

    /// The suite's number.
    pub fn suite(&self) -> u16 {
        self.member.suite as u16
    }

    /// The VLAN.
    pub fn vlan_id(&self) -> [u8; crate::VLAN_ID_BYTES] {
        self.member.vlan_id
    }

    /// The epoch's number.
    pub fn epoch(&self) -> u64 {
        self.inner.current_epoch()
    }

    /// Our own leaf's place.
    pub fn own_index(&self) -> u32 {
        self.inner.current_member_index()
    }

    /// The epoch's root (PROTOCOL 2).
    pub fn root(&self) -> &Secret {
        &self.root
    }

    /// A hash of all commits up to now, the same in every member of this branch (RFC 9420, 8.2).
    pub fn transcript_hash(&self) -> Vec<u8> {
        self.inner.context().confirmed_transcript_hash.to_vec()
    }

    /// What the members agree on.
    pub fn context(&self) -> Vec<u8> {
        let found = self.inner.context().extensions.get(CONTEXT_EXTENSION);
        found.map(|extension| extension.extension_data).unwrap_or_default()
    }

    /// All leaves, by place.
    pub fn leaves(&self) -> Vec<Leaf> {
        let leaf = |one: mls_rs::group::Member| {
            let credential = credential_of(&one.signing_identity)?;
            Some(Leaf { index: one.index, credential, key: one.signing_identity.signature_key.to_vec() })
        };
        self.inner.roster().members_iter().filter_map(leaf).collect()
    }

    /// Makes a commit and takes its step. Everything proposed before is in it.
    pub fn commit(&mut self, order: &Order, now: u64) -> Result<Commit> {
        if let Some(gone) = order.removes.iter().find(|&&index| index == self.own_index()) {
            return Err(Error::argument(format!("leaf {gone} is our own: another member must commit that")));
        }
        let mut builder = self.inner.commit_builder().commit_time(time(now));
        if !order.adds.is_empty() {
            builder = builder.set_group_info_ext(rejoin_list(&self.rejoin));
        }
        for package in &order.adds {
            builder = builder.add_member(message(package)?)?;
        }
        for &index in &order.removes {
            builder = builder.remove_member(index)?;
        }
        if let Some(context) = &order.context {
            builder = builder.set_group_context_ext(context_list(context))?;
        }
        let output = builder.build()?;
        let welcome = output.welcome_messages.first().map(|one| one.to_bytes()).transpose()?.unwrap_or_default();
        let commit = Commit { message: output.commit_message.to_bytes()?, welcome };
        self.inner.apply_pending_commit()?;
        self.arrive()?;
        Ok(commit)
    }

    /// Forgets all wishes of this epoch; they were of no use to a commit.
    pub fn forget_wishes(&mut self) {
        self.inner.clear_proposal_cache();
    }

    /// A wish for new keys of ours.
    pub fn propose_update(&mut self) -> Result<Vec<u8>> {
        Ok(self.inner.propose_update(Vec::new())?.to_bytes()?)
    }

    /// A wish to go, with something that all can read (SPEC 9.3).
    pub fn propose_leave(&mut self, word: &[u8]) -> Result<Vec<u8>> {
        Ok(self.inner.propose_self_remove(word.to_vec())?.to_bytes()?)
    }

    /// What a member who was away needs to come back, and nobody else gets.
    pub fn group_info(&self) -> Result<Vec<u8>> {
        Ok(self.inner.group_info_message_allowing_ext_commit(true)?.to_bytes()?)
    }

    /// The rejoin secrets, for a member that came back and lacks those of the epochs between.
    pub fn rejoin_secrets(&self) -> Zeroizing<Vec<u8>> {
        self.rejoin.emit()
    }

    /// Takes those that another member gives; what we have stays.
    pub fn take_rejoin_secrets(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.rejoin.take_untrusted(bytes, self.epoch()) {
            return Err(Error::refused("these are no rejoin secrets"));
        }
        Ok(())
    }

    /// Takes a message of another member; a commit's step is tentative. What is neither a commit nor a wish is refused,
    /// and leaves nothing behind.
    pub fn process(&mut self, bytes: &[u8], now: u64) -> Result<Received> {
        let before = self.by_identity();
        match self.inner.process_incoming_message_with_time(message(bytes)?, time(now))? {
            ReceivedMessage::Commit(commit) => return self.stepped(&commit, &before).map(Received::Commit),
            ReceivedMessage::Proposal(one) => {
                let wish = match one.proposal {
                    Proposal::Update(_) => Some(Wish::Update),
                    Proposal::SelfRemove(_) => Some(Wish::Leave),
                    _ => None,
                };
                if let (ProposalSender::Member(sender), Some(wish)) = (one.sender, wish) {
                    return Ok(Received::Proposal(sender, wish, one.authenticated_data));
                }
            }
            _ => {}
        }
        self.drop_step()?;
        Err(Error::refused("this is neither a commit nor a wish of a member"))
    }

    fn stepped(&mut self, commit: &CommitMessageDescription, before: &BTreeMap<[u8; 32], Leaf>) -> Result<Change> {
        let removed_us = matches!(commit.effect, CommitEffect::Removed { .. });
        if !removed_us {
            self.arrive()?;
        }
        let after = self.by_identity();
        let applied = match &commit.effect {
            CommitEffect::NewEpoch(epoch) => &epoch.applied_proposals[..],
            _ => &[],
        };
        let is_added = |who: &[u8; 32]| {
            applied.iter().any(|one| match &one.proposal {
                Proposal::Add(add) => credential_of(add.signing_identity()).is_some_and(|found| found.identity == *who),
                _ => false,
            })
        };
        let is_new = |who: &[u8; 32]| !before.contains_key(who) || is_added(who);
        Ok(Change {
            committer: after.values().find(|leaf| leaf.index == commit.committer).cloned(),
            is_external: commit.is_external,
            added: after.values().filter(|leaf| is_new(&leaf.credential.identity)).cloned().collect(),
            removed: before.values().filter(|leaf| !after.contains_key(&leaf.credential.identity)).cloned().collect(),
            removed_us,
        })
    }

    fn by_identity(&self) -> BTreeMap<[u8; 32], Leaf> {
        self.leaves().into_iter().map(|leaf| (leaf.credential.identity, leaf)).collect()
    }

    /// The step counts. Returns the record, which must be on disk before anything of this step is sent or used.
    pub fn keep(&mut self) -> Result<Zeroizing<Vec<u8>>> {
        self.inner.write_to_storage()?;
        let saved = Saved {
            suite: self.member.suite,
            vlan_id: self.member.vlan_id,
            credential: self.member.credential,
            signer: Zeroizing::new(self.member.signer.to_vec()),
            root: self.root.clone(),
            rejoin: self.rejoin.all(),
            written: self.store.written(),
        };
        self.kept = saved.emit();
        Ok(self.kept.clone())
    }

    /// Back to what was kept last.
    pub fn drop_step(&mut self) -> Result<()> {
        if self.kept.is_empty() {
            return Err(Error::argument("nothing was kept yet"));
        }
        *self = Member::restore(&self.kept)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rejoin_id;
    use crate::suite::Suite;
    use crate::support::{Crowd, NOW, index_of, member};
    use mls_rs::mls_rules::DefaultMlsRules;

    #[test]
    fn a_wish_for_new_keys_does_not_change_the_signature_key() {
        let mut crowd = Crowd::new(Suite::X25519Aes128, 3);
        let keys = |group: &Group| group.leaves().into_iter().map(|leaf| leaf.key).collect::<Vec<_>>();
        let (before, other) = (keys(&crowd.0[0]), member(2, Suite::X25519Aes128));
        let package = message(&other.key_package(NOW).unwrap()).unwrap().into_key_package().unwrap();
        let (who, signer) = (package.signing_identity().clone(), other.signer.clone());
        assert_eq!(credential_of(&who).unwrap().identity, crowd.0[0].leaves()[1].credential.identity);
        let wish = crowd.0[1].inner.propose_update_with_identity(signer, who, Vec::new()).unwrap();
        let _ = crowd.0[0].process(&wish.to_bytes().unwrap(), NOW); // if it is taken, then not up
        crowd.0[1].drop_step().unwrap();
        crowd.commit(0, Order::default());
        crowd.agree();
        assert_eq!(keys(&crowd.0[0]), before);
    }

    #[test]
    fn a_member_decides_nothing_by_a_proposal_that_an_admin_would_commit() {
        let mut crowd = Crowd::new(Suite::X25519Aes128, 3);
        let other = member(9, Suite::X25519Aes128).key_package(NOW).unwrap();
        let victim = index_of(&crowd.0[0], 3);
        let inner = &mut crowd.0[1].inner;
        let wishes = [
            inner.propose_remove(victim, Vec::new()).unwrap(),
            inner.propose_add(message(&other).unwrap(), Vec::new()).unwrap(),
            inner.propose_group_context_extensions(context_list(b"mine"), Vec::new()).unwrap(),
        ];
        for wish in wishes {
            assert!(crowd.0[0].process(&wish.to_bytes().unwrap(), NOW).is_err());
        }
        crowd.0[1].drop_step().unwrap();
        crowd.commit(0, Order::default());
        crowd.agree();
        assert_eq!((crowd.0[0].leaves().len(), crowd.0[0].context()), (3, b"context".to_vec()));
    }

    #[test]
    fn an_admin_that_kept_such_a_proposal_could_not_commit_it() {
        let mut crowd = Crowd::new(Suite::X25519Aes128, 3);
        let victim = index_of(&crowd.0[0], 3);
        let wish = crowd.0[1].inner.propose_remove(victim, Vec::new()).unwrap();
        crowd.0[0].inner.process_incoming_message(wish).unwrap();
        assert!(crowd.0[0].commit(&Order::default(), NOW).is_err());
    }

    /// An external commit by a program that keeps none of our rules. That it removes nobody else is the library's own.
    fn external(by: &Group, info: &[u8], removed: Option<u32>, epoch: Option<u64>) -> Vec<u8> {
        let client = by.member.client(Store::default(), by.rejoin.clone());
        let lawless = client.to_builder(None).mls_rules(DefaultMlsRules::new()).build();
        let mut builder = lawless.external_commit_builder().unwrap();
        if let Some(removed) = removed {
            builder = builder.with_removal(removed);
        }
        if let Some(epoch) = epoch {
            builder = builder.with_external_psk(rejoin_id(epoch));
        }
        builder.build(message(info).unwrap()).unwrap().1.to_bytes().unwrap()
    }

    #[test]
    fn an_external_commit_must_replace_its_senders_own_leaf_and_prove_a_former_epoch() {
        let mut crowd = Crowd::new(Suite::X25519Aes128, 4);
        let stranger = member(9, Suite::X25519Aes128).create(b"", NOW).unwrap();
        let away = crowd.0.remove(3);
        let (epoch, own) = (away.epoch(), away.own_index());
        crowd.commit(0, Order::default());
        let info = crowd.0[0].group_info().unwrap();
        let refused = [
            (external(&stranger, &info, None, None), "must remove the leaf of the same identity"),
            (external(&away, &info, Some(own), None), "must carry the rejoin secret"),
        ];
        for (commit, why) in refused {
            let error = crowd.0[1].process(&commit, NOW).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let right = external(&away, &info, Some(own), Some(epoch));
        assert!(matches!(crowd.0[1].process(&right, NOW), Ok(Received::Commit(change)) if change.is_external));
    }

    #[test]
    fn a_stranger_can_not_have_itself_proposed() {
        let mut crowd = Crowd::new(Suite::X25519Aes128, 2);
        let stranger = member(9, Suite::X25519Aes128);
        let info = message(&crowd.0[0].group_info().unwrap()).unwrap();
        let client = stranger.client(Store::default(), RejoinSecrets::default());
        let wish = client.external_add_proposal(&info, None, Vec::new(), Default::default(), Default::default(), None);
        let record = crowd.0[0].keep().unwrap();
        assert!(crowd.0[0].process(&wish.unwrap().to_bytes().unwrap(), NOW).is_err());
        assert_eq!(crowd.0[0].keep().unwrap().len(), record.len());
    }
}
