//! What a commit of a VLAN's group must look like, whoever made it (SPEC 9.3).

use mls_rs::MlsRules;
use mls_rs::group::proposal::ProposalType;
use mls_rs::group::{GroupContext, Roster};
use mls_rs::mls_rules::{CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle};
use mls_rs_core::error::IntoAnyError;
use mls_rs_core::identity::SigningIdentity;

use crate::credential::credential_of;
use crate::store::rejoin_epoch;

/// The rules; they know nothing of roles, which Python decides about.
#[derive(Clone, Copy, Debug)]
pub struct Rules;

/// Why a commit is refused.
#[derive(Debug)]
pub enum RuleError {
    /// An external commit that does not replace its sender's own leaf.
    NotOwnLeaf,
    /// An external commit without the secret of an epoch that its sender was in.
    NoProof,
    /// A proposal of a type that has no place here.
    Proposal(ProposalType),
}

impl std::fmt::Display for RuleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotOwnLeaf => {
                f.write_str("an external commit must remove the leaf of the same identity, and no other")
            }
            Self::NoProof => f.write_str("an external commit must carry the rejoin secret of a former epoch"),
            Self::Proposal(kind) => write!(f, "proposals of type {} are not allowed", kind.raw_value()),
        }
    }
}

impl std::error::Error for RuleError {}

impl IntoAnyError for RuleError {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

impl MlsRules for Rules {
    type Error = RuleError;

    fn filter_proposals(
        &self,
        _: CommitDirection,
        source: CommitSource,
        roster: &Roster,
        _: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, RuleError> {
        if let Some(kind) = proposals.proposal_types().find(|kind| !is_allowed(*kind)) {
            return Err(RuleError::Proposal(kind));
        }
        let wish = |kind| [ProposalType::UPDATE, ProposalType::SELF_REMOVE].contains(&kind);
        let by_reference = proposals.iter_proposals().filter(|one| one.is_by_reference());
        for one in by_reference {
            let kind = one.proposal.proposal_type();
            if !wish(kind) {
                return Err(RuleError::Proposal(kind)); // else any member would decide by the next admin's hand
            }
        }
        if let CommitSource::NewMember(who) = source {
            check_rejoin(&who, roster, &proposals)?;
        }
        Ok(proposals)
    }

    fn commit_options(&self, _: &Roster, _: &GroupContext, _: &ProposalBundle) -> Result<CommitOptions, RuleError> {
        Ok(CommitOptions::new().with_path_required(true).with_ratchet_tree_extension(true))
    }

    fn encryption_options(&self, _: &Roster, _: &GroupContext) -> Result<EncryptionOptions, RuleError> {
        Ok(EncryptionOptions::default()) // messages travel under the VLAN's own keys
    }
}

fn is_allowed(kind: ProposalType) -> bool {
    [
        ProposalType::ADD,
        ProposalType::UPDATE,
        ProposalType::REMOVE,
        ProposalType::PSK,
        ProposalType::EXTERNAL_INIT,
        ProposalType::GROUP_CONTEXT_EXTENSIONS,
        ProposalType::SELF_REMOVE,
    ]
    .contains(&kind)
}

/// Exactly one Remove, of the same identity's leaf, and a rejoin secret (PROTOCOL 10).
fn check_rejoin(who: &SigningIdentity, roster: &Roster, proposals: &ProposalBundle) -> Result<(), RuleError> {
    let [removal] = proposals.remove_proposals() else { return Err(RuleError::NotOwnLeaf) };
    let leaf = roster.member_with_index(removal.proposal.to_remove()).map_err(|_| RuleError::NotOwnLeaf)?;
    let [theirs, removed] = [who, &leaf.signing_identity].map(|who| credential_of(who).map(|found| found.identity));
    if theirs.is_none() || theirs != removed {
        return Err(RuleError::NotOwnLeaf);
    }
    let mut proofs = proposals.psk_proposals().iter().filter_map(|psk| psk.proposal.external_psk_id());
    if proofs.any(|id| rejoin_epoch(id).is_some()) { Ok(()) } else { Err(RuleError::NoProof) }
}
