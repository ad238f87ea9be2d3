//! Who cosigns the log, and where it is shown.

use std::net::SocketAddr;

use strongroom_job::cosignature::{CosignerKey, MAX_WITNESSES, Quorum};

use super::Witness;
use super::raw::{Fault, Section};

/// `[[witnesses]]`, and how many of them must cosign.
pub(super) fn witnesses(top: &mut Section<'_>) -> Result<(Vec<Witness>, usize), Fault> {
    let quorum = top.take("witness_quorum");
    let mut witnesses = Vec::new();
    let mut keys: Vec<CosignerKey> = Vec::new();
    for item in top.take("witnesses").map_or_else(|| Ok(Vec::new()), super::raw::Value::list)? {
        let line = item.fault(format_args!("at most {MAX_WITNESSES} witnesses can be named"));
        let mut section = item.section()?;
        let key = section.require("key", "the witness's verifier key, as in its witness.pub")?;
        keys.push(key.parsed()?);
        if keys.len() > MAX_WITNESSES {
            return Err(line);
        }
        Quorum::new(1, keys.clone()).map_err(|error| key.fault(error))?;
        let url = section.require("url", "where it is asked, such as \"http://witness.example:7444\"")?;
        let url = url.parsed()?;
        section.finish()?;
        witnesses.push(Witness { key: key.parsed()?, url });
    }
    let Some(value) = quorum else { return Ok((witnesses, 1)) };
    let most = MAX_WITNESSES as u64;
    let quorum = usize::try_from(value.number(&(1..=most))?).unwrap_or(MAX_WITNESSES);
    if quorum > witnesses.len() {
        let named = witnesses.len();
        return Err(
            value.fault(format_args!("{quorum} of {named} witnesses cannot be required; add [[witnesses]]"))
        );
    }
    Ok((witnesses, quorum))
}

/// Where the log is served, if anywhere.
pub(super) fn serve_log(top: &mut Section<'_>) -> Result<Option<SocketAddr>, Fault> {
    let Some(value) = top.take("serve_log") else { return Ok(None) };
    let problem = "expected an address and a port, such as \"127.0.0.1:7443\" or \"[::1]:7443\"";
    value.text()?.parse().map(Some).map_err(|_| value.fault(problem))
}
