//! The keys of a VLAN in one epoch, and static membership (SPEC 3).

use std::sync::Arc;

use crate::Token;
use crate::aead::{Aead, AeadKey, NONCE_BYTES, TAG_BYTES};
use crate::error::{Error, Result, exactly};
use crate::frame::Mac;
use crate::kdf::{Secret, expand, expand_name, extract, h16};
use crate::keys::{FrameSigner, Names, ReceiveKey, SendKey};
use crate::loops::ProbeKey;
use crate::seal::frame_aad;

/// Bytes of a sid (SPEC 3.3).
pub const SID_BYTES: usize = 16;
/// Bytes of a pair confirmation (SPEC 3.3).
pub const CONFIRM_BYTES: usize = 16;
/// The kind of a group's token (SPEC 3.2).
pub const KIND_GROUP: u8 = 2;
/// Bytes of SHA-384 (SPEC 3.3).
pub const SEALED_HASH_BYTES: usize = 48;

/// A VLAN secret of static membership (SPEC 3.1).
pub struct StaticSecret {
    secret: Secret,
    creator: FrameSigner,
    grantee: FrameSigner,
}

impl StaticSecret {
    /// From the 32-byte secret.
    pub fn new(secret: Secret) -> Result<Self> {
        let creator = FrameSigner::from_seed(&expand(&secret[..], "static creator", &[]))?;
        let grantee = FrameSigner::from_seed(&expand(&secret[..], "static grant", &[]))?;
        Ok(Self { secret, creator, grantee })
    }

    /// The creator key.
    pub fn creator(&self) -> &FrameSigner {
        &self.creator
    }

    /// The grant key.
    pub fn grantee(&self) -> &FrameSigner {
        &self.grantee
    }

    /// The nonce of the VLAN's name.
    pub fn name_nonce(&self) -> [u8; 16] {
        expand_name(&self.secret[..], "static nonce", &[])
    }

    /// The VLAN's keys; static membership has one epoch.
    pub fn keys(&self, vlan_id: [u8; 16]) -> Result<VlanKeys> {
        let root = expand(&self.secret[..], "static root", &[]);
        let routing = expand(&self.secret[..], "static routing", &[]);
        VlanKeys::new(vlan_id, root, routing)
    }
}

/// What two members agreed on in a Setup: each epoch's pair key comes from it and that epoch's root (SPEC 3.3).
pub struct PairSecret {
    secret: Secret,
    info: Vec<u8>,
    sealed_hash: [u8; SEALED_HASH_BYTES],
    aead: Aead,
}

impl PairSecret {
    /// From the secret, what it is bound to, and the hash of what HPKE gave.
    pub fn new(secret: Secret, info: &[u8], sealed_hash: [u8; SEALED_HASH_BYTES], aead: Aead) -> Result<Self> {
        short("info", info)?;
        Ok(Self { secret, info: info.to_vec(), sealed_hash, aead })
    }
}

/// The keys of one VLAN in one epoch (SPEC 3).
pub struct VlanKeys {
    names: Names,
    root: Secret,
    routing: Secret,
    route: FrameSigner,
}

impl VlanKeys {
    /// From the epoch's root and the routing secret.
    pub fn new(vlan_id: [u8; 16], root: Secret, routing: Secret) -> Result<Self> {
        let mls_id = h16(&[&expand(&root[..], "mls-id", &[])[..]]);
        let route = FrameSigner::from_seed(&expand(&routing[..], "route", &[&vlan_id]))?;
        Ok(Self { names: Names { vlan_id, mls_id }, root, routing, route })
    }

    /// VLAN-ID and MLS-ID.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The route key.
    pub fn route(&self) -> &FrameSigner {
        &self.route
    }

    /// VFT = X(routing secret, "vft", kind ‖ MAC ‖ VLAN-ID)[:16] (SPEC 3.2).
    pub fn token(&self, kind: u8, mac: &Mac) -> Token {
        let mut context = [kind; 1 + 6 + 16];
        context[1..7].copy_from_slice(mac);
        context[7..].copy_from_slice(&self.names.vlan_id);
        expand_name(&self.routing[..], "vft", &[&context])
    }

    /// By what members look for each other outside the VLAN (SPEC 12.1); nothing else can be derived from it.
    pub fn circle(&self) -> Secret {
        expand(&self.routing[..], "circle", &[&self.names.vlan_id])
    }

    /// What loop probes are made with: X(routing secret, "loop probe", VLAN-ID) (SPEC 14.2).
    pub fn probe_key(&self) -> ProbeKey {
        ProbeKey::new(expand(&self.routing[..], "loop probe", &[&self.names.vlan_id]))
    }

    /// Inner tag ‖ sid ‖ ciphertext of an INTRO; nonce = 00000000 ‖ counter (SPEC 3.3).
    pub fn hello_seal(&self, sid: &[u8; SID_BYTES], counter: u64, token: &Token, plaintext: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        let mut sealed = vec![0; TAG_BYTES];
        sealed.extend_from_slice(sid);
        sealed.extend_from_slice(plaintext);
        let aad = hello_aad(&self.names, token, &nonce, sid);
        let tag = self.hello_key(sid).seal(&nonce, &aad, &mut sealed[TAG_BYTES + SID_BYTES..]);
        sealed[..TAG_BYTES].copy_from_slice(&tag);
        sealed
    }

    /// The plaintext of what `hello_seal` gives, or None.
    pub fn hello_open_untrusted(&self, nonce: &[u8; NONCE_BYTES], token: &Token, sealed: &[u8]) -> Option<Vec<u8>> {
        let (tag, rest) = sealed.split_at_checked(TAG_BYTES)?;
        let (sid, ciphertext) = rest.split_at_checked(SID_BYTES)?;
        let sid: [u8; SID_BYTES] = sid.try_into().ok()?;
        let aad = hello_aad(&self.names, token, nonce, &sid);
        let mut plaintext = vec![0; ciphertext.len()];
        self.hello_key(&sid).open_to(nonce, &aad, ciphertext, tag, &mut plaintext).then_some(plaintext)
    }

    /// Our group key.
    pub fn group_sender(
        &self,
        member: &[u8],
        sid: &[u8],
        generation: u32,
        aead: Aead,
        signer: Arc<FrameSigner>,
    ) -> Result<SendKey> {
        let g = self.group_secret(member, sid, generation, aead)?;
        Ok(SendKey::new(&g, aead, self.names, Some(signer)))
    }

    /// Another member's group key.
    pub fn group_receiver(
        &self,
        member: &[u8],
        sid: &[u8],
        generation: u32,
        aead: Aead,
        signer_public: &[u8],
        floor: u64,
    ) -> Result<ReceiveKey> {
        let g = self.group_secret(member, sid, generation, aead)?;
        let signer = exactly::<32>("signer_public", signer_public)?;
        ReceiveKey::new(&g, aead, self.names, Some(&signer), floor)
    }

    /// Our pair key and the confirmation that the other side must send.
    pub fn pair_sender(&self, pair: &PairSecret) -> Result<(SendKey, [u8; CONFIRM_BYTES])> {
        let g = self.pair_secret(pair);
        Ok((SendKey::new(&g, pair.aead, self.names, None), expand_name(&g[..], "confirm", &[])))
    }

    /// Another member's pair key and the confirmation that we send.
    pub fn pair_receiver(&self, pair: &PairSecret) -> Result<(ReceiveKey, [u8; CONFIRM_BYTES])> {
        let g = self.pair_secret(pair);
        Ok((ReceiveKey::new(&g, pair.aead, self.names, None, 0)?, expand_name(&g[..], "confirm", &[])))
    }

    fn hello_key(&self, sid: &[u8; SID_BYTES]) -> AeadKey {
        AeadKey::new(Aead::Aes256Gcm, &expand(&self.root[..], "hello", &[sid]))
    }

    fn group_secret(&self, member: &[u8], sid: &[u8], generation: u32, aead: Aead) -> Result<Secret> {
        short("member", member)?;
        let sid = exactly::<SID_BYTES>("sid", sid)?;
        Ok(expand(&self.root[..], "group", &[member, &sid, &generation.to_be_bytes(), &[aead as u8]]))
    }

    fn pair_secret(&self, pair: &PairSecret) -> Secret {
        let prk = extract(&expand(&self.root[..], "pair", &[])[..], &pair.secret[..]);
        expand(&prk[..], "pair", &[&pair.info, &pair.sealed_hash, &[pair.aead as u8]])
    }
}

fn hello_aad(names: &Names, token: &Token, nonce: &[u8; NONCE_BYTES], sid: &[u8; SID_BYTES]) -> [u8; 80] {
    let mut aad = [0; 80];
    aad[..64].copy_from_slice(&frame_aad(names, token, nonce));
    aad[64..].copy_from_slice(sid);
    aad
}

/// `lp` has a 16-bit length.
fn short(name: &str, bytes: &[u8]) -> Result<()> {
    if bytes.len() > usize::from(u16::MAX) {
        return Err(Error::argument(format!("{name} must be at most 65,535 bytes, not {}", bytes.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> VlanKeys {
        StaticSecret::new(Secret::new([7; 32])).unwrap().keys([8; 16]).unwrap()
    }

    #[test]
    fn hello_opens_only_with_its_nonce_token_and_bytes() {
        let (keys, token) = (keys(), [3; 16]);
        let sealed = keys.hello_seal(&[1; 16], 5, &token, b"hello");
        let nonce = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
        assert_eq!(keys.hello_open_untrusted(&nonce, &token, &sealed).as_deref(), Some(&b"hello"[..]));
        assert!(keys.hello_open_untrusted(&[0; 12], &token, &sealed).is_none());
        assert!(keys.hello_open_untrusted(&nonce, &[4; 16], &sealed).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(keys.hello_open_untrusted(&nonce, &token, &changed).is_none());
            assert!(keys.hello_open_untrusted(&nonce, &token, &sealed[..at]).is_none());
        }
    }

    #[test]
    fn another_sid_generation_or_aead_gives_another_group_key() {
        let keys = keys();
        let kid = |sid: u8, generation, aead| {
            keys.group_receiver(
                b"m",
                &[sid; 16],
                generation,
                aead,
                &FrameSigner::from_seed(&[1; 32]).unwrap().public(),
                0,
            )
            .unwrap()
            .kid()
        };
        let first = kid(1, 0, Aead::Aes256Gcm);
        assert_eq!(first, kid(1, 0, Aead::Aes256Gcm));
        assert_ne!(first, kid(2, 0, Aead::Aes256Gcm));
        assert_ne!(first, kid(1, 1, Aead::Aes256Gcm));
        assert_ne!(first, kid(1, 0, Aead::ChaCha20Poly1305));
    }

    fn pair(secret: u8) -> PairSecret {
        PairSecret::new(Secret::new([secret; 32]), b"info", [2; 48], Aead::Aes256Gcm).unwrap()
    }

    #[test]
    fn both_ends_of_a_pair_agree_and_another_secret_or_root_gives_other_keys() {
        let keys = keys();
        let (send, confirm) = keys.pair_sender(&pair(1)).unwrap();
        let (receive, also) = keys.pair_receiver(&pair(1)).unwrap();
        assert_eq!((send.kid(), confirm), (receive.kid(), also));
        let later = VlanKeys::new([8; 16], Secret::new([9; 32]), Secret::new([7; 32])).unwrap();
        for other in [keys.pair_sender(&pair(3)).unwrap(), later.pair_sender(&pair(1)).unwrap()] {
            assert!(other.0.kid() != send.kid() && other.1 != confirm);
        }
        assert!(PairSecret::new(Secret::new([1; 32]), &[0; 65_536], [2; 48], Aead::Aes256Gcm).is_err());
    }
}
