//! A DSSE implementation that nobody here wrote verifies our envelopes, and refuses altered ones.
//!
//! Needs a `python3` in the path with the package `securesystemslib[crypto]`, such as that of an activated venv. Where it is not
//! there, the test says so and passes: `envelope.rs` checks the same encoding byte by byte.
#![allow(clippy::disallowed_methods, reason = "a variable says whether the tools must be there")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::process::Command;

#[test]
fn securesystemslib_verifies_the_golden_envelopes() {
    let there = Command::new("python3").args(["-c", "import securesystemslib.dsse, cryptography"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("STRONGROOM_READERS").is_none(), "installed, and cannot be used");
        println!("skipped: no python3 with securesystemslib[crypto]");
        return;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3")
        .arg(here.join("tests/dsse_interop.py"))
        .arg(here.join("golden/envelope"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("job.json: verified") && said.contains("batch.json: verified"), "{said}");
}

/// The same for a receipt's statement, and the schemas of in-toto and SLSA with it: needs the package `in-toto-attestation`, too.
// Red with a field in the statement that the schemas do not have, and with another payload type.
#[test]
fn in_toto_attestation_reads_the_golden_statement() {
    let there = Command::new("python3")
        .args(["-c", "import securesystemslib.dsse, cryptography, in_toto_attestation"])
        .output();
    if !there.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("STRONGROOM_READERS").is_none(), "installed, and cannot be used");
        println!("skipped: no python3 with securesystemslib[crypto] and in-toto-attestation");
        return;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3")
        .arg(here.join("tests/receipt_interop.py"))
        .arg(here.join("golden/receipt"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("attestation.json: verified and read"), "{said}");
}
