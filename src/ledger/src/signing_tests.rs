//! The key's file is made once and for its owner; kept heads are read back over whatever broke off.

use super::*;
use crate::audit::Head;
use keybrake_contract::digest::Digest;

fn signed(key: &SigningKey, seq: u64) -> SignedHeads {
    let head = Head {
        chain: "c".to_owned(),
        hash: Digest::of(b"x"),
        seq,
    };
    key.sign(1, vec![head]).unwrap()
}

#[test]
fn a_key_is_made_once_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k");
    assert!(read_key(&path).unwrap().is_none());
    let made = make_key(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(read_key(&path).unwrap().unwrap().public(), made.public());
    assert!(make_key(&path).is_err(), "never over another one");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(read_key(&path).unwrap().unwrap().public(), made.public());
}

#[test]
fn a_key_that_others_may_read_or_that_is_none_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k");
    make_key(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
    let error = read_key(&path).err().unwrap().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    let other = folder.path().join("other");
    std::fs::write(&other, "hello").unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
    let error = read_key(&other).err().unwrap().to_string();
    assert!(error.contains("not an Ed25519 private key"), "{error}");
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn heads_are_kept_in_order_and_found_again_over_a_line_that_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let key = make_key(&folder.path().join("k")).unwrap();
    let path = folder.path().join("heads");
    let (file, last) = HeadsFile::open(&path).unwrap();
    assert_eq!(last, None);
    for seq in 1..=3 {
        file.keep(&signed(&key, seq).to_line().unwrap());
    }
    drop(file);
    let mut text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 3);
    text.push_str(r#"{"at":1,"hea"#);
    std::fs::write(&path, &text).unwrap();
    let (file, last) = HeadsFile::open(&path).unwrap();
    assert_eq!(last, Some(signed(&key, 3)));
    file.keep(&signed(&key, 4).to_line().unwrap());
    drop(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        SignedHeads::parse(text.lines().last().unwrap()),
        Ok(signed(&key, 4))
    );
    std::fs::write(&path, text.replace("\"seq\":4", "\"seq\":5")).unwrap();
    let error = HeadsFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("the signature is wrong"), "{error}");
}
