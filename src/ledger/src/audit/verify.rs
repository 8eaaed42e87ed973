//! Reads a whole chain and names the first event that is not as it was written.

use std::ops::ControlFlow;

use super::chain::{next, start};
use crate::engine::{Broken, VerifyReport};
use crate::store::{ChainHead, Reads, StoreError};

/// Checks the chain against itself and against its head.
///
/// # Errors
/// When it cannot be read.
pub fn verify(reads: &mut impl Reads) -> Result<VerifyReport, StoreError> {
    let mut last = ChainHead {
        chain: reads.chain_head()?.chain,
        seq: 0,
        hash: start(),
        at: 0,
    };
    let mut broken = None;
    let head = reads.chain(&mut |event| {
        let right = next(&last, 0, &event.body);
        if event.seq != right.seq {
            broken = Some(Broken::Missing { seq: right.seq });
            return ControlFlow::Break(());
        }
        if event.hash != right.hash {
            broken = Some(Broken::Altered { seq: right.seq });
            return ControlFlow::Break(());
        }
        last = right;
        ControlFlow::Continue(())
    })?;
    if broken.is_none() {
        broken = match last.seq.cmp(&head.seq) {
            std::cmp::Ordering::Less => Some(Broken::CutOff {
                last: last.seq,
                head: head.seq,
            }),
            std::cmp::Ordering::Greater => Some(Broken::NotTheHead { seq: last.seq }),
            std::cmp::Ordering::Equal if last.hash != head.hash => {
                Some(Broken::NotTheHead { seq: last.seq })
            }
            std::cmp::Ordering::Equal => None,
        };
    }
    Ok(VerifyReport {
        chain: head.chain.to_string(),
        events: last.seq,
        head: (last.seq, last.hash.to_string()),
        broken,
    })
}
