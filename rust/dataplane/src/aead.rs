//! The two AEADs of SPEC 1: AES-256-GCM (1) and ChaCha20-Poly1305 (2).

use aws_lc_rs::aead::{self, Aad, LessSafeKey, UnboundKey};

use crate::error::{Error, Result};

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;

/// Which AEAD; the numbers are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Aead {
    /// AES-256-GCM.
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305 = 2,
}

impl Aead {
    /// The AEAD of a wire number.
    pub fn from_id(id: u8) -> Result<Self> {
        match id {
            1 => Ok(Self::Aes256Gcm),
            2 => Ok(Self::ChaCha20Poly1305),
            _ => Err(Error::argument(format!("aead must be 1 or 2, not {id}"))),
        }
    }
}

/// Whether this processor has instructions for AES-GCM; without them ChaCha20-Poly1305 is several times as fast.
pub fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// An AEAD key. The library wipes it when it is dropped.
pub struct AeadKey(LessSafeKey);

impl AeadKey {
    /// A key from its 32 bytes.
    pub fn new(aead: Aead, key: &[u8; 32]) -> Self {
        let algorithm = match aead {
            Aead::Aes256Gcm => &aead::AES_256_GCM,
            Aead::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, key).expect("both AEADs take 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Encrypts in place and returns the tag.
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce_of(nonce), Aad::from(aad), in_out)
            .expect("a packet is far below the AEAD's limit");
        std::array::from_fn(|i| tag.as_ref()[i])
    }

    /// Decrypts `ciphertext ‖ tag` in place; the bytes are garbage when it says false.
    #[must_use]
    pub fn open_in_place(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], in_out: &mut [u8]) -> bool {
        self.0.open_in_place(nonce_of(nonce), Aad::from(aad), in_out).is_ok()
    }

    /// Decrypts into `out`, which has the ciphertext's length; the ciphertext stays as it is.
    #[must_use]
    pub fn open_to(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
        out: &mut [u8],
    ) -> bool {
        self.0.open_separate_gather(nonce_of(nonce), Aad::from(aad), ciphertext, tag, out).is_ok()
    }
}

fn nonce_of(nonce: &[u8; NONCE_BYTES]) -> aead::Nonce {
    aead::Nonce::assume_unique_for_key(*nonce)
}
