use proptest::prelude::*;

use super::*;

/// Percent-encodes all but letters and digits.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn written(fields: &Fields) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|field| format!("{}={}", encode(&field.name), encode(&field.value)))
        .collect();
    pairs.join("&")
}

#[test]
fn alike_values_in_unlike_encodings_are_the_same_fields() {
    let python = parse(b"a=b+c&list[0]=x&list[1]=y").unwrap();
    for other in [
        "a=b%20c&list[0]=x&list[1]=y",
        "list[1]=y&a=b+c&list[0]=x",
        "list[]=x&a=b+c&list[]=y",
        "%6cist%5B%5D=x&a=b+c&list%5b%5d=y",
    ] {
        assert_eq!(parse(other.as_bytes()).unwrap(), python, "{other}");
    }
    assert_ne!(parse(b"a=b%2Bc&list[0]=x&list[1]=y").unwrap(), python);
}

#[test]
fn a_letter_is_encoded_whole_or_not_at_all() {
    for half in [&b"a=\xc3%A9"[..], b"a=%C3\xa9", b"\xff=1"] {
        assert!(parse(half).is_err(), "{half:?}");
    }
    assert_eq!(parse(b"a=\xc3\xa9").unwrap(), parse(b"a=%C3%A9").unwrap());
}

#[test]
fn each_rule_stands_by_itself_on_names_that_mean_nothing_to_the_pack() {
    for text in [
        "a=1&a=2",
        "a=1&a[x]=2",
        "a[x]=1&a[x][y]=2",
        "a[][b]=1",
        "a[]=1&a[x]=2",
        "a[]=1&a[0]=2",
        "a[0]=1&a[00]=2",
        "Aa=1&aa=2",
        "a",
        "a=1&&b=2",
        "a=1&",
        "=1",
        "a b=1",
        "a[ b]=1",
        "a[b =1",
        "a[b]c=1",
        "a[b[c]]=1",
        "a.b=1",
        "a=1;b=2",
        "a=1 ",
        "a=%00",
        "a=%g1",
        "a=%e9",
        "a[%01]=1",
        "a[b][c][d][e][f][g][h][i]=1",
    ] {
        assert!(parse(text.as_bytes()).is_err(), "{text}");
    }
    assert!(parse(b"a[b][c][d][e][f][g][h]=1").is_ok());
}

#[test]
fn time_is_bounded_on_names_that_share_their_beginning() {
    let names: Vec<String> = (1..1_000)
        .map(|length| format!("{}[]=1", "a".repeat(length)))
        .collect();
    assert!(parse(names.join("&").as_bytes()).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn what_is_accepted_reads_the_same_when_written_again(
        text in "([a-c%+=&\\[\\]0-2 é;]|%5B|%5D|%20|%41|a\\[b\\]=|&a=){0,20}",
    ) {
        if let Ok(fields) = parse(text.as_bytes()) {
            prop_assert_eq!(parse(written(&fields).as_bytes()), Ok(fields));
        }
    }

    #[test]
    fn well_formed_pairs_are_accepted_and_kept(
        pairs in proptest::collection::btree_map("[a-z_]{1,8}", "\\PC{0,12}", 0..20),
    ) {
        let text: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let fields = parse(text.join("&").as_bytes()).unwrap();
        let found: Vec<(&str, &str)> = fields.iter().map(|field| (field.name.as_str(), field.value.as_str())).collect();
        let expected: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_order_of_pairs_does_not_count(
        pairs in proptest::collection::btree_map("[a-z]{1,3}(\\[[a-z]{1,3}\\])?", "[a-z]{0,3}", 0..12).prop_shuffle_pairs(),
    ) {
        let (one, other) = pairs;
        prop_assert_eq!(parse(one.as_bytes()), parse(other.as_bytes()));
    }
}

/// The pairs in order and in some other order.
trait ShufflePairs {
    fn prop_shuffle_pairs(self) -> BoxedStrategy<(String, String)>;
}

impl<S> ShufflePairs for S
where
    S: Strategy<Value = std::collections::BTreeMap<String, String>> + 'static,
{
    fn prop_shuffle_pairs(self) -> BoxedStrategy<(String, String)> {
        self.prop_map(|pairs| {
            pairs
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
        })
        .prop_flat_map(|pairs| (Just(pairs.clone()), Just(pairs).prop_shuffle()))
        .prop_map(|(one, other)| (one.join("&"), other.join("&")))
        .boxed()
    }
}

#[test]
fn a_field_is_found_however_many_there_are() {
    for count in [1, 2, 15, 16, 17, 18, 999] {
        let names: Vec<String> = (0..count).map(|n| format!("x{n}")).collect();
        let body: Vec<String> = names.iter().map(|name| format!("{name}={name}")).collect();
        let fields = parse(body.join("&").as_bytes()).unwrap();
        for name in &names {
            assert_eq!(
                fields.get(name).map(|field| &field.value),
                Some(name),
                "{count}"
            );
        }
        for other in ["", "x", "X0", "x00", "x1000", "y"] {
            assert_eq!(fields.get(other), None, "{count} {other}");
        }
    }
}
