//! The primitives of the data plane, in the form in which it calls them, against vectors that others published.
//!
//! Sources and licences: tests/vectors/official/README.md. Every file's number of cases is asserted, so that no test
//! passes for want of cases.

use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::hkdf;
use peertap_dataplane::aead::{Aead, AeadKey, TAG_BYTES};
use peertap_dataplane::kdf::{self, Secret};
use peertap_dataplane::keys::{FrameSigner, Names, ReceiveKey};

/// One case: its fields and those of its group, as text; numbers too.
type Case = BTreeMap<String, String>;

/// The cases of a file, which must be `count`.
fn cases(name: &str, count: usize) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/official").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = Json { bytes: text.as_bytes(), at: 0 };
    let mut found = Vec::new();
    reader.value("", &Case::new(), &mut found);
    assert_eq!(found.len(), count, "{name}");
    found
}

/// As much of JSON as these files have: no escapes but the quote, no fractions.
struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Json<'_> {
    fn peek(&mut self) -> u8 {
        while matches!(self.bytes[self.at], b' ' | b'\n' | b'\r' | b'\t' | b',' | b':') {
            self.at += 1;
        }
        self.bytes[self.at]
    }

    fn string(&mut self) -> String {
        assert_eq!(self.peek(), b'"', "at byte {}", self.at);
        let start = self.at + 1;
        self.at = start;
        while self.bytes[self.at] != b'"' {
            self.at += if self.bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        String::from_utf8(self.bytes[start..self.at - 1].to_vec()).expect("UTF-8")
    }

    /// Reads a value. Objects inside "tests" or "cases" are cases, which inherit the fields before them.
    fn value(&mut self, list: &str, inherited: &Case, found: &mut Vec<Case>) -> Option<String> {
        match self.peek() {
            b'{' => {
                self.at += 1;
                let mut fields = inherited.clone();
                while self.peek() != b'}' {
                    let name = self.string();
                    if let Some(value) = self.value(&name, &fields, found) {
                        fields.insert(name, value);
                    }
                }
                self.at += 1;
                if matches!(list, "tests" | "cases") {
                    found.push(fields);
                }
                None
            }
            b'[' => {
                self.at += 1;
                while self.peek() != b']' {
                    self.value(list, inherited, found);
                }
                self.at += 1;
                None
            }
            b'"' => Some(self.string()),
            _ => {
                let start = self.at;
                while self.bytes[self.at].is_ascii_alphanumeric() {
                    self.at += 1;
                }
                assert!(self.at > start, "at byte {start}");
                Some(String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned())
            }
        }
    }
}

fn hex(case: &Case, name: &str) -> Vec<u8> {
    let text = case[name].as_bytes();
    assert!(text.len().is_multiple_of(2), "{name}");
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hex digit") as u8;
    text.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn array<const N: usize>(case: &Case, name: &str) -> [u8; N] {
    hex(case, name).try_into().unwrap_or_else(|_| panic!("{name} of case {:?}", case.get("tcId")))
}

fn is_valid(case: &Case) -> bool {
    match case["result"].as_str() {
        "valid" => true,
        "invalid" => false,
        other => panic!("result {other}"),
    }
}

/// Runs the cases of one AEAD and returns how many were valid.
fn check_aead(aead: Aead, cases: &[Case]) -> usize {
    for case in cases {
        let id = &case["tcId"];
        let key = AeadKey::new(aead, &array(case, "key"));
        let (nonce, aad) = (array::<12>(case, "iv"), hex(case, "aad"));
        let (message, ciphertext, tag) = (hex(case, "msg"), hex(case, "ct"), array::<TAG_BYTES>(case, "tag"));

        let mut sealed = message.clone();
        let sealed_tag = key.seal(&nonce, &aad, &mut sealed);
        assert_eq!((sealed, sealed_tag) == (ciphertext.clone(), tag), is_valid(case), "case {id}");

        let mut in_place = [&ciphertext[..], &tag].concat();
        assert_eq!(key.open_in_place(&nonce, &aad, &mut in_place), is_valid(case), "case {id}");
        let mut gathered = vec![0; ciphertext.len()];
        assert_eq!(key.open_to(&nonce, &aad, &ciphertext, &tag, &mut gathered), is_valid(case), "case {id}");
        if is_valid(case) {
            assert_eq!(in_place[..message.len()], message, "case {id}");
            assert_eq!(gathered, message, "case {id}");
        }
    }
    cases.iter().filter(|case| is_valid(case)).count()
}

#[test]
fn aes_256_gcm_seals_and_opens_the_valid_cases_of_wycheproof_and_opens_no_other() {
    assert_eq!(check_aead(Aead::Aes256Gcm, &cases("wycheproof_aes_256_gcm.json", 66)), 39);
}

#[test]
fn chacha20_poly1305_seals_and_opens_the_valid_cases_of_wycheproof_and_opens_no_other() {
    assert_eq!(check_aead(Aead::ChaCha20Poly1305, &cases("wycheproof_chacha20_poly1305.json", 316)), 256);
}

/// An output length for the library's HKDF.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand of the library; None when the length is too large.
fn library_expand(prk: &[u8], info: &[&[u8]], length: usize) -> Option<Vec<u8>> {
    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA384, prk);
    let mut out = vec![0; length];
    prk.expand(info, Length(length)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

#[test]
fn hkdf_with_sha384_gives_the_output_of_every_valid_case_of_wycheproof_and_refuses_too_large_ones() {
    let cases = cases("wycheproof_hkdf_sha384.json", 83);
    for case in &cases {
        let prk = kdf::extract(&hex(case, "salt"), &hex(case, "ikm"));
        let length = case["size"].parse().expect("a number");
        let want = is_valid(case).then(|| hex(case, "okm"));
        assert_eq!(library_expand(&prk[..], &[&hex(case, "info")], length), want, "case {}", case["tcId"]);
    }
    assert_eq!(cases.iter().filter(|case| is_valid(case)).count(), 80);
}

#[test]
fn expand_is_hkdf_expand_under_the_info_of_the_spec() {
    for case in cases("wycheproof_hkdf_sha384.json", 83) {
        let prk = kdf::extract(&hex(&case, "salt"), &hex(&case, "ikm"));
        let context = hex(&case, "info");
        let length = u16::try_from(context.len()).expect("a short info").to_be_bytes();
        let info: [&[u8]; 5] = [b"PeerTap/1 ", b"official\0", &length, &context, &[0, 0]];
        let want = library_expand(&prk[..], &info, 32).expect("32 bytes");
        assert_eq!(kdf::expand(&prk[..], "official", &[&context, b""])[..], want, "case {}", case["tcId"]);
    }
}

#[test]
fn blake3_gives_the_published_hash_and_h16_its_first_16_bytes_however_the_input_is_cut() {
    for case in cases("blake3.json", 22) {
        let length: usize = case["input_len"].parse().expect("a number");
        let input: Vec<u8> = (0..=250).cycle().take(length).collect();
        let want = hex(&case, "hash");
        let mut out = vec![0; want.len()];
        blake3::Hasher::new().update(&input).finalize_xof().fill(&mut out);
        assert_eq!(out, want, "length {length}");
        assert_eq!(blake3::hash(&input).as_bytes()[..], want[..32], "length {length}");
        for cut in [0, length / 3, length] {
            let (first, second) = input.split_at(cut);
            assert_eq!(kdf::h16(&[first, second])[..], want[..16], "length {length}, cut at {cut}");
        }
    }
}

#[test]
fn a_frame_signer_signs_as_rfc_8032_does() {
    for case in cases("rfc8032_ed25519.json", 3) {
        let signer = FrameSigner::from_seed(&array(&case, "seed")).expect("a seed");
        assert_eq!(signer.public()[..], hex(&case, "public"), "{}", case["name"]);
        assert_eq!(signer.sign(&hex(&case, "msg"))[..], hex(&case, "sig"), "{}", case["name"]);
    }
}

#[test]
fn a_receive_key_accepts_the_valid_signatures_of_wycheproof_and_no_other() {
    let names = Names { vlan_id: [0; 16], mls_id: [0; 16] };
    let (mut accepted, mut refused, mut wrong_size) = (0, 0, 0);
    for case in cases("wycheproof_ed25519.json", 151) {
        let public = array::<32>(&case, "publicKey");
        let key = ReceiveKey::new(&Secret::default(), Aead::Aes256Gcm, names, Some(&public), 0).expect("a public key");
        let Ok(signature) = <[u8; 64]>::try_from(hex(&case, "sig")) else {
            assert!(!is_valid(&case), "case {}", case["tcId"]);
            wrong_size += 1; // a trailer has room for 64 bytes only
            continue;
        };
        let verified = key.verify(&hex(&case, "msg"), &signature);
        assert_eq!(verified, is_valid(&case), "case {}", case["tcId"]);
        *if verified { &mut accepted } else { &mut refused } += 1;
    }
    assert_eq!((accepted, refused + wrong_size), (88, 63));
    assert!(refused > wrong_size);
}
