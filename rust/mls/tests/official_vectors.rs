//! The working group's passive clients, and X-Wing's known answers (tests/vectors/official/README.md).

use std::fs;
use std::path::Path;

use mls_rs::client_builder::ClientBuilder;
use mls_rs::crypto::HpkeSecretKey;
use mls_rs::group::ExportedTree;
use mls_rs::identity::basic::BasicIdentityProvider;
use mls_rs::storage_provider::in_memory::InMemoryKeyPackageStorage;
use mls_rs::{CryptoProvider, MlsMessage};
use mls_rs_core::crypto::CipherSuite;
use mls_rs_core::key_package::{KeyPackageData, KeyPackageStorage};
use mls_rs_core::psk::ExternalPskId;
use mls_rs_crypto_traits::KemType;
use peertap_mls::suite::Provider;
use peertap_mls::xwing::XWing;
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Hex(#[serde(with = "hex::serde")] Vec<u8>);

#[derive(Deserialize)]
struct PassiveClient {
    cipher_suite: u16,
    external_psks: Vec<Psk>,
    key_package: Hex,
    signature_priv: Hex,
    encryption_priv: Hex,
    init_priv: Hex,
    welcome: Hex,
    ratchet_tree: Option<Hex>,
    initial_epoch_authenticator: Hex,
    epochs: Vec<Epoch>,
}

#[derive(Deserialize)]
struct Psk {
    psk_id: Hex,
    psk: Hex,
}

#[derive(Deserialize)]
struct Epoch {
    proposals: Vec<Hex>,
    commit: Hex,
    epoch_authenticator: Hex,
}

#[derive(Deserialize)]
struct XWingCase {
    seed: Hex,
    sk: Hex,
    pk: Hex,
    ct: Hex,
    ss: Hex,
}

fn read<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/official").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Joins by the Welcome, then follows every epoch.
fn follow(case: &PassiveClient) {
    let suite = CipherSuite::from(case.cipher_suite);
    let provider = Provider::default().cipher_suite_provider(suite).expect("only suites that we have are in the files");
    let message = MlsMessage::from_bytes(&case.key_package.0).unwrap();
    let reference = message.key_package_reference(&provider).unwrap().unwrap();
    let package = message.into_key_package().unwrap();
    let mut packages = InMemoryKeyPackageStorage::new();
    let data = KeyPackageData::new(
        mls_rs::mls_rs_codec::MlsEncode::mls_encode_to_vec(&package).unwrap(),
        case.init_priv.0.clone().into(),
        case.encryption_priv.0.clone().into(),
        u64::MAX,
    );
    KeyPackageStorage::insert(&mut packages, reference.to_vec(), data).unwrap();
    let mut builder = ClientBuilder::new()
        .key_package_repo(packages)
        .identity_provider(BasicIdentityProvider::new())
        .crypto_provider(Provider::default());
    for one in &case.external_psks {
        builder = builder.psk(ExternalPskId::new(one.psk_id.0.clone()), one.psk.0.clone().into());
    }
    let who = package.signing_identity().clone();
    let client = builder.signing_identity(who, case.signature_priv.0.clone().into(), suite).build();
    let tree = case.ratchet_tree.as_ref().map(|tree| ExportedTree::from_bytes(&tree.0).unwrap());
    let welcome = MlsMessage::from_bytes(&case.welcome.0).unwrap();
    let (mut group, _) = client.join_group(tree, &welcome, None).unwrap();
    assert_eq!(group.epoch_authenticator().unwrap().as_bytes(), case.initial_epoch_authenticator.0);
    for epoch in &case.epochs {
        for message in epoch.proposals.iter().chain([&epoch.commit]) {
            group.process_incoming_message(MlsMessage::from_bytes(&message.0).unwrap()).unwrap();
        }
        assert_eq!(group.epoch_authenticator().unwrap().as_bytes(), epoch.epoch_authenticator.0);
    }
}

fn follow_all(name: &str, count: usize, suites: &[u16]) {
    let cases = read::<PassiveClient>(name);
    assert_eq!(cases.len(), count);
    for &suite in suites {
        assert!(cases.iter().any(|case| case.cipher_suite == suite), "suite {suite}");
    }
    cases.iter().for_each(follow);
}

#[test]
fn passive_clients_join_by_each_welcome() {
    follow_all("mls_passive_client_welcome.json", 40, &[1, 2, 3, 5, 7]);
}

#[test]
fn passive_clients_handle_each_kind_of_commit() {
    follow_all("mls_passive_client_handling_commit.json", 65, &[1, 2, 3, 5, 7]);
}

#[test]
fn a_passive_client_follows_two_hundred_random_epochs() {
    follow_all("mls_passive_client_random.json", 1, &[1]);
}

#[test]
fn x_wing_gives_the_known_keys_and_secrets() {
    let cases = read::<XWingCase>("x_wing.json");
    assert_eq!(cases.len(), 3);
    for case in cases {
        assert_eq!(case.seed.0, case.sk.0);
        let (secret, public) = XWing::default().generate_deterministic(&case.seed.0).unwrap();
        assert_eq!(public.as_ref(), case.pk.0);
        assert_eq!(XWing::default().decap(&case.ct.0, &secret, &public).unwrap(), case.ss.0);
    }
}

#[test]
fn x_wing_agrees_with_itself_and_a_changed_ciphertext_gives_another_secret() {
    let kem = XWing::default();
    let (secret, public) = kem.generate().unwrap();
    let sealed = kem.encap(&public).unwrap();
    assert_eq!(kem.decap(&sealed.enc, &secret, &public).unwrap(), sealed.shared_secret);
    for at in [0, 500, 1087, 1088, 1119] {
        let mut enc = sealed.enc.clone();
        enc[at] ^= 1;
        assert_ne!(kem.decap(&enc, &secret, &public).unwrap_or_default(), sealed.shared_secret);
    }
}

#[test]
fn keys_and_ciphertexts_of_a_wrong_size_are_refused() {
    let kem = XWing::default();
    let (secret, public) = kem.generate().unwrap();
    assert!(kem.generate_deterministic(&[0; 31]).is_err());
    assert!(kem.encap(&public[1..].to_vec().into()).is_err());
    assert!(kem.decap(&[0; 1119], &secret, &public).is_err());
    assert!(kem.decap(&[0; 1120], &HpkeSecretKey::from(vec![0; 33]), &public).is_err());
}
