//! The yardstick for a reserve: a conditional debit by a Lua script on Redis.

use std::time::{Duration, Instant};

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::measure::Figures;

/// Takes `ARGV[1]` from the key when so much is left, else leaves it: what a cap needs.
const DEBIT: &str = "local left = tonumber(redis.call('GET', KEYS[1])) \
    if left >= tonumber(ARGV[1]) then return redis.call('DECRBY', KEYS[1], ARGV[1]) else return -1 end";

/// Where.
#[derive(Args)]
pub struct Options {
    /// `127.0.0.1:6379`.
    #[arg(long)]
    address: String,
    /// Spread over so many keys; 1 = a hot key.
    #[arg(long, default_value_t = 1)]
    keys: usize,
}

/// Runs all clients to the end of the time.
pub async fn run(options: Options, clients: usize, seconds: Duration) -> Figures {
    let mut setup = Connection::open(&options.address).await;
    for key in 0..options.keys {
        setup
            .call(&["SET", &format!("cap-{key}"), "1000000000000"])
            .await;
    }
    let digest = setup
        .call(&["SCRIPT", "LOAD", DEBIT])
        .await
        .lines()
        .last()
        .expect("a digest")
        .to_owned();
    let start = Instant::now();
    let until = start + seconds;
    let mut running = Vec::new();
    for client in 0..clients {
        let (address, digest) = (options.address.clone(), digest.clone());
        let key = format!("cap-{}", client % options.keys);
        running.push(tokio::spawn(async move {
            let mut connection = Connection::open(&address).await;
            let mut figures = Figures::default();
            while Instant::now() < until {
                let since = Instant::now();
                let answer = connection.call(&["EVALSHA", &digest, "1", &key, "1"]).await;
                if answer.starts_with(':') {
                    figures.answered(since)
                } else {
                    figures.failed(answer)
                }
            }
            figures
        }));
    }
    let mut parts = Vec::new();
    for client in running {
        parts.push(client.await.expect("a client that does not panic"));
    }
    Figures::merge(parts, start.elapsed())
}

struct Connection(TcpStream);

impl Connection {
    async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("a Redis server");
        stream.set_nodelay(true).expect("a TCP socket");
        Self(stream)
    }

    /// One command and its short answer.
    async fn call(&mut self, words: &[&str]) -> String {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0
            .write_all(request.as_bytes())
            .await
            .expect("a Redis that listens");
        let mut answer = Vec::new();
        loop {
            assert_ne!(
                self.0
                    .read_buf(&mut answer)
                    .await
                    .expect("a Redis that answers"),
                0,
                "Redis hung up"
            );
            let text = String::from_utf8_lossy(&answer);
            let whole = if text.starts_with('$') {
                text.matches("\r\n").count() >= 2
            } else {
                text.ends_with("\r\n")
            };
            if whole {
                return text.trim_end().to_owned();
            }
        }
    }
}
