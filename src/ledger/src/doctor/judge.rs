//! What a canary's fate says about the gate.

use super::Finding;
use super::canary::{Canary, Seen, Shape, Target};

/// Judges one canary.
pub(super) fn judge(target: &Target, canary: Canary, seen: &Seen) -> Finding {
    let checked = format!("{canary} {target}");
    match seen {
        Seen::Refused {
            status: 401,
            reason,
        } if reason == "vault_key_invalid" => {
            Finding::ok(checked, "refused by the gate on the ledger's word")
        }
        Seen::Refused {
            status: 503,
            reason,
        } if reason == "governance_unavailable" => Finding::fault(
            checked,
            "the gate stands and cannot reach the ledger: is it running, and does the cluster that `commands_cluster` of the \
             plugin configuration names lead to it?",
        ),
        Seen::Refused {
            status: 403,
            reason,
        } if reason == "governance_unavailable" => Finding::fault(
            checked,
            "nobody admitted or refused it, and the guard behind the gate stopped it: the filter is missing, switched off on this \
             route, behind the guard, or failed open",
        ),
        Seen::Refused { status, reason } if reason == "host_not_allowed" => Finding::fault(
            checked,
            format!(
                "{status} {reason}: this host and path belong to no vendor here; give the URL of a vendor's endpoint"
            ),
        ),
        Seen::Refused { status, reason } => Finding::fault(
            checked,
            format!(
                "{status} {reason}, where a key that nobody issued must get 401 vault_key_invalid"
            ),
        ),
        Seen::Foreign { status } => Finding::fault(
            checked,
            format!(
                "{status} from somebody who is not the gate: the request may have gone to the vendor. The filter is missing, in the \
                 wrong place or failed open. Send nothing through this listener"
            ),
        ),
        Seen::Silence if canary.shape == Shape::Read => {
            Finding::fault(checked, "no answer within 5 seconds")
        }
        Seen::Silence => Finding::fault(
            checked,
            "no answer within 5 seconds to a request with a body: is `allow_on_headers_stop_iteration: true` in the filter's \
             PluginConfig, and did the control plane let it through? (Envoy 1.36 or newer.)",
        ),
        Seen::Unreachable(cause) => Finding::fault(checked, format!("cannot connect: {cause}")),
        Seen::Broken(cause) => Finding::fault(
            checked,
            format!("the connection ended without an answer: {cause}"),
        ),
    }
}

/// Canaries that were refused and yet moved the vendor's counters each time.
pub(super) fn leaked(target: &Target, cluster: &str) -> Finding {
    Finding::fault(
        format!("calls to the vendor through {target}"),
        format!(
            "the canaries were refused, and cluster {cluster} was called all the same, each time they were sent: the gate says no and \
             lets the request pass. Send nothing through this listener"
        ),
    )
}

/// A vendor's cluster whose counters cannot be read: whether the canaries got there is not known.
pub(super) fn unseen(cluster: &str, cause: &str) -> Finding {
    Finding::fault(
        format!("calls to cluster {cluster}"),
        format!("whether the canaries reached the vendor cannot be seen: {cause}"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::canary::Protocol;
    use super::*;

    #[test]
    fn only_the_gates_own_refusal_is_right() {
        let target = Target::parse("http://127.0.0.1:10000/stripe/v1/charges").unwrap();
        let refused = |status, reason: &str| Seen::Refused {
            status,
            reason: reason.to_owned(),
        };
        #[rustfmt::skip]
        let rows = [
            (refused(401, "vault_key_invalid"), State::Ok, "on the ledger's word"),
            (refused(200, "vault_key_invalid"), State::Fault, "200 vault_key_invalid"),
            (refused(503, "governance_unavailable"), State::Fault, "cannot reach the ledger"),
            (refused(403, "governance_unavailable"), State::Fault, "guard behind the gate"),
            (refused(421, "host_not_allowed"), State::Fault, "no vendor here"),
            (refused(400, "request_not_inspectable"), State::Fault, "400 request_not_inspectable"),
            (Seen::Foreign { status: 401 }, State::Fault, "Send nothing"),
            (Seen::Foreign { status: 200 }, State::Fault, "Send nothing"),
            (Seen::Unreachable("refused".to_owned()), State::Fault, "cannot connect"),
            (Seen::Broken("reset".to_owned()), State::Fault, "without an answer"),
            (Seen::Silence, State::Fault, "allow_on_headers_stop_iteration"),
        ];
        let write = Canary {
            protocol: Protocol::Http2,
            shape: Shape::Write,
        };
        for (seen, state, part) in rows {
            let finding = judge(&target, write, &seen);
            assert_eq!(finding.state, state, "{seen:?}");
            assert!(
                finding.detail.contains(part),
                "{seen:?}: {}",
                finding.detail
            );
            assert!(finding.checked.starts_with("HTTP/2 POST http://127.0.0.1"));
        }
        let read = Canary {
            protocol: Protocol::Http1,
            shape: Shape::Read,
        };
        let finding = judge(&target, read, &Seen::Silence);
        assert!(
            !finding.detail.contains("allow_on_headers"),
            "a read has no body"
        );
    }
}
