//! X-Wing, the hybrid KEM of X25519 and ML-KEM-768 (draft-connolly-cfrg-xwing-kem, final combiner), for HPKE.
//!
//! ```text
//!     secret key: seed 32 ── SHAKE256 ──> ML-KEM seed 64 ‖ X25519 secret 32
//!     public key: ML-KEM 1184 ‖ X25519 32          ciphertext: ML-KEM 1088 ‖ X25519 32
//!     shared secret = SHA3-256(ss ML-KEM ‖ ss X25519 ‖ ct X25519 ‖ pk X25519 ‖ "\.//^\")
//! ```

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use mls_rs_core::crypto::{CipherSuite, HpkePublicKey, HpkeSecretKey};
use mls_rs_core::error::IntoAnyError;
use mls_rs_crypto_awslc::{AwsLcCryptoError, MlKemKem};
use mls_rs_crypto_traits::{KemResult, KemType};
use sha3::digest::{ExtendableOutput, Update, XofReader};
use sha3::{Digest, Sha3_256, Shake256};
use zeroize::Zeroizing;

/// Bytes of a secret key and of a shared secret.
pub const SEED_BYTES: usize = 32;
/// Bytes of a public key.
pub const PUBLIC_BYTES: usize = ML_KEM_PUBLIC_BYTES + X25519_BYTES;
/// Bytes of a ciphertext.
pub const CIPHERTEXT_BYTES: usize = ML_KEM_CIPHERTEXT_BYTES + X25519_BYTES;

const KEM_ID: u16 = 0x647a; // IANA, HPKE KEM identifiers
const ML_KEM_SEED_BYTES: usize = 64; // FIPS 203: d ‖ z
const ML_KEM_PUBLIC_BYTES: usize = 1184;
const ML_KEM_CIPHERTEXT_BYTES: usize = 1088;
const X25519_BYTES: usize = 32;
const LABEL: &[u8; 6] = br"\.//^\";

/// The KEM.
#[derive(Clone)]
pub struct XWing {
    ml_kem: MlKemKem,
}

/// Why it failed; nothing secret.
#[derive(Debug)]
pub enum XWingError {
    /// A key or ciphertext of the wrong size or value.
    Malformed,
    /// The library refused.
    Library(AwsLcCryptoError),
}

impl std::fmt::Display for XWingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed => f.write_str("X-Wing: a key or ciphertext is malformed"),
            Self::Library(error) => write!(f, "X-Wing: {error}"),
        }
    }
}

impl std::error::Error for XWingError {}

impl IntoAnyError for XWingError {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

impl From<AwsLcCryptoError> for XWingError {
    fn from(error: AwsLcCryptoError) -> Self {
        Self::Library(error)
    }
}

impl From<aws_lc_rs::error::Unspecified> for XWingError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Malformed
    }
}

/// A seed, unfolded.
struct Expanded {
    ml_kem_secret: HpkeSecretKey,
    ml_kem_public: HpkePublicKey,
    x25519: PrivateKey,
    x25519_public: Vec<u8>,
}

impl Default for XWing {
    fn default() -> Self {
        Self { ml_kem: MlKemKem::new(CipherSuite::ML_KEM_768).expect("the provider has ML-KEM-768") }
    }
}

impl XWing {
    /// HPKE's DeriveKeyPair: SHAKE256.LabeledDerive of keying material of any length (draft-ietf-hpke-pq, 4).
    pub fn derive_key_pair(&self, material: &[u8]) -> Result<(HpkeSecretKey, HpkePublicKey), XWingError> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        let (kem, label, bytes) = (KEM_ID.to_be_bytes(), b"DeriveKeyPair", (SEED_BYTES as u16).to_be_bytes());
        let label_bytes = (label.len() as u16).to_be_bytes();
        shake256(&[material, b"HPKE-v1KEM", &kem, &label_bytes, label, &bytes], &mut seed[..]);
        self.key_pair(&seed[..])
    }

    fn expand(&self, seed: &[u8]) -> Result<Expanded, XWingError> {
        if seed.len() != SEED_BYTES {
            return Err(XWingError::Malformed);
        }
        let mut unfolded = Zeroizing::new([0; ML_KEM_SEED_BYTES + X25519_BYTES]);
        shake256(&[seed], &mut unfolded[..]);
        let (ml_kem_seed, x25519_secret) = unfolded.split_at(ML_KEM_SEED_BYTES);
        let (ml_kem_secret, ml_kem_public) = self.ml_kem.generate_deterministic(ml_kem_seed)?;
        let x25519 = PrivateKey::from_private_key(&X25519, x25519_secret).map_err(|_| XWingError::Malformed)?;
        let x25519_public = x25519.compute_public_key()?.as_ref().to_vec();
        Ok(Expanded { ml_kem_secret, ml_kem_public, x25519, x25519_public })
    }

    fn key_pair(&self, seed: &[u8]) -> Result<(HpkeSecretKey, HpkePublicKey), XWingError> {
        let key = self.expand(seed)?;
        Ok((seed.to_vec().into(), [key.ml_kem_public.as_ref(), &key.x25519_public].concat().into()))
    }
}

impl KemType for XWing {
    type Error = XWingError;

    fn kem_id(&self) -> u16 {
        KEM_ID
    }

    fn generate_deterministic(&self, seed: &[u8]) -> Result<(HpkeSecretKey, HpkePublicKey), XWingError> {
        self.key_pair(seed)
    }

    fn generate(&self) -> Result<(HpkeSecretKey, HpkePublicKey), XWingError> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        aws_lc_rs::rand::fill(&mut seed[..])?;
        self.key_pair(&seed[..])
    }

    fn public_key_validate(&self, key: &HpkePublicKey) -> Result<(), XWingError> {
        if key.len() == PUBLIC_BYTES { Ok(()) } else { Err(XWingError::Malformed) }
    }

    fn encap(&self, remote_key: &HpkePublicKey) -> Result<KemResult, XWingError> {
        self.public_key_validate(remote_key)?;
        let (ml_kem_public, x25519_public) = remote_key.split_at(ML_KEM_PUBLIC_BYTES);
        let inner = self.ml_kem.encap(&ml_kem_public.to_vec().into())?;
        let ephemeral = PrivateKey::generate(&X25519)?;
        let x25519_ciphertext = ephemeral.compute_public_key()?.as_ref().to_vec();
        let x25519_shared = exchange(&ephemeral, x25519_public)?;
        Ok(KemResult {
            shared_secret: combine(&inner.shared_secret, &x25519_shared[..], &x25519_ciphertext, x25519_public),
            enc: [&inner.enc[..], &x25519_ciphertext].concat(),
        })
    }

    fn decap(&self, enc: &[u8], secret_key: &HpkeSecretKey, _: &HpkePublicKey) -> Result<Vec<u8>, XWingError> {
        if enc.len() != CIPHERTEXT_BYTES {
            return Err(XWingError::Malformed);
        }
        let key = self.expand(secret_key)?;
        let (ml_kem_ciphertext, x25519_ciphertext) = enc.split_at(ML_KEM_CIPHERTEXT_BYTES);
        let ml_kem_shared =
            Zeroizing::new(self.ml_kem.decap(ml_kem_ciphertext, &key.ml_kem_secret, &key.ml_kem_public)?);
        let x25519_shared = exchange(&key.x25519, x25519_ciphertext)?;
        Ok(combine(&ml_kem_shared, &x25519_shared[..], x25519_ciphertext, &key.x25519_public))
    }

    fn seed_length_for_derive(&self) -> usize {
        SEED_BYTES
    }
}

fn exchange(ours: &PrivateKey, theirs: &[u8]) -> Result<Zeroizing<[u8; X25519_BYTES]>, XWingError> {
    agree(ours, UnparsedPublicKey::new(&X25519, theirs), XWingError::Malformed, |shared| {
        shared.try_into().map(Zeroizing::new).map_err(|_| XWingError::Malformed)
    })
}

fn combine(ml_kem_shared: &[u8], x25519_shared: &[u8], x25519_ciphertext: &[u8], x25519_public: &[u8]) -> Vec<u8> {
    let mut hash = Sha3_256::new();
    for part in [ml_kem_shared, x25519_shared, x25519_ciphertext, x25519_public, LABEL] {
        Digest::update(&mut hash, part);
    }
    hash.finalize().to_vec()
}

fn shake256(input: &[&[u8]], out: &mut [u8]) {
    let mut hash = Shake256::default();
    for part in input {
        Update::update(&mut hash, part);
    }
    hash.finalize_xof().read(out);
}
