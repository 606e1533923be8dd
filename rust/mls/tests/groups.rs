//! The life of a group, and what is refused.

mod support;

use peertap_mls::group::{Order, Received, Wish};
use peertap_mls::member::{Member, SignerKey};
use peertap_mls::suite::Suite;
use support::{Crowd, NOT_AFTER, NOW, VLAN_ID, changed, credential, index_of, member, public};

const SUITES: [Suite; 3] = [Suite::Hybrid, Suite::X25519Aes128, Suite::X25519ChaCha20];

#[test]
fn all_members_have_one_root_and_each_epoch_has_another() {
    for suite in SUITES {
        let mut crowd = Crowd::new(suite, 4);
        crowd.agree();
        let before = crowd.0[0].root().clone();
        crowd.commit(2, Order::default());
        crowd.agree();
        assert_ne!(*crowd.0[0].root(), before);
        assert_eq!(crowd.0[3].leaves().len(), 4);
    }
}

#[test]
fn who_is_removed_learns_so_and_no_later_root() {
    let mut crowd = Crowd::new(Suite::Hybrid, 3);
    let gone = index_of(&crowd.0[0], 3);
    let commit = crowd.0[0].commit(&Order { removes: vec![gone], ..Order::default() }, NOW).unwrap();
    let change = changed(&mut crowd.0[1], &commit.message);
    assert_eq!(change.removed.iter().map(|leaf| leaf.credential.identity).collect::<Vec<_>>(), [public(3)]);
    let root = crowd.0[2].root().clone();
    assert!(changed(&mut crowd.0[2], &commit.message).removed_us);
    assert_eq!(*crowd.0[2].root(), root);
    assert_ne!(crowd.0[0].root(), crowd.0[2].root());
    let later = crowd.0[0].commit(&Order::default(), NOW).unwrap();
    assert!(crowd.0[2].process(&later.message, NOW).is_err());
}

#[test]
fn a_restored_record_goes_on_where_it_was() {
    for suite in SUITES {
        let mut crowd = Crowd::new(suite, 3);
        let record = crowd.0[1].keep().unwrap();
        crowd.0[1] = Member::restore(&record).unwrap();
        crowd.agree();
        crowd.commit(1, Order::default());
        crowd.agree();
        crowd.commit(0, Order { context: Some(b"other".to_vec()), ..Order::default() });
        crowd.agree();
        assert_eq!(crowd.0[1].context(), b"other");
    }
}

#[test]
fn a_damaged_or_cut_record_is_refused() {
    let record = Crowd::new(Suite::X25519Aes128, 2).0[0].keep().unwrap().to_vec();
    for end in (0..record.len()).step_by(7) {
        assert!(Member::restore(&record[..end]).is_err());
    }
    let longer = [&record[..], &[0]].concat();
    assert!(Member::restore(&longer).is_err());
}

#[test]
fn a_dropped_step_leaves_no_trace() {
    let mut crowd = Crowd::new(Suite::Hybrid, 3);
    let (epoch, root) = (crowd.0[1].epoch(), crowd.0[1].root().clone());
    let commit = crowd.0[0].commit(&Order::default(), NOW).unwrap();
    assert!(matches!(crowd.0[1].process(&commit.message, NOW), Ok(Received::Commit(_))));
    assert_ne!(crowd.0[1].epoch(), epoch);
    crowd.0[1].drop_step().unwrap();
    assert_eq!((crowd.0[1].epoch(), crowd.0[1].root()), (epoch, &root));
    crowd.0[0].drop_step().unwrap();
    crowd.agree();
    crowd.commit(2, Order::default());
    crowd.agree();
}

#[test]
fn wishes_are_taken_up_by_the_next_commit() {
    let mut crowd = Crowd::new(Suite::Hybrid, 4);
    let update = crowd.0[1].propose_update().unwrap();
    let leave = crowd.0[3].propose_leave(b"farewell").unwrap();
    for (from, message, wish) in [(1, &update, Wish::Update), (3, &leave, Wish::Leave)] {
        for n in (0..4).filter(|&n| n != from) {
            let Ok(Received::Proposal(sender, seen, word)) = crowd.0[n].process(message, NOW) else {
                panic!("no proposal")
            };
            assert_eq!((sender, seen), (crowd.0[from].own_index(), wish));
            assert_eq!(word, if wish == Wish::Leave { &b"farewell"[..] } else { &[] });
        }
    }
    let commit = crowd.0[0].commit(&Order::default(), NOW).unwrap();
    assert!(changed(&mut crowd.0[3], &commit.message).removed_us);
    crowd.0.truncate(3);
    for group in &mut crowd.0[1..] {
        assert_eq!(changed(group, &commit.message).removed.len(), 1);
    }
    crowd.agree();
    assert_eq!(crowd.0[0].leaves().len(), 3);
}

#[test]
fn a_member_who_was_away_comes_back_by_itself() {
    for suite in SUITES {
        let mut crowd = Crowd::new(suite, 4);
        let mut away = crowd.0.remove(2);
        for _ in 0..5 {
            crowd.commit(0, Order::default());
        }
        let info = crowd.0[1].group_info().unwrap();
        let (back, commit) = Member::rejoin(&info, &away, away.epoch(), NOW).unwrap();
        for group in &mut crowd.0 {
            let change = changed(group, &commit);
            assert!(change.is_external && change.added.is_empty() && change.removed.is_empty());
            assert_eq!(change.committer.unwrap().credential.identity, public(3));
        }
        away = back;
        away.keep().unwrap();
        crowd.0.push(away);
        crowd.agree();
        crowd.commit(3, Order::default());
        crowd.agree();
    }
}

#[test]
fn a_newcomer_can_check_who_comes_back_from_before_its_time() {
    for suite in SUITES {
        let mut crowd = Crowd::new(suite, 3);
        let away = crowd.0.remove(2);
        crowd.commit(0, Order::default());
        crowd.add(4, suite);
        let info = crowd.0[2].group_info().unwrap();
        let (mut back, commit) = Member::rejoin(&info, &away, away.epoch(), NOW).unwrap();
        for group in &mut crowd.0 {
            assert!(changed(group, &commit).is_external);
        }
        back.keep().unwrap();
        crowd.0.push(back);
        crowd.agree();
    }
}

#[test]
fn who_was_away_for_more_than_256_epochs_has_no_proof_any_more() {
    let mut crowd = Crowd::new(Suite::X25519Aes128, 3);
    let away = crowd.0.remove(2);
    for _ in 0..256 {
        crowd.commit(0, Order::default());
    }
    let info = crowd.0[1].group_info().unwrap();
    let (_, commit) = Member::rejoin(&info, &away, away.epoch(), NOW).unwrap();
    assert!(crowd.0[0].process(&commit, NOW).is_err());
}

#[test]
fn who_was_removed_does_not_come_back_by_itself() {
    let mut crowd = Crowd::new(Suite::Hybrid, 3);
    let away = crowd.0.remove(2);
    let gone = index_of(&crowd.0[0], 3);
    crowd.commit(0, Order { removes: vec![gone], ..Order::default() });
    let info = crowd.0[1].group_info().unwrap();
    match Member::rejoin(&info, &away, away.epoch(), NOW) {
        Err(_) => {}
        Ok((_, commit)) => assert!(crowd.0[0].process(&commit, NOW).is_err()),
    }
}

#[test]
fn nobody_rejoins_in_anothers_place() {
    let mut crowd = Crowd::new(Suite::X25519Aes128, 4);
    let away = crowd.0.remove(2);
    let (gone, other) = (index_of(&crowd.0[0], 3), member(9, Suite::X25519Aes128));
    crowd.commit(0, Order { removes: vec![gone], adds: vec![other.key_package(NOW).unwrap()], ..Order::default() });
    assert_eq!(index_of(&crowd.0[0], 9), gone); // its leaf has the place now
    let info = crowd.0[1].group_info().unwrap();
    match Member::rejoin(&info, &away, away.epoch(), NOW) {
        Err(_) => {}
        Ok((_, commit)) => assert!(crowd.0[0].process(&commit, NOW).is_err()),
    }
}

#[test]
fn a_credential_of_another_vlan_suite_key_or_person_is_refused() {
    let suite = Suite::X25519Aes128;
    let (key, other) = (SignerKey::generate(suite).unwrap(), SignerKey::generate(suite).unwrap());
    let right = credential(5, VLAN_ID, suite, key.public());
    assert!(Member::new(&key, VLAN_ID, right).is_ok());
    assert!(Member::new(&key, [8; 16], right).is_err());
    assert!(Member::new(&other, VLAN_ID, right).is_err());
    assert!(Member::new(&key, VLAN_ID, credential(5, VLAN_ID, Suite::Hybrid, key.public())).is_err());
    let mut stolen = right;
    stolen.identity = public(6);
    assert!(Member::new(&key, VLAN_ID, stolen).is_err());
    stolen = right;
    stolen.not_after += 1;
    assert!(Member::new(&key, VLAN_ID, stolen).is_err());
}

#[test]
fn a_key_package_of_another_suite_or_vlan_or_time_is_not_added() {
    let mut crowd = Crowd::new(Suite::Hybrid, 1);
    let classical = member(2, Suite::X25519Aes128).key_package(NOW).unwrap();
    let key = SignerKey::generate(Suite::Hybrid).unwrap();
    let elsewhere = Member::new(&key, [9; 16], credential(2, [9; 16], Suite::Hybrid, key.public())).unwrap();
    let late = member(2, Suite::Hybrid).key_package(NOT_AFTER + 1).unwrap();
    for package in [classical, elsewhere.key_package(NOW).unwrap(), late] {
        assert!(crowd.0[0].commit(&Order { adds: vec![package], ..Order::default() }, NOW).is_err());
    }
    assert_eq!(crowd.0[0].epoch(), 0);
    crowd.add(2, Suite::Hybrid);
    crowd.agree();
}

#[test]
fn the_same_person_is_not_added_twice() {
    let mut crowd = Crowd::new(Suite::X25519Aes128, 2);
    let again = member(2, Suite::X25519Aes128).key_package(NOW).unwrap();
    assert!(crowd.0[0].commit(&Order { adds: vec![again], ..Order::default() }, NOW).is_err());
}

#[test]
fn changed_messages_are_refused_and_change_nothing() {
    let mut crowd = Crowd::new(Suite::X25519Aes128, 3);
    let commit = crowd.0[0].commit(&Order::default(), NOW).unwrap();
    let (epoch, root) = (crowd.0[1].epoch(), crowd.0[1].root().clone());
    for at in (0..commit.message.len()).step_by(3) {
        let mut bad = commit.message.clone();
        bad[at] ^= 0x20;
        assert!(!matches!(crowd.0[1].process(&bad, NOW), Ok(Received::Commit(_))), "byte {at}");
        let _ = crowd.0[1].process(&commit.message[..at], NOW);
    }
    assert_eq!((crowd.0[1].epoch(), crowd.0[1].root()), (epoch, &root));
    changed(&mut crowd.0[1], &commit.message);
}
