//! What a witness remembers: of each log, the last checkpoint that it cosigned.
//!
//! *Owns:* the files below `DIR/logs` and `DIR/evidence`, the witness's key, and the order of things: judge, write, sync, answer, one
//! request at a time.
//! *Crash:* a file is the old one or the new one, whole. If it is the new one and nobody was told, the log asks again, is told the size
//! (409), and gets the same head cosigned. After a failed write it is not known which one a power cut would leave, so nothing
//! more is cosigned of that log until the file is read again, at the next start.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use strongroom_job::SecretKey;
use strongroom_job::Timestamp;
use strongroom_job::checkpoint::{CheckpointError, SignedCheckpoint};
use strongroom_job::cosignature::{CosignerKey, cosign};
use strongroom_job::merkle::TreeHead;
use strongroom_job::note::{KeyName, MAX_NOTE_BYTES, NoteError, VerifierKey};
use strongroom_job::succession::KeyChain;
use strongroom_job::witness::{AddCheckpoint, WitnessRefusal, never_seen};

use crate::clock::Clock;
use crate::home::HomeError;
use crate::home::place::{private_directory, replace};

use super::{MAX_LOGS, MEMORY};

/// The same question so soon again gets the same answer, and nothing is written: anybody can read the last checkpoint and ask with it.
const FRESH: Duration = Duration::from_secs(60);

/// The memory, and the key that speaks for it.
#[derive(Debug)]
pub struct Memory {
    name: KeyName,
    key: SecretKey,
    clock: Clock,
    /// By the SHA-256 of their origins, in hex. One lock for all: between a judgement and the end of its write, nothing else is judged.
    logs: Mutex<BTreeMap<String, Known>>,
    /// What anybody may read: the files' content. A lock of its own, so that no reader waits for a disk.
    shown: RwLock<BTreeMap<String, String>>,
    /// Where checkpoints of a second history are kept.
    evidence: PathBuf,
}

/// One log.
#[derive(Debug)]
struct Known {
    log: VerifierKey,
    file: PathBuf,
    latest: TreeHead,
    /// What was signed last, and when.
    last: Option<(String, Timestamp)>,
    /// Set while file and `latest` may differ: until the next start, when a write failed.
    broken: bool,
}

/// Why a witness cannot be started with its memory. It never begins anew by itself: that would be forgetting.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A file cannot be read.
    #[error("{}: {error}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file holds no checkpoint that this witness cosigned.
    #[error(
        "{}: not a checkpoint of {log} that this witness cosigned: {problem}. Restore the newest copy; with an older one, or none, it could \
         cosign a second history",
        .path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Whose.
        log: KeyName,
        /// What is wrong with it.
        problem: String,
    },
    /// A file holds a checkpoint under another key of the log.
    #[error(
        "{}: what this witness cosigned last for {log} is signed with none of the keys that are named here. When the log's key was replaced, name \
         the log by its statements (`strongroom key statement log`); do not put an older copy back",
        .path.display()
    )]
    OtherKey {
        /// Which.
        path: PathBuf,
        /// Whose.
        log: KeyName,
    },
    /// A line of keys of which nobody says whose log they sign.
    #[error("a log's key without the log's name")]
    Nameless,
    /// Two keys for one log.
    #[error("the log {0} is named twice, with different keys")]
    Twice(KeyName),
    /// More than it has room for.
    #[error("{0} logs are named; a witness knows at most {MAX_LOGS}")]
    TooMany(usize),
}

/// Why a checkpoint was not cosigned.
#[derive(Debug, thiserror::Error)]
pub enum NotCosigned {
    /// Nobody told the witness of this log.
    #[error("this witness does not know the log {0}")]
    UnknownLog(KeyName),
    /// The request is refused.
    #[error(transparent)]
    Refused(#[from] WitnessRefusal),
    /// It carries more signatures than can be kept.
    #[error(transparent)]
    Form(#[from] CheckpointError),
    /// The disk.
    #[error("this witness cannot write: {0}")]
    Disk(String),
}

impl Memory {
    /// Reads what `dir` remembers of `logs`: each is a verifier key, or the line of keys that follows one. What was cosigned before a key was
    /// replaced counts on; what is asked for now must be signed with the last one.
    ///
    /// # Errors
    /// When a file cannot be read or is not what this witness wrote, or a log is named with two keys.
    pub fn open(
        dir: &Path,
        name: KeyName,
        key: SecretKey,
        logs: Vec<impl Into<KeyChain>>,
    ) -> Result<Self, MemoryError> {
        if logs.len() > MAX_LOGS {
            return Err(MemoryError::TooMany(logs.len()));
        }
        let (dir, evidence) = (dir.join(MEMORY), dir.join("evidence"));
        private_directory(&dir)?;
        let own = CosignerKey::new(name.clone(), key.public());
        let (mut known, mut shown) = (BTreeMap::new(), BTreeMap::new());
        let mut newest = Timestamp::from_millis(0);
        for keys in logs {
            let keys = keys.into();
            let origin = keys.origin().ok_or(MemoryError::Nameless)?;
            let log = VerifierKey::new(origin.clone(), *keys.current());
            let hash = origin_hash(log.name());
            let file = dir.join(&hash);
            let (latest, last) = match read(&file, &log, &keys, &own)? {
                Some((head, text, line, time)) => {
                    newest = newest.max(time);
                    shown.insert(hash.clone(), text);
                    (head, Some((line, time)))
                }
                None => (never_seen(), None),
            };
            let one = Known { log: log.clone(), file, latest, last, broken: false };
            let earlier = known.insert(hash, one);
            if earlier.is_some_and(|earlier| earlier.log != log) {
                return Err(MemoryError::Twice(log.name().clone()));
            }
        }
        let (logs, shown) = (Mutex::new(known), RwLock::new(shown));
        Ok(Self { name, key, clock: Clock::not_before(newest), logs, shown, evidence })
    }

    /// The key that checks what this witness signs.
    #[must_use]
    pub fn public(&self) -> CosignerKey {
        CosignerKey::new(self.name.clone(), self.key.public())
    }

    /// Cosigns what `request` asks for, if it may, and gives the signature line. Durable on return. Blocks.
    ///
    /// # Errors
    /// When the log is not known, the request is refused, or the disk fails.
    pub fn cosign(&self, request: AddCheckpoint) -> Result<String, NotCosigned> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = request.unverified().unverified_origin();
        let hash = origin_hash(origin);
        let Some(known) = logs.get_mut(&hash) else {
            return Err(NotCosigned::UnknownLog(origin.clone()));
        };
        if known.broken {
            return Err(NotCosigned::Disk("an earlier write failed; it has to be started again".into()));
        }
        let asked = request.unverified().clone();
        let checkpoint = match request.judge(&known.log, &known.latest) {
            Err(WitnessRefusal::OtherRoot) => {
                self.convict(&hash, &known.log, &asked);
                return Err(WitnessRefusal::OtherRoot.into());
            }
            judged => judged?,
        };
        let now = self.clock.now();
        if *checkpoint.head() == known.latest
            && let Some((line, at)) = &known.last
            && now.since(*at) < FRESH
        {
            return Ok(line.clone());
        }
        let cosignature = cosign(&checkpoint, &self.name, &self.key, now);
        // Anybody can add lines to what a log signed, also bad ones in our name: only the log's own and ours are kept.
        let text = checkpoint.signed().only_by(&known.log)?.with_signatures(cosignature.line())?.to_string();
        known.broken = true;
        // A crash behind this leaves the new file or the old one, and nobody was told either way.
        replace(&known.file, text.as_bytes()).map_err(|error| NotCosigned::Disk(error.to_string()))?;
        known.broken = false;
        known.latest = *checkpoint.head();
        known.last = Some((cosignature.line().to_owned(), now));
        self.shown.write().unwrap_or_else(PoisonError::into_inner).insert(hash, text);
        Ok(cosignature.line().to_owned())
    }

    /// Keeps two checkpoints of one size that one key signed, the first two of a log. Anybody who has the log's key is convinced by
    /// them, so they are not left to a line in this witness's own log.
    fn convict(&self, hash: &str, log: &VerifierKey, other: &SignedCheckpoint) {
        // It was verified when it was judged.
        let other = other.only_by(log).and_then(|other| other.verify(log.name(), log.key()));
        let Ok(other) = other else { return };
        let keep = || -> Result<(), HomeError> {
            private_directory(&self.evidence)?;
            let file = self.evidence.join(hash);
            if file.exists() {
                return Ok(());
            }
            // The other one last: where it is, both are.
            if let Some(cosigned) = self.latest(hash) {
                replace(&self.evidence.join(format!("{hash}.cosigned")), cosigned.as_bytes())?;
            }
            replace(&file, other.signed().to_string().as_bytes())
        };
        if let Err(error) = keep() {
            tracing::error!(log = %log.name(), %error, "the proof of two histories cannot be kept");
        }
    }

    /// The last checkpoint that was cosigned of the log whose origin has this SHA-256, in lowercase hex.
    pub(super) fn latest(&self, hash: &str) -> Option<String> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }
}

fn origin_hash(origin: &KeyName) -> String {
    hex::encode(Sha256::digest(origin.as_str()))
}

/// What the file says, if there is one.
fn read(
    file: &Path,
    log: &VerifierKey,
    keys: &KeyChain,
    own: &CosignerKey,
) -> Result<Option<(TreeHead, String, String, Timestamp)>, MemoryError> {
    let failed = |error| MemoryError::Read { path: file.into(), error };
    let length = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(failed)?.len(),
    };
    if length > MAX_NOTE_BYTES as u64 {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let bytes = fs::read(file).map_err(failed)?;
    let damaged =
        |problem: String| MemoryError::Damaged { path: file.into(), log: log.name().clone(), problem };
    let signed = SignedCheckpoint::parse(&bytes).and_then(|signed| signed.verify_kept(log.name(), keys));
    let checkpoint = signed.map_err(|error| match error {
        CheckpointError::Note(NoteError::NotSigned { .. }) => {
            MemoryError::OtherKey { path: file.into(), log: log.name().clone() }
        }
        error => damaged(error.to_string()),
    })?;
    let cosignature = own.find(&checkpoint).map_err(|error: NoteError| damaged(error.to_string()))?;
    let (line, time) = (cosignature.line().to_owned(), cosignature.time());
    Ok(Some((*checkpoint.head(), checkpoint.signed().to_string(), line, time)))
}
