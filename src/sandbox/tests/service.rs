//! The command line, credentials, counts and the control API, through the real binary.

#![allow(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use support::{AUTHORIZED, Sandbox, command};

#[test]
fn a_credential_that_is_not_the_secret_gets_401_and_is_remembered_without_its_text() {
    let sandbox = Sandbox::start();
    let leaked = "vault_key_0123456789abcdef";
    for _ in 0..2 {
        let header = format!("Authorization: Bearer {leaked}");
        let reply = sandbox.send("POST", "/v1/charges", &[&header], "amount=1&currency=usd");
        assert_eq!(
            (reply.status, &reply.json()["error"]["type"]),
            (401, &"invalid_request_error".into())
        );
    }
    assert_eq!(sandbox.send("GET", "/v1/charges", &[], "").status, 401);
    let counts = sandbox.counts();
    let rejected = &counts["rejected_credentials"][0];
    assert_eq!(
        (&rejected["prefix"], &rejected["count"]),
        (&"vault_key_01".into(), &2.into())
    );
    assert_eq!(rejected["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(
        (&counts["missing_credentials"], &counts["executions_total"]),
        (&1.into(), &0.into())
    );
    let log = sandbox.control("GET", "/requests", "");
    assert!(!String::from_utf8_lossy(&log.body).contains(leaked));
}

#[test]
fn the_request_log_shows_what_the_vendor_saw() {
    let sandbox = Sandbox::start();
    sandbox.send(
        "POST",
        "/v1/charges?expand[]=customer",
        &[
            AUTHORIZED,
            "X-Seen: one",
            "X-Seen: two",
            "Idempotency-Key: k",
        ],
        "amount=1&currency=usd",
    );
    sandbox.post("/v1/charges", "k2", "amount=1&currency=usd");
    let log = sandbox.control("GET", "/requests?since=0", "").json();
    let first = &log["requests"][0];
    let headers = first["headers"].as_array().unwrap();
    let seen: Vec<_> = headers
        .iter()
        .filter(|pair| pair[0] == "x-seen")
        .map(|pair| pair[1].as_str().unwrap())
        .collect();
    assert_eq!(seen, ["one", "two"]);
    let authorization = headers
        .iter()
        .find(|pair| pair[0] == "authorization")
        .unwrap();
    assert_eq!(authorization[1]["prefix"], "sk_test_sand");
    let expected = serde_json::json!({
        "n": 1, "method": "POST", "status": 200, "idempotency_key": "k", "query": "expand[]=customer",
        "sni": "api.stripe.com", "protocol": "HTTP/1.1", "body_length": 21, "replayed": false,
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(first[field], *value, "{field}");
    }
    let later = sandbox.control("GET", "/requests?since=1", "").json();
    assert_eq!(
        (later["requests"].as_array().unwrap().len(), &later["last"]),
        (1, &2.into())
    );
}

#[test]
fn bytes_and_connections_are_counted_and_reset_forgets_everything() {
    let sandbox = Sandbox::start();
    let charge = sandbox
        .post("/v1/charges", "k", "amount=1&currency=usd")
        .id();
    let counts = sandbox.counts();
    let (plain, tcp) = (
        counts["bytes_received"].as_u64().unwrap(),
        counts["tcp_bytes_received"].as_u64().unwrap(),
    );
    assert!(plain > 200 && plain < 400 && tcp > plain, "{plain} {tcp}");
    assert_eq!(
        (&counts["connections"], &counts["requests"]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        sandbox.control("GET", "/objects/charges", "").json()["data"][0]["id"],
        charge.as_str()
    );
    assert_eq!(sandbox.control("POST", "/reset", "").status, 200);
    let counts = sandbox.counts();
    assert_eq!(
        (&counts["bytes_received"], &counts["by_key"]),
        (&0.into(), &serde_json::json!({}))
    );
    assert_eq!(
        sandbox.control("GET", "/objects/charges", "").json()["data"],
        serde_json::json!([])
    );
    assert_eq!(
        sandbox
            .post("/v1/charges", "k", "amount=2&currency=usd")
            .status,
        200
    );
}

#[test]
fn only_the_certificate_of_the_authority_is_on_disk() {
    let sandbox = Sandbox::start();
    assert_eq!(
        std::fs::metadata(&sandbox.ca).unwrap().permissions().mode() & 0o777,
        0o644
    );
    let mut names: Vec<_> = std::fs::read_dir(sandbox.folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["ca.pem", "secret"]);
    assert!(
        !std::fs::read_to_string(&sandbox.ca)
            .unwrap()
            .contains("PRIVATE")
    );
    assert_eq!(sandbox.terminate(), Some(0));
}

#[test]
fn a_start_that_cannot_be_is_one_line_and_a_non_zero_exit() {
    let running = Sandbox::start();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let live = folder.path().join("live");
    std::fs::write(&live, "sk_live_sandbox").unwrap();
    let broken = folder.path().join("broken");
    std::fs::write(&broken, "{}\n").unwrap();
    let table: [(&[&str], i32, &str); 7] = [
        (&["--listen", &running.listen], 1, "cannot listen on"),
        (&["--control", &running.control], 1, "cannot listen on"),
        (
            &["--secret-file", "/nonexistent/secret"],
            1,
            "cannot read the secret file",
        ),
        (&["--secret-file", live.to_str().unwrap()], 1, "live key"),
        (
            &["--state", broken.to_str().unwrap()],
            1,
            "broken in line 1",
        ),
        (&["--control", "0.0.0.0:0"], 2, "loopback only"),
        (&["--nonsense"], 2, "unexpected argument"),
    ];
    for (more, code, text) in table {
        let mut command = command(folder.path(), &[]);
        let kept: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        let program = command.get_program().to_owned();
        command = std::process::Command::new(program);
        // The later of two equal flags does not win in clap: leave out the one that the table gives.
        for pair in kept.chunks(2).filter(|pair| pair[0] != more[0]) {
            command.args(pair);
        }
        let output = command.args(more).stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{more:?}: {error}");
        assert!(error.contains(text), "{more:?}: {error}");
        assert!(
            output.stdout.is_empty() && (code == 2 || error.lines().count() == 1),
            "{error}"
        );
    }
}

#[test]
fn plain_http_and_the_port_variables_work() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), &[]);
    let secret = folder.path().join("secret");
    let program = command.get_program().to_owned();
    command = std::process::Command::new(program);
    let mut child = command
        .arg("--plain")
        .env("KEYBRAKE_SANDBOX_SECRET_FILE", secret)
        .env("KEYBRAKE_SANDBOX_PORT", "0")
        .env("KEYBRAKE_SANDBOX_CONTROL_PORT", "0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["ca"], serde_json::Value::Null);
    let mut socket = std::net::TcpStream::connect(ready["listen"].as_str().unwrap()).unwrap();
    let request =
        format!("GET /v1/balance HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{AUTHORIZED}\r\n\r\n");
    std::io::Write::write_all(&mut socket, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut socket, &mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn an_open_request_is_answered_before_the_stop() {
    let sandbox = Sandbox::start();
    sandbox.fault(r#"{"fault":{"delay_ms":400}}"#);
    let mut stream = sandbox.connect();
    let request = format!("GET /v1/balance HTTP/1.1\r\nHost: a\r\n{AUTHORIZED}\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    sandbox.until("it has arrived", |s| s.counts()["requests"] == 1);
    assert_eq!(sandbox.terminate(), Some(0));
    let mut answer = String::new();
    let _ = std::io::Read::read_to_string(&mut stream, &mut answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn http_2_is_served_when_the_client_asks_for_it() {
    let sandbox = Sandbox::start();
    let mut config = sandbox.client_config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = tokio::net::TcpStream::connect(&sandbox.listen)
        .await
        .unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    let driving = tokio::spawn(connection);
    let request = || {
        hyper::Request::post("https://localhost/v1/charges")
            .header(
                "authorization",
                AUTHORIZED.trim_start_matches("Authorization: "),
            )
            .header("idempotency-key", "h2")
            .body("amount=5&currency=usd".to_owned())
            .unwrap()
    };
    assert_eq!(
        sender
            .send_request(request())
            .await
            .unwrap()
            .headers()
            .get("idempotent-replayed"),
        None
    );
    sandbox.fault(r#"{"fault":{"kind":"reset_before_answer"}}"#);
    assert!(sender.send_request(request()).await.is_err());
    let ended = tokio::time::timeout(Duration::from_secs(10), driving)
        .await
        .unwrap()
        .unwrap();
    assert!(ended.is_err());
    let log = sandbox.control("GET", "/requests", "").json();
    assert_eq!(log["requests"][0]["protocol"], "HTTP/2.0");
    assert_eq!(sandbox.counts()["executions_total"], 1);
}
