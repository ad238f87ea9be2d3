//! Another key signs the log from now on: what was signed last is signed anew, and the statements that say so lie beside it.
//!
//! *Owns:* `keys`; `log.pub`, once there is a log. *Never:* signs a size or root that an earlier key of the log did not sign.
//! *Crash:* every file is the old one or the new one. `keys` comes first, so nobody who sees the new signature lacks what leads to it; whoever
//! sees `keys` and the old signature refuses the log for that moment, since the key that signed it is not the last one.
//! Called again it goes on: the caller keeps the new secret until this has returned.
//! *Spec:* `docs/formats/succession.md`, `docs/formats/tiles.md`.

use std::path::Path;

use strongroom_job::checkpoint::{Checkpoint, SignedCheckpoint};
use strongroom_job::note::{KeyName, MAX_NOTE_BYTES, VerifierKey};
use strongroom_job::succession::{KeyChain, Succession};
use strongroom_job::tile::TileEdge;
use strongroom_job::{PublicKey, SecretKey};

use super::durable::{DurableDir, Hook};
use super::files::{CHECKPOINT, COSIGNED, FileError, Files, KEYS, LOG_PUB, TILE};
use super::writer::read_hashes;
use super::writer_error::OpenError;

/// Signs the log in `dir` anew with `key`, the last one of `statements`. Nothing is done where no log was begun.
///
/// # Errors
/// When the log is not one of the keys that the statements lead through, its end is not what was signed, or writing fails.
pub fn succeed(dir: &Path, statements: &[Succession], key: &SecretKey) -> Result<(), OpenError> {
    succeed_with(dir, statements, key, None)
}

/// [`succeed`] with a hook around every durable step, for tests.
///
/// # Errors
/// As [`succeed`], and when the hook says so.
pub fn succeed_with(
    dir: &Path,
    statements: &[Succession],
    key: &SecretKey,
    hook: Option<Hook>,
) -> Result<(), OpenError> {
    let files = Files::new(dir);
    if !is_begun(&files)? {
        return Ok(());
    }
    let named = files.log_pub()?;
    let name = named.name().clone();
    let own = VerifierKey::new(name.clone(), key.public());
    let keys =
        KeyChain::of_log(&own).follow(statements).map_err(|error| FileError::malformed(KEYS, &error))?;
    if !keys.contains(named.key()) || keys.current() != own.key() {
        return Err(OpenError::OtherLog { expected: Box::new(own), found: Box::new(named) });
    }
    let kept = |file| -> Result<Checkpoint, FileError> {
        let signed = SignedCheckpoint::parse(&files.read(file, MAX_NOTE_BYTES)?);
        let kept = signed.and_then(|signed| signed.verify_kept(&name, &keys));
        kept.map_err(|error| FileError::malformed(file, &error))
    };
    let anew = |kept: &Checkpoint| -> Result<Option<Vec<u8>>, OpenError> {
        let signer = |key: &&PublicKey| kept.signed().clone().verify(&name, key).is_ok();
        let Some(signer) = keys.keys().iter().rev().find(signer).filter(|signer| *signer != own.key()) else {
            return Ok(None);
        };
        let anew = kept.signed_anew(&VerifierKey::new(name.clone(), *signer), key)?;
        Ok(Some(anew.as_str().as_bytes().to_vec()))
    };
    let mut pending = Vec::new();
    if files.exists(COSIGNED)? {
        pending.push((COSIGNED, anew(&kept(COSIGNED)?)?));
    }
    if files.exists(CHECKPOINT)? {
        let checkpoint = kept(CHECKPOINT)?;
        // The new key answers for what it signs: at least that the end of the log gives this root.
        let edge = TileEdge::restore(checkpoint.size(), |tile| read_hashes(&files, tile))?;
        if edge.head() != *checkpoint.head() {
            return Err(OpenError::Edge);
        }
        pending.push((CHECKPOINT, anew(&checkpoint)?));
    } else if files.exists(TILE)? {
        return Err(OpenError::CheckpointLost);
    }
    let mut durable = DurableDir::new(dir, hook);
    durable.write(KEYS, &Succession::to_file(statements))?;
    durable.sync_names()?;
    for (file, signed) in pending {
        if let Some(signed) = signed {
            durable.write(file, &signed)?;
        }
    }
    // Last, so that whoever knows nothing of `keys` sees a key and what it signed.
    durable.write(LOG_PUB, format!("{own}\n").as_bytes())?;
    durable.sync_names()?;
    Ok(())
}

/// Whether there is a log. One of which `log.pub` alone is gone is there: that it cannot be signed anew must be told while the old secret is.
fn is_begun(files: &Files) -> Result<bool, FileError> {
    for part in [LOG_PUB, CHECKPOINT, COSIGNED, TILE] {
        if files.exists(part)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How the log in `dir` is called; none where no log was begun.
///
/// # Errors
/// When `log.pub` cannot be read.
pub fn name(dir: &Path) -> Result<Option<KeyName>, FileError> {
    let files = Files::new(dir);
    Ok(if is_begun(&files)? { Some(files.log_pub()?.name().clone()) } else { None })
}

/// Whether the log in `dir` could be signed anew by who holds `key`: it is the one of this key, and its end is what was signed.
///
/// # Errors
/// As [`succeed`]. Nothing is written.
pub fn check(dir: &Path, key: &PublicKey) -> Result<(), OpenError> {
    let files = Files::new(dir);
    if !is_begun(&files)? {
        return Ok(());
    }
    let signer = files.signer()?;
    if signer.verifier.key() != key {
        let expected = Box::new(VerifierKey::new(signer.verifier.name().clone(), *key));
        return Err(OpenError::OtherLog { expected, found: Box::new(signer.verifier) });
    }
    if !files.exists(CHECKPOINT)? {
        return if files.exists(TILE)? { Err(OpenError::CheckpointLost) } else { Ok(()) };
    }
    files.cosigned(&signer.verifier)?;
    let checkpoint = files.checkpoint(&signer.verifier)?;
    let edge = TileEdge::restore(checkpoint.size(), |tile| read_hashes(&files, tile))?;
    if edge.head() == *checkpoint.head() { Ok(()) } else { Err(OpenError::Edge) }
}

/// The statements by which the key of the log in `dir` was replaced; none when it never was.
///
/// # Errors
/// When the file cannot be read, or is none.
pub fn statements(dir: &Path) -> Result<Vec<Succession>, FileError> {
    Files::new(dir).statements()
}
