//! The cipher suites of a VLAN's group, and the provider behind them.

use mls_rs::{CipherSuiteProvider, CryptoProvider};
use mls_rs_core::crypto::{
    CipherSuite, HpkeCiphertext, HpkePsk, HpkePublicKey, HpkeSecretKey, SignaturePublicKey, SignatureSecretKey,
};
use mls_rs_core::error::IntoAnyError;
use mls_rs_crypto_awslc::{
    AwsLcAead, AwsLcCipherSuite, AwsLcCipherSuiteBuilder, AwsLcCryptoError, AwsLcCryptoProvider, AwsLcHkdf,
};
use mls_rs_crypto_hpke::hpke::{Hpke, HpkeError};
use mls_rs_crypto_traits::Curve;
use zeroize::Zeroizing;

use crate::error::{Error, Result as OurResult};
use crate::xwing::{XWing, XWingError};

/// A suite; the numbers are MLS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Suite {
    /// MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519.
    X25519Aes128 = 1,
    /// MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519.
    X25519ChaCha20 = 3,
    /// X-Wing, AES-256-GCM, SHA-384, Ed25519, under a private code point.
    Hybrid = 0xf1a1,
}

impl Suite {
    /// The suite of a number.
    pub fn from_id(id: u16) -> OurResult<Self> {
        match id {
            1 => Ok(Self::X25519Aes128),
            3 => Ok(Self::X25519ChaCha20),
            0xf1a1 => Ok(Self::Hybrid),
            _ => Err(Error::refused(format!("MLS suite {id} is none of 1, 3 and {}", 0xf1a1))),
        }
    }

    /// MLS's name of it.
    pub fn code(self) -> CipherSuite {
        CipherSuite::from(self as u16)
    }

    /// Its functions.
    pub fn provider(self) -> SuiteProvider {
        Provider::default().cipher_suite_provider(self.code()).expect("every Suite has a provider")
    }

    /// HPKE in base mode (RFC 9180): encapsulated key and ciphertext.
    pub fn hpke_seal(self, public: &[u8], info: &[u8], aad: &[u8], plaintext: &[u8]) -> OurResult<(Vec<u8>, Vec<u8>)> {
        let sealed = self.provider().hpke_seal(&public.to_vec().into(), info, Some(aad), plaintext).map_err(refused)?;
        Ok((sealed.kem_output, sealed.ciphertext))
    }

    /// The plaintext, for the key pair that HPKE's DeriveKeyPair makes of a seed.
    pub fn hpke_open(
        self,
        seed: &[u8],
        encapsulated: &[u8],
        info: &[u8],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> OurResult<Zeroizing<Vec<u8>>> {
        let provider = self.provider();
        let (secret, public) = provider.kem_derive(seed).map_err(refused)?;
        let sealed = HpkeCiphertext { kem_output: encapsulated.to_vec(), ciphertext: ciphertext.to_vec() };
        provider.hpke_open(&sealed, &secret, &public, info, Some(aad)).map_err(refused)
    }
}

/// The library's suites, and the hybrid one.
#[derive(Clone, Debug, Default)]
pub struct Provider(AwsLcCryptoProvider);

impl CryptoProvider for Provider {
    type CipherSuiteProvider = SuiteProvider;

    fn supported_cipher_suites(&self) -> Vec<CipherSuite> {
        let mut suites = AwsLcCryptoProvider::supported_classical_cipher_suites();
        suites.push(Suite::Hybrid.code());
        suites
    }

    fn cipher_suite_provider(&self, cipher_suite: CipherSuite) -> Option<SuiteProvider> {
        if cipher_suite == Suite::Hybrid.code() {
            return SuiteProvider::hybrid();
        }
        let is_ours = AwsLcCryptoProvider::supported_classical_cipher_suites().contains(&cipher_suite);
        let library = self.0.cipher_suite_provider(cipher_suite).filter(|_| is_ours)?;
        Some(SuiteProvider { library, hybrid: None })
    }
}

/// A suite's functions. The library has all of them but the hybrid suite's HPKE.
#[derive(Clone)]
pub struct SuiteProvider {
    library: AwsLcCipherSuite,
    hybrid: Option<Hpke<XWing, AwsLcHkdf, AwsLcAead>>,
}

impl SuiteProvider {
    fn hybrid() -> Option<Self> {
        let like = CipherSuite::P384_AES256; // has the AEAD, the hash and the KDF
        let library = AwsLcCipherSuiteBuilder::new()
            .fallback_cipher_suite(like)
            .signing(Curve::Ed25519)
            .build(Suite::Hybrid.code())?;
        let hpke = Hpke::new(XWing::default(), AwsLcHkdf::new(like)?, Some(AwsLcAead::new(like)?));
        Some(Self { library, hybrid: Some(hpke) })
    }
}

fn refused(error: AwsLcCryptoError) -> Error {
    Error::refused(error.to_string())
}

fn kem_error(error: XWingError) -> AwsLcCryptoError {
    HpkeError::KemError(error.into_any_error()).into()
}

/// Calls the hybrid HPKE where there is one, else the library.
macro_rules! hpke {
    ($self:ident, $hpke:ident => $hybrid:expr, $library:expr) => {
        match &$self.hybrid {
            Some($hpke) => Ok($hybrid?),
            None => $library,
        }
    };
}

impl CipherSuiteProvider for SuiteProvider {
    type Error = AwsLcCryptoError;
    type HpkeContextS = <AwsLcCipherSuite as CipherSuiteProvider>::HpkeContextS;
    type HpkeContextR = <AwsLcCipherSuite as CipherSuiteProvider>::HpkeContextR;

    fn cipher_suite(&self) -> CipherSuite {
        self.library.cipher_suite()
    }

    fn hash(&self, data: &[u8]) -> Result<Vec<u8>, Self::Error> {
        self.library.hash(data)
    }

    fn mac(&self, key: &[u8], data: &[u8]) -> Result<Vec<u8>, Self::Error> {
        self.library.mac(key, data)
    }

    fn aead_seal(&self, key: &[u8], data: &[u8], aad: Option<&[u8]>, nonce: &[u8]) -> Result<Vec<u8>, Self::Error> {
        self.library.aead_seal(key, data, aad, nonce)
    }

    fn aead_open(
        &self,
        key: &[u8],
        ciphertext: &[u8],
        aad: Option<&[u8]>,
        nonce: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Self::Error> {
        self.library.aead_open(key, ciphertext, aad, nonce)
    }

    fn aead_key_size(&self) -> usize {
        self.library.aead_key_size()
    }

    fn aead_nonce_size(&self) -> usize {
        self.library.aead_nonce_size()
    }

    fn kdf_extract(&self, salt: &[u8], ikm: &[u8]) -> Result<Zeroizing<Vec<u8>>, Self::Error> {
        self.library.kdf_extract(salt, ikm)
    }

    fn kdf_expand(&self, prk: &[u8], info: &[u8], len: usize) -> Result<Zeroizing<Vec<u8>>, Self::Error> {
        self.library.kdf_expand(prk, info, len)
    }

    fn kdf_extract_size(&self) -> usize {
        self.library.kdf_extract_size()
    }

    fn hpke_seal(
        &self,
        remote_key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        pt: &[u8],
    ) -> Result<HpkeCiphertext, Self::Error> {
        hpke!(self, hpke => hpke.seal(remote_key, info, None, aad, pt), self.library.hpke_seal(remote_key, info, aad, pt))
    }

    fn hpke_seal_psk(
        &self,
        remote_key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        pt: &[u8],
        psk: HpkePsk<'_>,
    ) -> Result<HpkeCiphertext, Self::Error> {
        match &self.hybrid {
            Some(hpke) => Ok(hpke.seal(remote_key, info, Some(psk), aad, pt)?),
            None => self.library.hpke_seal_psk(remote_key, info, aad, pt, psk),
        }
    }

    fn hpke_open(
        &self,
        ciphertext: &HpkeCiphertext,
        local_secret: &HpkeSecretKey,
        local_public: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, Self::Error> {
        hpke!(
            self, hpke => hpke.open(ciphertext, local_secret, local_public, info, None, aad),
            self.library.hpke_open(ciphertext, local_secret, local_public, info, aad)
        )
    }

    fn hpke_open_psk(
        &self,
        ciphertext: &HpkeCiphertext,
        local_secret: &HpkeSecretKey,
        local_public: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        psk: HpkePsk<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, Self::Error> {
        match &self.hybrid {
            Some(hpke) => Ok(hpke.open(ciphertext, local_secret, local_public, info, Some(psk), aad)?),
            None => self.library.hpke_open_psk(ciphertext, local_secret, local_public, info, aad, psk),
        }
    }

    fn hpke_setup_s(
        &self,
        remote_key: &HpkePublicKey,
        info: &[u8],
    ) -> Result<(Vec<u8>, Self::HpkeContextS), Self::Error> {
        hpke!(self, hpke => hpke.setup_sender(remote_key, info, None), self.library.hpke_setup_s(remote_key, info))
    }

    fn hpke_setup_r(
        &self,
        kem_output: &[u8],
        local_secret: &HpkeSecretKey,
        local_public: &HpkePublicKey,
        info: &[u8],
    ) -> Result<Self::HpkeContextR, Self::Error> {
        hpke!(
            self, hpke => hpke.setup_receiver(kem_output, local_secret, local_public, info, None),
            self.library.hpke_setup_r(kem_output, local_secret, local_public, info)
        )
    }

    fn kem_derive(&self, ikm: &[u8]) -> Result<(HpkeSecretKey, HpkePublicKey), Self::Error> {
        match &self.hybrid {
            Some(_) => XWing::default().derive_key_pair(ikm).map_err(kem_error),
            None => self.library.kem_derive(ikm),
        }
    }

    fn kem_generate(&self) -> Result<(HpkeSecretKey, HpkePublicKey), Self::Error> {
        hpke!(self, hpke => hpke.generate(), self.library.kem_generate())
    }

    fn kem_public_key_validate(&self, key: &HpkePublicKey) -> Result<(), Self::Error> {
        hpke!(self, hpke => hpke.public_key_validate(key), self.library.kem_public_key_validate(key))
    }

    fn random_bytes(&self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.library.random_bytes(out)
    }

    fn signature_key_generate(&self) -> Result<(SignatureSecretKey, SignaturePublicKey), Self::Error> {
        self.library.signature_key_generate()
    }

    fn signature_key_derive_public(&self, secret_key: &SignatureSecretKey) -> Result<SignaturePublicKey, Self::Error> {
        self.library.signature_key_derive_public(secret_key)
    }

    fn sign(&self, secret_key: &SignatureSecretKey, data: &[u8]) -> Result<Vec<u8>, Self::Error> {
        self.library.sign(secret_key, data)
    }

    fn verify(&self, public_key: &SignaturePublicKey, signature: &[u8], data: &[u8]) -> Result<(), Self::Error> {
        self.library.verify(public_key, signature, data)
    }
}
