//! Who a leaf is: a node's identity key has signed the leaf's MLS key, for one VLAN and suite (SPEC 9.2).
//!
//! ```text
//!     ├ identity key 32 ┼ not-after 8, Unix seconds ┼ signature 64 ┤      in a basic credential (RFC 9420, 5.3)
//! ```

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use mls_rs::IdentityProvider;
use mls_rs::identity::{CredentialType, SigningIdentity};
use mls_rs::time::MlsTime;
use mls_rs_core::error::IntoAnyError;
use mls_rs_core::extension::ExtensionList;
use mls_rs_core::identity::{BasicCredential, MemberValidationContext};

use crate::VLAN_ID_BYTES;
use crate::suite::Suite;

/// Bytes of an Ed25519 public key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a credential.
pub const CREDENTIAL_BYTES: usize = KEY_BYTES + 8 + 64;

const PURPOSE: &[u8] = b"PeerTap/1 mls credential";

/// A credential as it stands in a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The Ed25519 key behind the node's peer ID.
    pub identity: [u8; KEY_BYTES],
    /// Unix time in seconds after which nobody takes it up any more.
    pub not_after: u64,
    /// Of `signed_message` by the identity key.
    pub signature: [u8; 64],
}

impl Credential {
    /// A credential from its bytes; its signature is not looked at.
    pub fn parse_untrusted(bytes: &[u8]) -> Option<Self> {
        let (identity, rest) = bytes.split_first_chunk()?;
        let (not_after, rest) = rest.split_first_chunk()?;
        let signature = rest.try_into().ok()?;
        Some(Self { identity: *identity, not_after: u64::from_be_bytes(*not_after), signature })
    }

    /// Its bytes.
    pub fn emit(&self) -> Vec<u8> {
        [&self.identity[..], &self.not_after.to_be_bytes(), &self.signature].concat()
    }

    /// Whether the identity signed this MLS key for this VLAN and suite.
    pub fn is_genuine(&self, vlan_id: &[u8; VLAN_ID_BYTES], suite: Suite, mls_key: &[u8]) -> bool {
        let message = signed_message(vlan_id, &self.identity, suite, self.not_after, mls_key);
        ParsedPublicKey::new(&ED25519, self.identity).is_ok_and(|key| key.verify_sig(&message, &self.signature).is_ok())
    }
}

/// What an identity signs: purpose ‖ VLAN-ID 16 ‖ identity key 32 ‖ suite 2 ‖ not-after 8 ‖ MLS key 32.
pub fn signed_message(
    vlan_id: &[u8; VLAN_ID_BYTES],
    identity: &[u8; KEY_BYTES],
    suite: Suite,
    not_after: u64,
    mls_key: &[u8],
) -> Vec<u8> {
    [PURPOSE, vlan_id, identity, &(suite as u16).to_be_bytes(), &not_after.to_be_bytes(), mls_key].concat()
}

/// The credential in a signing identity, as it stands there.
pub fn credential_of(who: &SigningIdentity) -> Option<Credential> {
    Credential::parse_untrusted(who.credential.as_basic()?.identifier())
}

/// Decides whose leaf may be in the group of one VLAN.
#[derive(Clone, Debug)]
pub struct Identities {
    /// The VLAN, which is the group.
    pub vlan_id: [u8; VLAN_ID_BYTES],
    /// The group's suite.
    pub suite: Suite,
}

/// Why a leaf is refused.
#[derive(Debug)]
pub enum CredentialError {
    /// Not what `Credential` describes.
    Malformed,
    /// Its time is over.
    Expired,
    /// Not signed by its identity for this VLAN, suite and MLS key.
    Forged,
    /// External senders do not exist here.
    ExternalSender,
}

impl std::fmt::Display for CredentialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a credential is malformed",
            Self::Expired => "a credential has expired",
            Self::Forged => "a credential is not signed for this VLAN, suite and key",
            Self::ExternalSender => "external senders are not allowed",
        })
    }
}

impl std::error::Error for CredentialError {}

impl IntoAnyError for CredentialError {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

impl IdentityProvider for Identities {
    type Error = CredentialError;

    fn validate_member(
        &self,
        who: &SigningIdentity,
        now: Option<MlsTime>,
        _: MemberValidationContext<'_>,
    ) -> Result<(), CredentialError> {
        let credential = credential_of(who).ok_or(CredentialError::Malformed)?;
        if now.is_some_and(|now| now.seconds_since_epoch() > credential.not_after) {
            return Err(CredentialError::Expired);
        }
        if !credential.is_genuine(&self.vlan_id, self.suite, &who.signature_key) {
            return Err(CredentialError::Forged);
        }
        Ok(())
    }

    fn validate_external_sender(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: Option<&ExtensionList>,
    ) -> Result<(), CredentialError> {
        Err(CredentialError::ExternalSender)
    }

    /// The identity key: one leaf a node.
    fn identity(&self, who: &SigningIdentity, _: &ExtensionList) -> Result<Vec<u8>, CredentialError> {
        credential_of(who).map(|found| found.identity.to_vec()).ok_or(CredentialError::Malformed)
    }

    fn valid_successor(
        &self,
        before: &SigningIdentity,
        after: &SigningIdentity,
        _: &ExtensionList,
    ) -> Result<bool, CredentialError> {
        let is_same_key = before.signature_key == after.signature_key; // admissions and removals name it (SPEC 9.7)
        let [before, after] = [before, after].map(|who| credential_of(who).map(|found| found.identity));
        Ok(is_same_key && before.is_some() && before == after)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![BasicCredential::credential_type()]
    }
}
