//! Key derivation and names (SPEC 1): HKDF with SHA-384 derives, BLAKE3 names.

use aws_lc_rs::{digest, hmac};
use zeroize::Zeroizing;

/// A derived key: 32 bytes, wiped when dropped.
pub type Secret = Zeroizing<[u8; 32]>;

/// `X(k, label, c1, c2, …)`: HKDF-Expand (RFC 5869) with info = "PeerTap/1 " ‖ label ‖ 00 ‖ lp(c1) ‖ …
///
/// 32 bytes are less than one SHA-384 block, so the expansion is one HMAC over info ‖ 01.
/// Every context item must be shorter than 65,536 bytes.
pub fn expand(k: &[u8], label: &str, context: &[&[u8]]) -> Secret {
    let key = hmac::Key::new(hmac::HMAC_SHA384, k);
    let mut mac = hmac::Context::with_key(&key);
    mac.update(b"PeerTap/1 ");
    mac.update(label.as_bytes());
    mac.update(&[0]);
    for item in context {
        let length = u16::try_from(item.len()).expect("a context item is shorter than 65,536 bytes");
        mac.update(&length.to_be_bytes());
        mac.update(item);
    }
    mac.update(&[1]);
    let block = mac.sign();
    let mut out = Secret::default();
    out.copy_from_slice(&block.as_ref()[..32]);
    out
}

/// The first N bytes of `X`, for names rather than keys.
pub fn expand_name<const N: usize>(k: &[u8], label: &str, context: &[&[u8]]) -> [u8; N] {
    let out = expand(k, label, context);
    std::array::from_fn(|i| out[i])
}

/// `Extract(salt, ikm)`: HKDF-Extract with SHA-384.
pub fn extract(salt: &[u8], ikm: &[u8]) -> Zeroizing<[u8; 48]> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA384, salt), ikm);
    let mut out = Zeroizing::new([0; 48]);
    out.copy_from_slice(tag.as_ref());
    out
}

/// `H16(x)` over the concatenation of the parts: the first 16 bytes of BLAKE3.
pub fn h16(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let hash = hasher.finalize();
    std::array::from_fn(|i| hash.as_bytes()[i])
}

/// SHA-384 of the parts.
pub fn sha384(parts: &[&[u8]]) -> [u8; 48] {
    let mut context = digest::Context::new(&digest::SHA384);
    for part in parts {
        context.update(part);
    }
    let hash = context.finish();
    std::array::from_fn(|i| hash.as_ref()[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::hkdf;

    #[test]
    fn expand_is_hkdf_expand_of_the_library() {
        let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA384, &[7; 32]);
        let info: &[&[u8]] = &[b"PeerTap/1 ", b"label", &[0], &[0, 3], b"abc", &[0, 0]];
        let mut want = [0u8; 32];
        // AES-256's key length stands for "32 bytes".
        prk.expand(info, &aws_lc_rs::aead::AES_256_GCM).map(hkdf_bytes(&mut want)).unwrap();
        assert_eq!(*expand(&[7; 32], "label", &[b"abc", b""]), want);
    }

    fn hkdf_bytes<'a>(want: &'a mut [u8; 32]) -> impl FnOnce(hkdf::Okm<'_, &'static aws_lc_rs::aead::Algorithm>) + 'a {
        |okm| {
            struct L;
            impl hkdf::KeyType for L {
                fn len(&self) -> usize {
                    32
                }
            }
            let _ = L;
            okm.fill(want).unwrap();
        }
    }

    #[test]
    fn contexts_do_not_run_into_each_other() {
        assert_ne!(expand(&[1; 32], "l", &[b"ab", b"c"]), expand(&[1; 32], "l", &[b"a", b"bc"]));
    }
}
