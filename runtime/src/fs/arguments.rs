//! What a preview 1 call names in the guest's memory: paths and buffers.
//!
//! *Bound:* a path of [`MAX_PATH`] bytes; a buffer within what the call may make the host hold.

use wasmtime_wasi::p1::types;
use wiggle::{GuestMemory, GuestPtr};

/// Longest path that is looked at: the kernel takes none that is longer.
const MAX_PATH: u32 = 4096;

pub(super) fn text(memory: &GuestMemory<'_>, path: GuestPtr<str>) -> Result<String, types::Error> {
    if path.len() > MAX_PATH {
        return Err(types::Errno::Nametoolong.into());
    }
    Ok(memory.as_cow_str(path)?.into_owned())
}

/// A copy of the first buffer that is not empty, if the host may be made to hold that much.
pub(super) fn first_buffer(
    memory: &GuestMemory<'_>,
    from: types::CiovecArray,
    budget: usize,
) -> Result<Vec<u8>, types::Error> {
    let list = usize::try_from(from.len())?.saturating_mul(size_of::<types::Ciovec>());
    let budget = budget.checked_sub(list).ok_or(types::Errno::Nomem)?;
    for one in from.iter() {
        let one = memory.read(one?)?;
        if one.buf_len > 0 {
            if usize::try_from(one.buf_len)? > budget {
                return Err(types::Errno::Nomem.into());
            }
            return Ok(memory.to_vec(one.buf.as_array(one.buf_len))?);
        }
    }
    Ok(Vec::new())
}
