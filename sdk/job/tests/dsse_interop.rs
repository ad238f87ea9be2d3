//! A DSSE implementation that nobody here wrote verifies our envelopes, and refuses altered ones.
//!
//! Needs `python3` with the package `securesystemslib[crypto]`; `STRONGROOM_TEST_PYTHON` names another interpreter. Where it is
//! not there, the test says so and passes: `envelope.rs` checks the same encoding byte by byte.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::process::Command;

#[test]
fn securesystemslib_verifies_the_golden_envelopes() {
    let python = std::env::var_os("STRONGROOM_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let there = Command::new(&python).args(["-c", "import securesystemslib.dsse, cryptography"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("skipped: {} has no securesystemslib[crypto]", python.display());
        return;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(&python)
        .arg(here.join("tests/dsse_interop.py"))
        .arg(here.join("golden/envelope"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("job.json: verified") && said.contains("batch.json: verified"), "{said}");
}
