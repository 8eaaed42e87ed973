//! What every store must do for the audit: signed heads, and the pieces that a verification reads.

use super::*;
use crate::model::UnknownQuery;

pub fn signed_heads_are_kept_in_order<B: Backend>() {
    let backend = B::new();
    let mut store = backend.store();
    store.begin(&Ahead::Chores).unwrap();
    assert_eq!(store.last_signed_heads().unwrap(), None);
    let head = audit::next(&store.chain_head().unwrap(), NOON, b"{}");
    store.add_event(&head, b"{}").unwrap();
    store.set_chain_head(&head).unwrap();
    assert_eq!(store.event_hash(1).unwrap(), Some(head.hash));
    assert_eq!(store.event_hash(2).unwrap(), None);
    store.add_signed_heads(1, "first").unwrap();
    store.add_signed_heads(1, "second").unwrap();
    store.commit().unwrap();
    store.begin(&Ahead::Chores).unwrap();
    store.add_signed_heads(1, "third").unwrap();
    store.rollback();
    assert_eq!(
        store.last_signed_heads().unwrap().as_deref(),
        Some("second")
    );
    let read = backend.reads().last_signed_heads().unwrap();
    assert_eq!(read.as_deref(), Some("second"));
}

pub fn the_pieces_of_the_audit_come_in_their_order<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let first = put(&mut store, key, 1, NOON, 5);
    put(&mut store, key, 2, NOON + 1, 6);
    let change = changed(SETTLED, AttemptState::Executed, said("ch_1"));
    store.change_hold(first, &change).unwrap();
    store.put_balance(key, 0, Parts::untouched(usd(5))).unwrap();
    let mut head = store.chain_head().unwrap();
    for number in 1..=3_u8 {
        head = audit::next(&head, NOON, &[number]);
        store.add_event(&head, &[number]).unwrap();
        if number == 2 {
            store.add_signed_heads(2, "second").unwrap();
        }
    }
    store.add_signed_heads(9, "beyond").unwrap();
    store.set_chain_head(&head).unwrap();
    store.commit().unwrap();
    let mut reads = backend.reads();
    let told = |piece: &Piece| match piece {
        Piece::Event(event) => format!("event {}", event.seq),
        Piece::Signed(line) => line.clone(),
        Piece::Key(full) => full.key.key_id.clone(),
        Piece::Budget(full) => full.budget.name.clone(),
        Piece::Request(row) => format!("{:?} {:?} {:?}", row.cost, row.state.hold, row.object),
        Piece::Balance(row) => format!("balance {} {}", row.subject == key, row.window),
    };
    let mut seen = Vec::new();
    let read = reads
        .pieces(&mut |piece| {
            seen.push(told(&piece));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(read, head);
    let held = format!("{:?} Held None", Some(usd(6)));
    let settled = format!("{:?} Settled Some(\"ch_1\")", Some(usd(9)));
    assert_eq!(
        seen,
        [
            "event 1",
            "event 2",
            "second",
            "event 3",
            "beyond",
            "vk_k",
            &settled,
            &held,
            "balance true 0"
        ]
    );
    let mut count = 0;
    let mut stop_at_the_third = |_| {
        count += 1;
        if count == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    reads.pieces(&mut stop_at_the_third).unwrap();
    assert_eq!(count, 3);
}

pub fn a_resolution_names_its_event_and_perhaps_an_object<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let number = put(&mut store, key, 1, NOON, 5);
    let change = changed(SETTLED, AttemptState::Executed, said("pi_1"));
    store.change_hold(number, &change).unwrap();
    let mut head = store.chain_head().unwrap();
    for body in [&b"{}"[..], br#"{"at":7,"evidence":"vendor_replay"}"#] {
        head = audit::next(&head, NOON, body);
        store.add_event(&head, body).unwrap();
    }
    store.set_chain_head(&head).unwrap();
    store.set_resolution(number, 2, None, None).unwrap();
    let row = store.hold(number).unwrap().unwrap();
    assert_eq!(row.object.as_deref(), Some("pi_1"), "left as it was");
    store
        .set_resolution(number, 2, Some("pi_2"), Some("ch_2"))
        .unwrap();
    store.commit().unwrap();
    let mut reads = backend.reads();
    let entry = reads.entry(id(1)).unwrap().unwrap();
    assert_eq!(entry.vendor_object_id.as_deref(), Some("pi_2"));
    assert_eq!(entry.stripe_charge_id.as_deref(), Some("ch_2"));
    let resolution = entry.resolution.unwrap();
    assert_eq!(resolution.at, timestamp(7));
    assert_eq!(resolution.evidence, "vendor_replay");
    assert_eq!(reads.entry(id(2)).unwrap(), None);
    store.begin(&Ahead::Chores).unwrap();
    store
        .set_resolution(number, 2, Some("ch_3"), Some("ch_3"))
        .unwrap();
    store.commit().unwrap();
    let entry = reads.entry(id(1)).unwrap().unwrap();
    assert_eq!(entry.stripe_charge_id.as_deref(), Some("ch_3"));
}

pub fn unknown_requests_come_oldest_first_and_are_summed_per_key<B: Backend>() {
    const UNKNOWN: State = State {
        record: RecordState::Unknown,
        hold: HoldState::Unknown,
    };
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let other = store.add_key(&self::key("other"), None).unwrap();
    for (counter, key) in [(1, key), (2, other), (3, key), (4, key)] {
        let at = NOON + i64::try_from(counter).unwrap();
        let number = put(&mut store, key, counter, at, 5);
        if counter != 3 {
            let change = changed(UNKNOWN, AttemptState::Indeterminate, None);
            store.change_hold(number, &change).unwrap();
        }
    }
    store.commit().unwrap();
    let mut reads = backend.reads();
    let now = NOON + 10;
    let listed = |reads: &mut B::Reads, key_id: Option<&str>, cursor: Option<String>| {
        let query = UnknownQuery {
            key_id: key_id.map(str::to_owned),
            limit: 2,
            cursor,
        };
        let page = reads.unknown_requests(&query, now).unwrap();
        let ages: Vec<i64> = page.items.iter().map(|one| one.age_ms).collect();
        (ages, page.next_cursor)
    };
    let (ages, cursor) = listed(&mut reads, None, None);
    assert_eq!(ages, [9, 8]);
    assert_eq!(listed(&mut reads, None, cursor), (vec![6], None));
    assert_eq!(listed(&mut reads, Some("vk_k"), None), (vec![9, 6], None));
    let of_key = reads.unknown_of("vk_k", now).unwrap();
    assert_eq!((of_key.count, of_key.amount), (2, usd(18)));
    assert_eq!(of_key.oldest_age_ms, Some(9));
    assert_eq!(reads.unknown_of("vk_?", now).unwrap().count, 0);
    assert_eq!(reads.unknown(now).unwrap().count, 3);
}
