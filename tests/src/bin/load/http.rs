//! HTTP/1.1 keep-alive load with as little work per request as can be, so that the client takes little of the machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::measure::Figures;

/// What is asked.
#[derive(Clone, Copy, ValueEnum)]
pub enum Kind {
    /// `GET /v1/charges/ch_bench`.
    Read,
    /// `POST /v1/charges`, a new idempotency key each.
    Charge,
}

/// Where to and with what.
#[derive(Args)]
pub struct Options {
    /// Listener, `127.0.0.1:10000`.
    #[arg(long)]
    address: String,
    /// What to ask.
    #[arg(long)]
    kind: Kind,
    /// Before the vendor's path, as `/stripe`.
    #[arg(long, default_value = "")]
    prefix: String,
    /// File with the bearer credential.
    #[arg(long)]
    credential_file: PathBuf,
    /// Makes idempotency keys of this run differ from those of others.
    #[arg(long)]
    run: String,
}

/// Runs all clients to the end of the time.
pub async fn run(options: Options, clients: usize, seconds: Duration) -> Figures {
    let credential =
        std::fs::read_to_string(&options.credential_file).expect("the credential file");
    let credential = credential.trim();
    let head = |method: &str, path: &str| {
        format!(
            "{method} {}{path} HTTP/1.1\r\nhost: api.stripe.com\r\nauthorization: Bearer {credential}\r\n",
            options.prefix
        )
    };
    let start = Instant::now();
    let until = start + seconds;
    let mut running = Vec::new();
    for client in 0..clients {
        let fixed = match options.kind {
            Kind::Read => head("GET", "/v1/charges/ch_bench"),
            Kind::Charge => head("POST", "/v1/charges"),
        };
        let name = format!("{}-{client}", options.run);
        running.push(tokio::spawn(one_client(
            options.address.clone(),
            options.kind,
            fixed,
            name,
            until,
        )));
    }
    let mut parts = Vec::new();
    for client in running {
        parts.push(client.await.expect("a client that does not panic"));
    }
    Figures::merge(parts, start.elapsed())
}

async fn one_client(
    address: String,
    kind: Kind,
    fixed: String,
    name: String,
    until: Instant,
) -> Figures {
    let mut figures = Figures::default();
    let mut stream = TcpStream::connect(&address).await.expect("a listener");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut answer = Vec::with_capacity(16 * 1024);
    let mut number = 0_u64;
    while Instant::now() < until {
        number += 1;
        let request = match kind {
            Kind::Read => format!("{fixed}\r\n"),
            Kind::Charge => {
                let body = "amount=100&currency=usd&customer=cus_bench&description=bench";
                format!(
                    "{fixed}idempotency-key: {name}-{number}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
        };
        let since = Instant::now();
        let sent = stream.write_all(request.as_bytes()).await;
        let status = match sent {
            Ok(()) => read_answer(&mut stream, &mut answer).await,
            Err(_) => None,
        };
        match status {
            Some(200) => figures.answered(since),
            Some(status) => figures.failed(format!(
                "status {status}: {}",
                String::from_utf8_lossy(&answer)
            )),
            None => {
                figures.failed("connection lost".to_owned());
                let Ok(again) = TcpStream::connect(&address).await else {
                    return figures;
                };
                stream = again;
            }
        }
    }
    figures
}

/// Reads one answer with a content length; gives its status.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Option<u16> {
    answer.clear();
    let head_end = loop {
        if stream.read_buf(answer).await.ok()? == 0 {
            return None;
        }
        if let Some(position) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break position + 4;
        }
    };
    let head = std::str::from_utf8(&answer[..head_end]).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let length: usize = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())?;
    while answer.len() < head_end + length {
        if stream.read_buf(answer).await.ok()? == 0 {
            return None;
        }
    }
    Some(status)
}
