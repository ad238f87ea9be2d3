//! The network of a guest in a worker: what it was granted, and a name's address, as in the host's own process.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;

use strongroom::config::Isolation;
use strongroom_job::Outcome;
use strongroom_sdk::{Client, Job, ModuleRef};

use super::common::live::run;
use super::common::patience::bounded;
use super::site;

/// Takes one connection, reads what comes first, and answers.
fn server(answer: &'static [u8]) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(answer).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (address, served)
}

async fn push(client: &Client, file: &str) -> ModuleRef {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    client.push_module(std::fs::read(file).unwrap()).await.unwrap()
}

// Red without `network` in the greeting: the worker has no socket.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_in_a_worker_reaches_what_it_was_granted_and_nothing_else() {
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        let (address, served) =
            server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
        let (other, _) = server(b"");
        let rules = |config: &mut strongroom::config::Config| {
            config.principals[0].http = vec![format!("http://{address}/v1").parse().unwrap()];
            config.principals[0].connect = vec!["localhost:80".parse().unwrap()];
        };
        let live = site(Isolation::Process, rules).await;
        let client = live.ours().await;
        let fetch = push(&client, "examples/prebuilt/fetch.wasm").await;
        let job = Job::new(fetch).http(format!("http://{address}/v1")).arg(format!("http://{address}/v1/x"));
        let done = run(&client, &job).await;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.contains("status 200\nbytes 5\n"), "{said} {}", String::from_utf8_lossy(&done.stderr));
        assert!(served.join().unwrap().starts_with("GET /v1/x HTTP/1.1"));

        let job = Job::new(fetch).http(format!("http://{address}/v1")).arg(format!("http://{other}/v1/x"));
        let end = run(&client, &job).await.view.end.unwrap();
        assert_eq!(end.outcome, Outcome::Exited { code: 1 });
        let denied: Vec<_> = end.denied.iter().map(|denial| denial.what.clone()).collect();
        assert_eq!(denied, [format!("http GET http://{other}")]);

        // The system's resolver answers, and what it says is this machine: that takes the address itself.
        let netcat = push(&client, "runtime/tests/fixtures/netcat.wasm").await;
        let job = Job::new(netcat).connect("localhost:80").args(["resolve", "localhost"]);
        let end = run(&client, &job).await.view.end.unwrap();
        let denied: Vec<_> = end.denied.iter().map(|denial| denial.what.clone()).collect();
        assert_eq!(denied, ["resolve localhost"]);
        live.stop().await;
    }))
    .await;
}
