//! Verifying a log: believe the signature, rebuild everything else from the entries, compare every byte.
//!
//! The entries give the hashes, the hashes give the tiles and the root, the root must be the signed one. What
//! disagrees is recorded while reading; who is to blame is decided at the end, when it is known whether the
//! entries lead to the signed root (`blame`). Then the directory is walked for files that do not belong (`walk`).
//!
//! *Never:* writes. *Memory:* one bundle and the right edge, whatever the log's size.
//! *Cannot see:* a log that was cut back to an older checkpoint of its own, files and all. Only a remembered size and
//! root can tell: [`Options::known`].

mod blame;
mod finding;
mod walk;

use std::path::Path;

use strongroom_job::PublicKey;
use strongroom_job::checkpoint::Checkpoint;
use strongroom_job::merkle::{Hash, LeafIndex, TreeHead, TreeSize};
use strongroom_job::note::VerifierKey;
use strongroom_job::succession::KeyChain;
use strongroom_job::tile::{Content, TILE_WIDTH, Tile, TileEdge, bundle, hashes};

use super::durable::names;
use super::files::{CHECKPOINT, COSIGNED, FileError, Files, LOG_PUB, Signer, WrongKey};
use super::leftovers::partial_dir;
use blame::Mismatch;
use finding::Findings;
pub use finding::{Finding, MAX_FINDINGS, Problem, VerifyError};

/// What the caller knows about the log, and how the log is found.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The key that must have signed it, or an earlier one from which the log's `keys` lead there. Without it a log that somebody forged
    /// whole, key and all, passes.
    pub key: Option<PublicKey>,
    /// Size and root that were published at some time: the log must begin with that tree.
    pub known: Option<TreeHead>,
    /// Whether a host is writing the log meanwhile. Files beyond the checkpoint are then counted, not refused, and
    /// a partial tile may have given way to the full one.
    pub live: bool,
}

/// A log that passed.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What was verified: size, root and the signature over them.
    pub checkpoint: Checkpoint,
    /// The checkpoint in `checkpoint.cosigned`, if there is one: signed by the log, and the log begins with its tree. Who
    /// cosigned it was not checked.
    pub cosigned: Option<Checkpoint>,
    /// Who signed.
    pub verifier: VerifierKey,
    /// The keys of the log, as its own statements lead through them: one of them is [`Options::key`].
    pub keys: KeyChain,
    /// How many files were compared.
    pub files: u64,
    /// Files beyond the checkpoint, which nothing vouches for. Always 0 unless [`Options::live`].
    pub unpublished: u64,
}

impl Verified {
    /// How many entries were verified.
    #[must_use]
    pub const fn size(&self) -> TreeSize {
        self.checkpoint.size()
    }
}

/// Watches a verification.
pub trait Observer {
    /// Called once, before the first entry: `size` entries will be read.
    fn started(&mut self, size: TreeSize) {
        let _ = size;
    }

    /// Called for each entry in order, before its hash was compared with anything.
    ///
    /// # Errors
    /// A sentence about what is wrong with the entry's content: it becomes a finding.
    fn entry(&mut self, index: LeafIndex, entry: &[u8]) -> Result<(), String> {
        let _ = (index, entry);
        Ok(())
    }
}

/// Watches nothing.
impl Observer for () {}

/// Verifies the log in `dir`: signature, every entry, every tile, every other file.
///
/// # Errors
/// With the places that are wrong, at most [`MAX_FINDINGS`] of them.
pub fn verify_dir(
    dir: &Path,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Verified, VerifyError> {
    let files = Files::new(dir);
    let signer = files.signer()?;
    let wrong = |error: WrongKey| Finding::new(LOG_PUB, Problem::WrongKey(error.to_string()));
    signer.check(options.key.as_ref()).map_err(wrong)?;
    let Signer { verifier, keys } = signer;
    // Before the checkpoint: while a host writes, it is never ahead of it.
    let cosigned = files.cosigned(&verifier)?;
    let checkpoint = files.checkpoint(&verifier)?;
    let known = options.known.iter().map(|known| (CHECKPOINT, *known));
    let known: Vec<_> = known.chain(cosigned.iter().map(|cosigned| (COSIGNED, *cosigned.head()))).collect();
    if let Some((_, known)) = known.iter().find(|(_, known)| known.size > checkpoint.size()) {
        let problem = Problem::Shrank { size: checkpoint.size(), seen: known.size };
        return Err(Finding::new(CHECKPOINT, problem).into());
    }

    let mut check = Check {
        files: &files,
        options,
        known,
        signed: *checkpoint.head(),
        edge: TileEdge::new(),
        mismatches: Vec::new(),
        findings: Findings::default(),
        compared: 2 + u64::from(cosigned.is_some()) + u64::from(keys.keys().len() > 1),
    };
    observer.started(checkpoint.size());
    if check.entries(observer) {
        check.partial_tiles();
        check.blame();
    }
    let unpublished = walk::walk(&files, checkpoint.size(), options.live, &mut check.findings);
    let compared = check.compared;
    check.findings.finish()?;
    Ok(Verified { checkpoint, cosigned, verifier, keys, files: compared, unpublished })
}

/// One verification on its way.
struct Check<'a> {
    files: &'a Files,
    options: &'a Options,
    /// Trees that the log must begin with, and the file that is wrong when it does not.
    known: Vec<(&'static str, TreeHead)>,
    signed: TreeHead,
    /// The tree as the entries give it.
    edge: TileEdge,
    /// Where tiles differ from the entries; not decided yet who is wrong.
    mismatches: Vec<Mismatch>,
    findings: Findings,
    compared: u64,
}

impl Check<'_> {
    /// Reads all entries and compares every full tile on the way. False when it had to stop.
    fn entries(&mut self, observer: &mut dyn Observer) -> bool {
        self.check_known();
        for tile in Tile::all(self.signed.size).take_while(|tile| tile.content() == Content::Entries) {
            let leaves = match self.bundle(tile, observer) {
                Ok(leaves) => leaves,
                Err(finding) => {
                    self.findings.push(finding);
                    // The entries are lost, but their hashes let the rest be checked.
                    match self.hashes(tile.leaf_hashes()) {
                        Ok(leaves) => leaves,
                        Err(finding) => {
                            self.findings.push(finding);
                            return false;
                        }
                    }
                }
            };
            self.append(tile, &leaves);
            if self.findings.is_full() {
                self.findings.stop();
                return false;
            }
        }
        true
    }

    /// The leaf hashes of a bundle, from its entries.
    fn bundle(&mut self, tile: Tile, observer: &mut dyn Observer) -> Result<Vec<Hash>, Finding> {
        let bytes = self.read(tile)?;
        let malformed =
            |error: bundle::BundleError| Finding::new(&tile, Problem::Malformed(error.to_string()));
        let entries = bundle::decode(tile, &bytes).map_err(malformed)?;
        for (entry, index) in entries.iter().zip(tile.first()..) {
            let index = LeafIndex::new(index);
            if let Err(reason) = observer.entry(index, entry) {
                self.findings.push(Finding::at(&tile, index, Problem::Content(reason)));
            }
        }
        let leaves = entries.iter().map(|entry| Hash::of_leaf(entry)).collect();
        self.earlier_partials(tile, |width| bundle::prefix(&bytes, width).ok().map(<[u8]>::to_vec));
        Ok(leaves)
    }

    /// Adds the leaves of one bundle to the tree and compares the tiles that become full.
    fn append(&mut self, from: Tile, leaves: &[Hash]) {
        for leaf in leaves {
            let mut full = Vec::new();
            if let Err(error) = self.edge.push(*leaf, |tile, hashes| full.push((tile, hashes.to_vec()))) {
                return self.findings.push(Finding::new(&from, Problem::Malformed(error.to_string())));
            }
            for (tile, hashes) in full {
                self.compare(tile, &hashes);
            }
            self.check_known();
        }
    }

    fn partial_tiles(&mut self) {
        let partial: Vec<_> = self.edge.partial().map(|(tile, hashes)| (tile, hashes.to_vec())).collect();
        for (tile, hashes) in partial {
            self.compare(tile, &hashes);
        }
    }

    /// Compares a tile's file, and its earlier partial forms, with the hashes that the entries give.
    fn compare(&mut self, tile: Tile, expected: &[Hash]) {
        match self.hashes(tile) {
            Err(finding) => self.findings.push(finding),
            Ok(found) => {
                let differing = found.iter().zip(expected).zip(tile.first()..).filter(|((a, b), _)| a != b);
                for (_, item) in differing {
                    self.mismatch(Mismatch { tile, item });
                }
            }
        }
        self.earlier_partials(tile, |width| expected.get(..usize::from(width)).map(hashes::encode));
    }

    /// Compares the files of a tile's narrower forms with `expected(width)`; those beyond the log are for `walk`.
    fn earlier_partials(&mut self, tile: Tile, expected: impl Fn(u16) -> Option<Vec<u8>>) {
        let Ok(full) = Tile::new(tile.content(), tile.index(), TILE_WIDTH) else { return };
        let listed = match names(&partial_dir(self.files, full)) {
            Ok(listed) => listed,
            Err(error) => return self.findings.push(FileError::io(&format!("{full}.p"), error).into()),
        };
        for name in listed {
            let parsed = name.to_str().and_then(|name| format!("{full}.p/{name}").parse::<Tile>().ok());
            let Some(partial) = parsed.filter(|partial| partial.width() < tile.width()) else { continue };
            // A running host may remove it after the listing: `read` then takes it from the full tile.
            match self.read(partial) {
                Err(finding) => self.findings.push(finding),
                Ok(bytes) => {
                    let expected = expected(partial.width()).unwrap_or_default();
                    if let Some(place) = blame::first_difference(partial, &bytes, &expected) {
                        self.mismatch(Mismatch { tile: partial, item: place });
                    }
                }
            }
        }
    }

    /// Compares the tree with those that are known, when it has grown to their size.
    fn check_known(&mut self) {
        for (file, known) in self.known.iter().filter(|(_, known)| known.size == self.edge.size()) {
            if self.edge.head() != *known {
                self.findings.push(Finding::new(*file, Problem::OtherHistory { size: known.size }));
            }
        }
    }

    fn read(&mut self, tile: Tile) -> Result<Vec<u8>, Finding> {
        self.compared += 1;
        let bytes = if self.options.live { self.files.tile_or_full(tile) } else { self.files.tile(tile) };
        bytes.map_err(Finding::from)
    }

    fn hashes(&mut self, tile: Tile) -> Result<Vec<Hash>, Finding> {
        let bytes = self.read(tile)?;
        hashes::decode(tile, &bytes)
            .map_err(|error| Finding::new(&tile, Problem::Malformed(error.to_string())))
    }

    fn mismatch(&mut self, mismatch: Mismatch) {
        if self.mismatches.len() < blame::MAX_MISMATCHES {
            self.mismatches.push(mismatch);
        }
    }
}
