//! tests/vectors/frame.json: the same bytes for Rust and Python. `cargo test --test vectors -- --ignored` writes it anew.
#![allow(missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;

use peertap_dataplane::aead::Aead;
use peertap_dataplane::kdf::{Secret, expand, extract, h16};
use peertap_dataplane::keys::{FrameSigner, HopSendKey};
use peertap_dataplane::packet::{
    FLAG_INTRO, HOP_LIMIT, HopFields, INNER_TAG_AT, seal_hop, seal_probe, seal_probe_reply,
};
use peertap_dataplane::seal::{CONTENT_AT, ContentType, SignedFrames, seal_frame};
use peertap_dataplane::udp::Address;
use peertap_dataplane::vlan_keys::{PairSecret, StaticSecret};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/frame.json")
}

/// All entries in order; every value is hex.
fn entries() -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let mut add = |name: &str, bytes: &[u8]| {
        entries.push((name.to_string(), bytes.iter().map(|b| format!("{b:02x}")).collect()));
    };
    let range = |from: u8| -> [u8; 32] { std::array::from_fn(|i| from + i as u8) };
    let secret = range(0);
    let root = expand(&secret, "static root", &[]);
    let routing = expand(&secret, "static routing", &[]);
    add("static_secret", &secret);
    add("x_label_abc_contexts_01_empty_0203", &expand(&secret, "abc", &[&[1], &[], &[2, 3]])[..]);
    add("extract_salt_secret_ikm_0405", &extract(&secret, &[4, 5])[..]);
    add("root", &root[..]);
    add("routing_secret", &routing[..]);
    let set = StaticSecret::new(Secret::new(secret)).unwrap();
    add("creator_public", &set.creator().public());
    add("grant_public", &set.grantee().public());
    add("name_nonce", &set.name_nonce());
    let vlan_id = h16(&[b"a VLAN-ID"]);
    let keys = set.keys(vlan_id).unwrap();
    add("vlan_id", &vlan_id);
    add("mls_id", &keys.names().mls_id);
    add("route_public", &keys.route().public());
    add("vtag", &h16(&[&keys.route().public()]));
    add("circle", &keys.circle()[..]);
    let mac = [2, 0, 0, 0, 0, 1];
    let (token, group_token) = (keys.token(1, &mac), keys.token(2, &[0xff; 6]));
    add("mac", &mac);
    add("unicast_token", &token);
    add("broadcast_token", &group_token);
    add("tree_token", &keys.token(3, &[0; 6]));

    let signer = Arc::new(FrameSigner::from_seed(&range(64)).unwrap());
    let member = [&[0, 0x24, 8, 1, 0x12, 0x20][..], &range(96)].concat();
    let (sid, salt) = ([7; 16], [9; 16]);
    add("member", &member);
    add("sid", &sid);
    add("signer_seed", &range(64));
    add("signer_public", &signer.public());
    add("hello_plaintext", b"\x00\x00hello");
    add("hello_counter", &5u64.to_be_bytes());
    add("hello_sealed", &keys.hello_seal(&sid, 5, &group_token, b"\x00\x00hello"));

    let frame = [&mac[..], &[2, 0, 0, 0, 0, 2, 0x88, 0xb5], b"an Ethernet frame"].concat();
    add("frame", &frame);
    add("pair_secret", &range(128));
    add("pair_info", b"info of the pair");
    add("pair_sealed_hash", &[3; 48]);
    add("salt", &salt);
    add("hop_key", &range(160));
    add("hop_index", &0x0102_0304u32.to_be_bytes());
    add("hop_label", &0x0506_0708u32.to_be_bytes());
    for (aead, name) in [(Aead::Aes256Gcm, "aes_256_gcm"), (Aead::ChaCha20Poly1305, "chacha20_poly1305")] {
        let hop = HopSendKey::new(0x0102_0304, &range(160), aead);
        let secret = PairSecret::new(Secret::new(range(128)), b"info of the pair", [3; 48], aead).unwrap();
        let (pair, confirm) = keys.pair_sender(&secret).unwrap();
        let group = keys.group_sender(&member, &sid, 1, aead, Arc::clone(&signer)).unwrap();
        add(&format!("{name}/pair_confirm"), &confirm);
        for (kind, key, token) in [("pair", &pair, &token), ("group", &group, &group_token)] {
            key.skip_to(42);
            let mut slot = vec![0; 400];
            let end = CONTENT_AT + frame.len();
            slot[CONTENT_AT..end].copy_from_slice(&frame);
            let (end, nonce) = match kind {
                "pair" => (end, seal_frame(&mut slot, end, key, token, ContentType::Frame).unwrap()),
                _ => {
                    let contents = [(ContentType::Frame, &frame[..])];
                    SignedFrames::sign(contents.into_iter(), key, token, salt).unwrap().seal(0, &mut slot, end)
                }
            };
            add(&format!("{name}/{kind}_kid"), &key.kid());
            add(&format!("{name}/{kind}_inner_tag_and_ciphertext"), &slot[INNER_TAG_AT..end]);
            let fields = HopFields { label: 0x0506_0708, hop_limit: HOP_LIMIT, flags: 0, nonce };
            seal_hop(&mut slot[..end], &hop, &fields).unwrap();
            add(&format!("{name}/{kind}_packet"), &slot[..end]);
        }
        let trio = [&b"first"[..], b"second frame", b"third"];
        let contents = trio.iter().map(|content| (ContentType::Frame, *content));
        let signed = SignedFrames::sign(contents, &group, &group_token, salt).unwrap();
        for (n, content) in trio.iter().enumerate() {
            let mut slot = vec![0; 400];
            let end = CONTENT_AT + content.len();
            slot[CONTENT_AT..end].copy_from_slice(content);
            let (end, nonce) = signed.seal(n, &mut slot, end);
            let fields = HopFields { label: 0x0506_0708, hop_limit: HOP_LIMIT, flags: 0, nonce };
            seal_hop(&mut slot[..end], &hop, &fields).unwrap();
            add(&format!("{name}/tree_packet_{n}"), &slot[..end]);
        }
        let mut intro = vec![0; INNER_TAG_AT];
        intro.extend(keys.hello_seal(&sid, 5, &group_token, b"\x00\x00hello"));
        let nonce = std::array::from_fn(|i| u8::from(i == 11) * 5);
        let fields = HopFields { label: 0x0506_0708, hop_limit: HOP_LIMIT, flags: FLAG_INTRO, nonce };
        seal_hop(&mut intro, &hop, &fields).unwrap();
        add(&format!("{name}/intro_packet"), &intro);
        add(&format!("{name}/probe"), &seal_probe(&hop, &[8; 8]).unwrap());
        let from = Address::parse("192.0.2.1", 1234).unwrap();
        add(&format!("{name}/probe_reply"), &seal_probe_reply(&hop, &[8; 8], &from).unwrap());
    }
    entries
}

fn text() -> String {
    let lines: Vec<_> = entries().iter().map(|(name, value)| format!("  \"{name}\": \"{value}\"")).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

#[test]
fn the_vectors_file_is_what_this_code_makes() {
    assert_eq!(std::fs::read_to_string(path()).unwrap(), text());
}

#[test]
#[ignore = "writes tests/vectors/frame.json"]
fn write_the_vectors_file() {
    std::fs::create_dir_all(path().parent().unwrap()).unwrap();
    std::fs::write(path(), text()).unwrap();
}
