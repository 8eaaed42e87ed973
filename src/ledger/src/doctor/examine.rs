//! The whole examination: Envoy's configuration when its admin port may be asked, then every canary on every target.

use std::collections::BTreeMap;

use super::canary::{Canary, Target, send};
use super::config::inspect;
use super::envoy::{Admin, version};
use super::judge::{judge, leaked, unseen};
use super::{Finding, State};

/// Counters that move once may have been moved by others; a gate that leaks moves them each time.
const TRIES: usize = 5;

/// Examines a gate. `tell` hears of each finding as it is made.
pub async fn examine(
    targets: &[Target],
    admin: Option<&Admin>,
    mut tell: impl FnMut(&Finding),
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut found = |finding: Finding| {
        tell(&finding);
        findings.push(finding);
    };
    let mut clusters = Vec::new();
    if let Some(admin) = admin {
        match admin.json("/server_info").await {
            Ok(info) => found(version(&info)),
            Err(cause) => found(Finding::fault("Envoy's admin port", cause)),
        }
        match admin.json("/config_dump").await {
            Ok(dump) => {
                let inspected = inspect(&dump);
                inspected.findings.into_iter().for_each(&mut found);
                clusters.extend(inspected.vendor_clusters);
            }
            Err(cause) => found(Finding::fault("Envoy's configuration", cause)),
        }
    }
    for target in targets {
        for finding in try_all(target, admin, &clusters).await {
            found(finding);
        }
    }
    findings
}

/// Sends every canary at once, and again while the counters of a vendor's cluster move with them.
async fn try_all(target: &Target, admin: Option<&Admin>, clusters: &[String]) -> Vec<Finding> {
    let mut moved = None;
    let mut findings = Vec::new();
    for _ in 0..TRIES {
        let before = counters(admin, clusters).await;
        findings = round(target).await;
        let after = counters(admin, clusters).await;
        let (before, after) = match (before, after) {
            (Ok(before), Ok(after)) => (before, after),
            (Err(unseen), _) | (_, Err(unseen)) => {
                findings.push(unseen);
                return findings;
            }
        };
        moved = clusters
            .iter()
            .zip(before.iter().zip(&after))
            .find(|(_, (before, after))| before != after)
            .map(|(cluster, _)| cluster);
        let is_refused = findings.iter().all(|finding| finding.state == State::Ok);
        if moved.is_none() || !is_refused {
            return findings;
        }
    }
    findings.extend(moved.map(|cluster| leaked(target, cluster)));
    findings
}

/// Every canary once, all at the same time, in their order.
pub(super) async fn round(target: &Target) -> Vec<Finding> {
    let sent: Vec<_> = Canary::ALL
        .into_iter()
        .map(|canary| {
            let target = target.clone();
            tokio::spawn(async move { judge(&target, canary, &send(&target, canary).await) })
        })
        .collect();
    let mut findings = Vec::new();
    for canary in sent {
        findings.push(canary.await.unwrap_or_else(|error| {
            Finding::fault(
                target.to_string(),
                format!("a canary could not be sent: {error}"),
            )
        }));
    }
    findings
}

/// What each cluster was sent, or the fault that it cannot be seen.
async fn counters(
    admin: Option<&Admin>,
    clusters: &[String],
) -> Result<Vec<BTreeMap<String, u64>>, Finding> {
    let Some(admin) = admin else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for cluster in clusters {
        let sent = admin.sent_to(cluster).await;
        all.push(sent.map_err(|cause| unseen(cluster, &cause))?);
    }
    Ok(all)
}
