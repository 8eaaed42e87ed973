//! Doors: the TCP ports and the Unix socket that requests come in by, and how connections end.
//!
//! Here: binding with a clear word when it fails, replacing the socket of a dead service, the accept loop with its
//! bounds, the graceful end. Not here: what is served.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Most open connections of one door; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 1024;
/// For the whole head of a request of the public API, and for an idle HTTP/1.1 connection to end.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// The same for the filter's own connections, which idle at night and must not be cut just as a batch sets out.
const FILTER_HEADER_TIMEOUT: Duration = Duration::from_secs(600);
/// After an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Largest HTTP/2 flow-control window of a stream: one whole batch.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Largest HTTP/2 flow-control window of a connection.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Most HTTP/2 streams of one connection at a time.
const MAX_STREAMS: u32 = 256;

/// A door that could not be opened. One clear line.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The address is in use.
    #[error("{0} is already in use: another service listens there")]
    AddressInUse(SocketAddr),
    /// Another service listens on the socket.
    #[error("{0} is in use: another ledger listens there")]
    SocketInUse(PathBuf),
    /// The path holds something that is not a socket.
    #[error("{0} exists and is not a socket: will not replace it")]
    NotASocket(PathBuf),
    /// The system said no.
    #[error("cannot listen on {place}: {cause}")]
    System {
        /// Address or path.
        place: String,
        /// The system's words.
        cause: io::Error,
    },
}

/// Opens a TCP port.
///
/// # Errors
/// [`DoorError`].
pub async fn tcp(address: SocketAddr) -> Result<TcpListener, DoorError> {
    TcpListener::bind(address)
        .await
        .map_err(|cause| match cause.kind() {
            io::ErrorKind::AddrInUse => DoorError::AddressInUse(address),
            _ => DoorError::System {
                place: address.to_string(),
                cause,
            },
        })
}

/// A Unix socket, removed again when this is dropped.
pub struct Socket {
    /// Taken by the accept loop.
    pub listener: UnixListener,
    /// Keeps the file.
    pub file: SocketFile,
}

/// The file of a Unix socket; dropping it removes the file, unless another service has put its own there.
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a Unix socket that only our user may use. The socket of a dead service is replaced; a live one is not.
///
/// # Errors
/// [`DoorError`].
pub async fn unix(path: &Path) -> Result<Socket, DoorError> {
    let system = |cause| DoorError::System {
        place: path.display().to_string(),
        cause,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(DoorError::NotASocket(path.to_owned()));
        }
        Ok(_) => match tokio::net::UnixStream::connect(path).await {
            Ok(_) => return Err(DoorError::SocketInUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(system(error)),
        },
    }
    // Made under another name and moved into place, so that it is never there with open permissions.
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let _ = fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft).map_err(system)?;
    let placed = fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| fs::symlink_metadata(path));
    match placed {
        Ok(found) => Ok(Socket {
            listener,
            file: SocketFile {
                path: path.to_owned(),
                inode: found.ino(),
            },
        }),
        Err(error) => {
            let _ = fs::remove_file(&draft);
            Err(system(error))
        }
    }
}

/// Which HTTP a door speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/1.1: the public API.
    One,
    /// HTTP/1.1 and HTTP/2 with prior knowledge: commands.
    OneAndTwo,
}

/// Something that accepts connections.
pub trait Door: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection.
    fn next(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Door for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn next(&mut self) -> io::Result<Self::Stream> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Door for UnixListener {
    type Stream = tokio::net::UnixStream;
    async fn next(&mut self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves a door until `stop` turns true, then lets the requests at work end, for at most `drain`.
pub fn serve<D, S>(
    mut door: D,
    versions: Versions,
    service: S,
    mut stop: watch::Receiver<bool>,
    drain: Duration,
) -> JoinHandle<()>
where
    D: Door,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    tokio::spawn(async move {
        let builder = Arc::new(builder(versions));
        let open = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => break,
                accepted = admit(&mut door, &open) => accepted,
            };
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let connection = builder
                .serve_connection(TokioIo::new(stream), service.clone())
                .into_owned();
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(error, "connection ended");
                }
                drop(permit);
            });
        }
        drop(door);
        if tokio::time::timeout(drain, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("requests were still at work at the end of the drain time");
        }
    })
}

/// The next connection, once there is room for it.
async fn admit<D: Door>(
    door: &mut D,
    open: &Arc<Semaphore>,
) -> io::Result<(D::Stream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(open)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    Ok((door.next().await?, permit))
}

fn builder(versions: Versions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let header_timeout = match versions {
        Versions::One => HEADER_TIMEOUT,
        Versions::OneAndTwo => FILTER_HEADER_TIMEOUT,
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(64 * 1024);
    match versions {
        Versions::One => builder.http1_only(),
        Versions::OneAndTwo => builder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead socket is left behind");

        let first = unix(&path).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(unix(&path).await, Err(DoorError::SocketInUse(_))));
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
        drop(first);
        assert!(!path.exists(), "it is removed at the end");

        fs::write(&path, "precious").unwrap();
        assert!(matches!(unix(&path).await, Err(DoorError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.sock");
        let first = unix(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let second = unix(&path).await.unwrap();
        drop(first.file);
        assert!(path.exists());
        drop(second.file);
        assert!(!path.exists());
    }
}
