//! Receivers of syslog over TCP: read octet-counted frames, and can be made to misbehave.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::Got;

/// Reads frames until the other side closes, or `most` have come. Gives whether it was the former.
pub(crate) async fn frames(
    stream: &mut (impl AsyncRead + Unpin),
    got: &Got,
    most: usize,
) -> std::io::Result<bool> {
    for _ in 0..most {
        let mut length = 0_usize;
        let mut digits = 0;
        loop {
            let mut byte = [0];
            if stream.read(&mut byte).await? == 0 {
                assert_eq!(digits, 0, "a frame that is cut off");
                return Ok(true);
            }
            match byte[0] {
                b' ' if digits > 0 => break,
                b'1'..=b'9' => {}
                b'0' if digits > 0 => {}
                other => panic!("{other} in a length"),
            }
            digits += 1;
            assert!(digits < 8, "an absurd length");
            length = length * 10 + usize::from(byte[0] - b'0');
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await?;
        got.push(message);
    }
    Ok(false)
}

/// A receiver that takes everything on every connection.
pub(crate) async fn takes_all(address: &str) -> (String, Got, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let got = Got::default();
    let all = got.clone();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // A connection that the host drops is one that it repeats.
            let _ = frames(&mut stream, &all, usize::MAX).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, got, task)
}
