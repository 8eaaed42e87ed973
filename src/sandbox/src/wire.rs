//! Sockets that count what comes in and can be ended the hard way.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// What all connections received.
#[derive(Debug, Default)]
pub struct Meter {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// TLS handshakes that failed.
    pub tls_failures: AtomicU64,
    /// Bytes as they came over TCP.
    pub tcp_bytes_received: AtomicU64,
    /// Bytes after decryption.
    pub bytes_received: AtomicU64,
}

impl Meter {
    /// Back to zero. Connections that are open stay open and are not counted again.
    pub fn reset(&self) {
        for counter in [
            &self.connections,
            &self.tls_failures,
            &self.tcp_bytes_received,
            &self.bytes_received,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// A TCP socket that several owners may touch.
#[derive(Debug)]
pub struct Wire {
    socket: Arc<TcpStream>,
    meter: Arc<Meter>,
}

impl Wire {
    /// Wraps an accepted socket.
    #[must_use]
    pub fn new(socket: TcpStream, meter: Arc<Meter>) -> Self {
        Self {
            socket: Arc::new(socket),
            meter,
        }
    }

    /// The way to end this connection from elsewhere.
    #[must_use]
    pub fn ender(&self) -> Arc<Ender> {
        Arc::new(Ender {
            socket: Arc::clone(&self.socket),
            asked: Notify::new(),
            how: OnceLock::new(),
            before: Mutex::new(Vec::new()),
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    count(&self.meter.tcp_bytes_received, read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_with(cx, |socket| socket.try_write(data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_with(cx, |socket| socket.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.socket).shutdown(Shutdown::Write))
    }
}

impl Wire {
    fn write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match write(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

fn count(counter: &AtomicU64, read: usize) {
    counter.fetch_add(u64::try_from(read).unwrap_or_default(), Ordering::Relaxed);
}

/// How a connection ends on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// RST.
    Reset,
    /// FIN.
    Close,
}

/// Ends a connection, and puts raw bytes before the next answer.
#[derive(Debug)]
pub struct Ender {
    socket: Arc<TcpStream>,
    asked: Notify,
    how: OnceLock<End>,
    before: Mutex<Vec<u8>>,
}

impl Ender {
    /// Asks the connection's task to end it.
    pub fn end(&self, how: End) {
        let _ = self.how.set(how);
        self.asked.notify_one();
    }

    /// Waits until somebody asks, and prepares the socket: when its last owner drops it, it ends as asked.
    ///
    /// # Errors
    /// When the socket is gone already.
    pub async fn asked(&self) -> io::Result<()> {
        self.asked.notified().await;
        let socket = SockRef::from(&*self.socket);
        match self.how.get() {
            Some(End::Reset) => socket.set_linger(Some(Duration::ZERO)),
            Some(End::Close) => socket.shutdown(Shutdown::Write),
            None => Ok(()),
        }
    }

    /// Bytes to write raw before the next answer.
    pub fn write_before(&self, bytes: Vec<u8>) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }
}

/// The stream that HTTP reads: counts decrypted bytes.
#[derive(Debug)]
pub struct Tap<S> {
    inner: S,
    meter: Arc<Meter>,
    ender: Arc<Ender>,
}

impl<S> Tap<S> {
    /// Wraps the decrypted stream.
    pub fn new(inner: S, meter: Arc<Meter>, ender: Arc<Ender>) -> Self {
        Self {
            inner,
            meter,
            ender,
        }
    }
}

impl<S: AsyncWrite + Unpin> Tap<S> {
    /// Writes the raw bytes that come before the next answer, if there are any.
    fn write_raw(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ender = Arc::clone(&self.ender);
        let mut before = ender.before.lock().unwrap_or_else(PoisonError::into_inner);
        while !before.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &before))?;
            before.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        count(
            &self.meter.bytes_received,
            buf.filled().len().saturating_sub(before),
        );
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.write_raw(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.write_raw(cx))?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
