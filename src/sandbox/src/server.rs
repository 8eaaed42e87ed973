//! The vendor's listener: accepts, does TLS, serves HTTP/1.1 and HTTP/2, ends connections on purpose or gracefully.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::arrival::Origin;
use crate::exchange::{Shop, exchange};
use crate::wire::{Ender, Meter, Tap, Wire};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open requests may go on after a stop was asked for.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// The pause after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The vendor's listener.
#[derive(Clone)]
pub struct Server {
    /// What all exchanges share.
    pub shop: Arc<Shop>,
    /// Counts of all connections.
    pub meter: Arc<Meter>,
    /// TLS, or none for plain HTTP.
    pub tls: Option<TlsAcceptor>,
}

impl Server {
    /// Serves until `stop` turns true and the open requests ended or their grace is over.
    pub async fn serve(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((socket, _)) => {
                    let connection = self
                        .meter
                        .connections
                        .fetch_add(1, Ordering::Relaxed)
                        .saturating_add(1);
                    let (server, stop, alive) = (self.clone(), stop.clone(), alive.clone());
                    tokio::spawn(async move {
                        server.connection(socket, connection, stop).await;
                        drop(alive);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((listener, alive));
        let _ = tokio::time::timeout(STOP_GRACE, all_gone.recv()).await;
    }

    async fn connection(&self, socket: TcpStream, connection: u64, stop: watch::Receiver<bool>) {
        let _ = socket.set_nodelay(true);
        let wire = Wire::new(socket, Arc::clone(&self.meter));
        let ender = wire.ender();
        let Some(tls) = &self.tls else {
            return self
                .http(
                    wire,
                    Origin {
                        connection,
                        sni: None,
                    },
                    ender,
                    stop,
                )
                .await;
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(wire)).await {
            Ok(Ok(stream)) => {
                let sni = stream.get_ref().1.server_name().map(Arc::from);
                self.http(stream, Origin { connection, sni }, ender, stop)
                    .await;
            }
            failed => {
                self.meter.tls_failures.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(connection, reason = ?failed.map(|done| done.err()), "no TLS handshake");
            }
        }
    }

    async fn http<S>(
        &self,
        stream: S,
        origin: Origin,
        ender: Arc<Ender>,
        mut stop: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tap = Tap::new(stream, Arc::clone(&self.meter), Arc::clone(&ender));
        let service = service_fn(|request: Request<Incoming>| {
            exchange(
                Arc::clone(&self.shop),
                origin.clone(),
                Arc::clone(&ender),
                request,
            )
        });
        let builder = auto::Builder::new(TokioExecutor::new());
        let serving = builder.serve_connection(TokioIo::new(tap), service);
        tokio::pin!(serving);
        let mut stopping = false;
        loop {
            tokio::select! {
                done = serving.as_mut() => {
                    if let Err(error) = done {
                        tracing::debug!(%error, "a connection ended");
                    }
                    return;
                }
                // Dropping the connection after this closes the socket the way it was asked for.
                _ = ender.asked() => return,
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
