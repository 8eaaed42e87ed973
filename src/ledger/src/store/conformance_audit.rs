//! What every store must do for the audit: signed heads, and the pieces that a verification reads.

use super::*;

pub fn signed_heads_are_kept_in_order<B: Backend>() {
    let backend = B::new();
    let mut store = backend.store();
    store.begin().unwrap();
    assert_eq!(store.last_signed_heads().unwrap(), None);
    let head = audit::next(&store.chain_head().unwrap(), NOON, b"{}");
    store.add_event(&head, b"{}").unwrap();
    store.set_chain_head(&head).unwrap();
    assert_eq!(store.event_hash(1).unwrap(), Some(head.hash));
    assert_eq!(store.event_hash(2).unwrap(), None);
    store.add_signed_heads(1, "first").unwrap();
    store.add_signed_heads(1, "second").unwrap();
    store.commit().unwrap();
    store.begin().unwrap();
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
