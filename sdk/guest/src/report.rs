//! Progress and a result, for whoever waits for the task.

use crate::{Failure, host};

/// Largest result, in bytes.
pub const MAX_RESULT_BYTES: usize = 64 << 10;

/// Says how far the work has come: 0 to 100 (more counts as 100), and what is being done.
///
/// Only the newest is kept, and of `text` the first 200 bytes, with control characters replaced. It costs less than a line of
/// output; still, once per percent is often enough.
///
/// Does nothing in a build that is not for WASI, so that a task can be tested as an ordinary program.
pub fn progress(percent: u32, text: &str) {
    host::progress(percent, text);
}

/// Leaves `bytes` as the result of the task, beside its output, in whatever form. The last one counts.
///
/// In a build that is not for WASI only the size is checked.
///
/// # Errors
///
/// [`Failure::FAILED`] when it has more than [`MAX_RESULT_BYTES`]; the result before it stays.
pub fn set_result(bytes: &[u8]) -> Result<(), Failure> {
    if bytes.len() <= MAX_RESULT_BYTES && host::set_result(bytes) {
        return Ok(());
    }
    let length = bytes.len();
    Err(Failure::failed(format!("the result has {length} bytes; a host takes {MAX_RESULT_BYTES} at most")))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red without the comparison in `set_result`.
    #[test]
    fn a_result_that_no_host_takes_is_refused_in_a_native_build_too() {
        progress(50, "half");
        assert_eq!(set_result(&[0; MAX_RESULT_BYTES]), Ok(()));
        let failure = set_result(&[0; MAX_RESULT_BYTES + 1]).unwrap_err();
        assert_eq!(failure.code(), Failure::FAILED);
        assert_eq!(failure.to_string(), "the result has 65537 bytes; a host takes 65536 at most");
    }
}
