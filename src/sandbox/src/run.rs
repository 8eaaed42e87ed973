//! Start and stop: opens everything, says that it is ready, serves until a signal.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::clock::{Clock, ClockError};
use crate::config::{Args, SecretError};
use crate::control::{self, Control};
use crate::exchange::Shop;
use crate::ids::Ids;
use crate::journal::{Journal, JournalError};
use crate::server::Server;
use crate::tls::{self, TlsError};
use crate::vendor::Vendor;
use crate::wire::Meter;

/// Why the sandbox does not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum StartError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Clock(#[from] ClockError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the control API listens on loopback only, not on {0}")]
    ControlNotLoopback(SocketAddr),
    #[error("the system gives no randomness: {0}")]
    Randomness(getrandom::Error),
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// The one line on standard output.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    listen: SocketAddr,
    control: SocketAddr,
    ca: Option<PathBuf>,
}

/// Runs the sandbox until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start; nothing is left running then.
pub async fn run(args: &Args) -> Result<(), StartError> {
    let secret = args.secret()?;
    let clock = Clock::new(args.clock.clone())?;
    let journal = args.state.as_deref().map(Journal::open).transpose()?;
    let ids = Ids::draw().map_err(StartError::Randomness)?;
    // A signal that comes while starting is kept for the moment when somebody listens to it.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    if !args.control().ip().is_loopback() {
        return Err(StartError::ControlNotLoopback(args.control()));
    }
    let (listener, listen) = bind(args.listen()).await?;
    let (control_listener, control_address) = bind(args.control()).await?;
    let (tls, ca) = match (&args.cert_dir, args.plain) {
        (Some(folder), false) => {
            let (acceptor, ca) = tls::set_up(folder, &args.tls_name)?;
            (Some(acceptor), Some(ca))
        }
        _ => (None, None),
    };

    let shop = Arc::new(Shop::new(Vendor::new(ids, journal), clock, secret));
    let meter = Arc::new(Meter::default());
    let (stop, stopped) = watch::channel(false);
    let routes = control::routes(Control {
        shop: Arc::clone(&shop),
        meter: Arc::clone(&meter),
    });
    // No graceful end: nobody waits for the control API, and an idle keep-alive connection must not hold up the stop.
    let controlling = tokio::spawn(async move { axum::serve(control_listener, routes).await });
    let serving = tokio::spawn(Server { shop, meter, tls }.serve(listener, stopped));

    let ready = Ready {
        ready: true,
        listen,
        control: control_address,
        ca,
    };
    let line = serde_json::to_string(&ready).map_err(std::io::Error::from)?;
    writeln!(std::io::stdout(), "{line}")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    let _ = stop.send(true);
    let _ = serving.await;
    controlling.abort();
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
