//! Stands between a ledger and its database, and cuts the connection where a test says.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const OPEN: u8 = 0;
/// The next commit reaches the server; its answer does not come back.
const CUT_AFTER_COMMIT: u8 = 1;
/// The next commit does not reach the server.
const CUT_BEFORE_COMMIT: u8 = 2;
/// Nobody is let through.
const CLOSED: u8 = 3;

/// A simple query `COMMIT`, as it stands on the wire.
const COMMIT: &[u8] = b"COMMIT\0";

pub struct Relay {
    pub port: u16,
    mode: Arc<AtomicU8>,
    /// How many commits were cut.
    pub cuts: Arc<AtomicU32>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    /// Relays to this address.
    pub fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(OPEN));
        let cuts = Arc::new(AtomicU32::new(0));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let relay = Self {
            port,
            mode: Arc::clone(&mode),
            cuts: Arc::clone(&cuts),
            streams: Arc::clone(&streams),
        };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if mode.load(Ordering::SeqCst) == CLOSED {
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(&server) else {
                    continue;
                };
                {
                    let mut streams = streams.lock().unwrap();
                    streams.push(client.try_clone().unwrap());
                    streams.push(upstream.try_clone().unwrap());
                }
                let (back, forth) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                let (mode, cuts) = (Arc::clone(&mode), Arc::clone(&cuts));
                std::thread::spawn(move || copy_commands(client, upstream, &mode, &cuts));
                std::thread::spawn(move || copy(forth, back));
            }
        });
        relay
    }

    pub fn cut_after_next_commit(&self) {
        self.mode.store(CUT_AFTER_COMMIT, Ordering::SeqCst);
    }

    pub fn cut_before_next_commit(&self) {
        self.mode.store(CUT_BEFORE_COMMIT, Ordering::SeqCst);
    }

    /// Ends every connection and lets nobody through.
    pub fn close(&self) {
        self.mode.store(CLOSED, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn open(&self) {
        self.mode.store(OPEN, Ordering::SeqCst);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0_u8; 65_536];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn copy_commands(mut client: TcpStream, mut server: TcpStream, mode: &AtomicU8, cuts: &AtomicU32) {
    let mut buffer = [0_u8; 65_536];
    while let Ok(count) = client.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let is_commit = buffer[..count]
            .windows(COMMIT.len())
            .any(|window| window == COMMIT);
        let wanted = mode.load(Ordering::SeqCst);
        if is_commit && (wanted == CUT_AFTER_COMMIT || wanted == CUT_BEFORE_COMMIT) {
            mode.store(OPEN, Ordering::SeqCst);
            // The client hears nothing any more, whatever the server says.
            let _ = client.shutdown(Shutdown::Both);
            if wanted == CUT_AFTER_COMMIT {
                let _ = server.write_all(&buffer[..count]);
            }
            cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // What was sent is still read by the server before it sees the end.
    let _ = server.shutdown(Shutdown::Write);
    let _ = client.shutdown(Shutdown::Both);
}
