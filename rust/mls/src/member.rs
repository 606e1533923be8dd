//! Our place in one VLAN's group, before and beside the group itself: key, credential, key packages.

use mls_rs::client_builder::{
    BaseConfig, ClientBuilder, IntoConfigOutput, WithCryptoProvider, WithGroupStateStorage, WithIdentityProvider,
    WithKeyPackageRepo, WithMlsRules, WithPskStore,
};
use mls_rs::crypto::SignatureSecretKey;
use mls_rs::group::ExportedTree;
use mls_rs::identity::SigningIdentity;
use mls_rs::storage_provider::in_memory::InMemoryKeyPackageStorage;
use mls_rs::time::MlsTime;
use mls_rs::{CipherSuiteProvider, Client, Extension, ExtensionList, MlsMessage};
use mls_rs_core::extension::ExtensionType;
use mls_rs_core::identity::BasicCredential;
use zeroize::Zeroizing;

use crate::VLAN_ID_BYTES;
use crate::credential::{Credential, Identities, credential_of};
use crate::error::{Error, Result};
use crate::group::Group;
use crate::rules::Rules;
use crate::saved::Saved;
use crate::store::{RejoinSecrets, Store, rejoin_id};
use crate::suite::{Provider, Suite};

/// Group context extension with what the VLAN's members agree on; its bytes are Python's (SPEC 9.4).
pub const CONTEXT_EXTENSION: ExtensionType = ExtensionType::new(0xf1a1);

/// GroupInfo extension of a Welcome: the rejoin secrets (SPEC 9.3).
pub(crate) const REJOIN_EXTENSION: ExtensionType = ExtensionType::new(0xf1a2);

pub(crate) type Config = IntoConfigOutput<
    WithMlsRules<
        Rules,
        WithCryptoProvider<
            Provider,
            WithIdentityProvider<
                Identities,
                WithPskStore<
                    RejoinSecrets,
                    WithGroupStateStorage<Store, WithKeyPackageRepo<InMemoryKeyPackageStorage, BaseConfig>>,
                >,
            >,
        >,
    >,
>;

/// A new MLS signature key, for one VLAN. The library wipes it when it is dropped.
pub struct SignerKey {
    suite: Suite,
    secret: SignatureSecretKey,
    public: Vec<u8>,
}

impl SignerKey {
    /// A random key.
    pub fn generate(suite: Suite) -> Result<Self> {
        let (secret, public) =
            suite.provider().signature_key_generate().map_err(|error| Error::refused(error.to_string()))?;
        Ok(Self { suite, secret, public: public.to_vec() })
    }

    /// What the node's identity signs, see [`crate::credential::signed_message`].
    pub fn public(&self) -> &[u8] {
        &self.public
    }
}

/// Us in one VLAN.
#[derive(Clone)]
pub struct Member {
    pub(crate) suite: Suite,
    pub(crate) vlan_id: [u8; VLAN_ID_BYTES],
    pub(crate) credential: Credential,
    pub(crate) signer: SignatureSecretKey,
    public: Vec<u8>,
    key_packages: InMemoryKeyPackageStorage,
}

impl Member {
    /// With a credential for the key and the VLAN.
    pub fn new(key: &SignerKey, vlan_id: [u8; VLAN_ID_BYTES], credential: Credential) -> Result<Self> {
        if !credential.is_genuine(&vlan_id, key.suite, &key.public) {
            return Err(Error::argument("the credential is not signed for this key, suite and VLAN"));
        }
        Ok(Self {
            suite: key.suite,
            vlan_id,
            credential,
            signer: key.secret.clone(),
            public: key.public.clone(),
            key_packages: InMemoryKeyPackageStorage::new(),
        })
    }

    /// A message that lets an admin add us; its secrets stay here until `join`. `now` is Unix time in seconds.
    pub fn key_package(&self, now: u64) -> Result<Vec<u8>> {
        let client = self.client(Store::default(), RejoinSecrets::default());
        let made = client.generate_key_package_message(ExtensionList::new(), ExtensionList::new(), Some(time(now)))?;
        Ok(made.to_bytes()?)
    }

    /// A new group with us alone.
    pub fn create(&self, context: &[u8], now: u64) -> Result<Group> {
        let (store, rejoin) = (Store::default(), RejoinSecrets::default());
        let client = self.client(store.clone(), rejoin.clone());
        let id = self.vlan_id.to_vec();
        let group = client.create_group_with_id(id, context_list(context), ExtensionList::new(), Some(time(now)))?;
        Group::begin(self.clone(), group, store, rejoin)
    }

    /// The group that a Welcome for one of our key packages opens.
    pub fn join(&self, welcome: &[u8], now: u64) -> Result<Group> {
        let (store, rejoin) = (Store::default(), RejoinSecrets::default());
        let client = self.client(store.clone(), rejoin.clone());
        let (group, info) = client.join_group(None, &message(welcome)?, Some(time(now)))?;
        self.check(&group)?;
        let given = info.group_info_extensions.get(REJOIN_EXTENSION);
        if given
            .is_some_and(|given| !rejoin.take_untrusted(&Zeroizing::new(given.extension_data), group.current_epoch()))
        {
            return Err(Error::refused("the Welcome's rejoin secrets are malformed"));
        }
        Group::begin(self.clone(), group, store, rejoin)
    }

    /// Back into a group that went on without us after an epoch that we shared: it as it is now, and the commit that
    /// says so to the others.
    pub fn rejoin(group_info: &[u8], former: &Group, shared: u64, now: u64) -> Result<(Group, Vec<u8>)> {
        let member = former.member().clone();
        let (store, rejoin) = (Store::default(), former.rejoin().until(shared));
        let epoch = rejoin.last().ok_or_else(|| Error::refused("there is no rejoin secret"))?;
        let client = member.client(store.clone(), rejoin.clone());
        let info = message(group_info)?;
        let place = member.place_in(&info)?;
        let (group, commit) = client
            .external_commit_builder()?
            .with_removal(place)
            .with_external_psk(rejoin_id(epoch))
            .commit_time(time(now))
            .build(info)?;
        member.check(&group)?;
        Ok((Group::begin(member, group, store, rejoin)?, commit.to_bytes()?))
    }

    /// A group from its record.
    pub fn restore(record: &[u8]) -> Result<Group> {
        let saved = Saved::parse(record)?;
        let signer = SignatureSecretKey::from(saved.signer.to_vec());
        let public = saved
            .suite
            .provider()
            .signature_key_derive_public(&signer)
            .map_err(|_| Error::refused("the record's key is damaged"))?;
        let member = Self {
            suite: saved.suite,
            vlan_id: saved.vlan_id,
            credential: saved.credential,
            signer,
            public: public.to_vec(),
            key_packages: InMemoryKeyPackageStorage::new(),
        };
        let (store, rejoin) = (Store::with(saved.written), RejoinSecrets::from_saved(saved.rejoin));
        let group = member.client(store.clone(), rejoin.clone()).load_group(&member.vlan_id)?;
        Ok(Group::resume(member, group, store, rejoin, saved.root, Zeroizing::new(record.to_vec())))
    }

    /// Where our leaf is in a GroupInfo's tree; on another branch it may be elsewhere than on ours.
    fn place_in(&self, info: &MlsMessage) -> Result<u32> {
        let tree = info.as_group_info().and_then(|info| info.extensions().get(ExtensionType::RATCHET_TREE));
        let tree = tree.ok_or_else(|| Error::refused("this is no GroupInfo with a tree"))?;
        let tree = ExportedTree::from_bytes(&tree.extension_data)?;
        let is_ours =
            |who: &SigningIdentity| credential_of(who).is_some_and(|found| found.identity == self.credential.identity);
        let leaf = tree.roster().members_iter().find(|leaf| is_ours(&leaf.signing_identity));
        leaf.map(|leaf| leaf.index).ok_or_else(|| Error::refused("we are not in the group of this GroupInfo"))
    }

    fn check(&self, group: &mls_rs::Group<Config>) -> Result<()> {
        if group.group_id() != self.vlan_id || group.cipher_suite() != self.suite.code() {
            return Err(Error::refused("this is another group, or it uses another suite"));
        }
        Ok(())
    }

    pub(crate) fn client(&self, store: Store, rejoin: RejoinSecrets) -> Client<Config> {
        let who = BasicCredential::new(self.credential.emit());
        let who = SigningIdentity::new(who.into_credential(), self.public.clone().into());
        ClientBuilder::new()
            .key_package_repo(self.key_packages.clone())
            .group_state_storage(store)
            .psk_store(rejoin)
            .identity_provider(Identities { vlan_id: self.vlan_id, suite: self.suite })
            .crypto_provider(Provider::default())
            .mls_rules(Rules)
            .extension_type(CONTEXT_EXTENSION)
            .signing_identity(who, self.signer.clone(), self.suite.code())
            .build()
    }
}

pub(crate) fn context_list(context: &[u8]) -> ExtensionList {
    vec![Extension::new(CONTEXT_EXTENSION, context.to_vec())].into()
}

pub(crate) fn rejoin_list(rejoin: &RejoinSecrets) -> ExtensionList {
    vec![Extension::new(REJOIN_EXTENSION, rejoin.emit().to_vec())].into()
}

pub(crate) fn message(bytes: &[u8]) -> Result<MlsMessage> {
    MlsMessage::from_bytes(bytes).map_err(|_| Error::refused("this is no MLS message"))
}

pub(crate) fn time(unix_s: u64) -> MlsTime {
    MlsTime::from(unix_s)
}
