//! Typed prefixes of the one keyspace.
//!
//! *Spec:* `docs/formats/state.md`. Numbers in keys are big-endian, so that the order of bytes is the order of numbers.

use strongroom_job::delegation::GrantId;
use strongroom_job::principal::CommandId;
use strongroom_job::{BlobKind, Digest, JobId, Name, OutputStream, Timestamp};

/// The number of leaves, 8 bytes.
pub(super) const LOG_SIZE: &[u8] = b"m/log-size";
/// The time of the latest record, 8 bytes.
pub(super) const LATEST: &[u8] = b"m/latest";
/// Size and root of the published log, 8 and 32 bytes.
pub(super) const PUBLISHED: &[u8] = b"m/published";
/// What governed the host as the log last said, three digests and 8 bytes.
pub(super) const GOVERNS: &[u8] = b"m/governs";
/// The version of the trust file in force: its number, 8 bytes, and its digest, 32.
pub(super) const TRUST: &[u8] = b"m/trust";
/// The time of the latest `checked` record, 8 bytes.
pub(super) const CHECKED: &[u8] = b"m/checked";
/// What that record says was wrong and how many records it verified, 8 bytes each.
pub(super) const FOUND: &[u8] = b"m/found";
/// The host's key that the latest `key-rotated` record of it names, 32 bytes.
pub(super) const HOST_KEY: &[u8] = b"m/key-host";
/// The log's, 32 bytes.
pub(super) const LOG_KEY: &[u8] = b"m/key-log";
/// The version of this layout, one byte.
pub(super) const LAYOUT: &[u8] = b"m/layout";

/// There when rows were erased whose bytes sled may still have in its file: one byte.
pub(super) const STALE: &[u8] = b"m/stale";

/// The length of sled's file right after it was last written anew, 8 bytes.
pub(super) const RENEWED: &[u8] = b"m/renewed";
/// The bytes of the keys and values in sled, about; how many they were when its file was last written anew; and the length that this had then. 8 bytes each.
pub(super) const BYTES: &[u8] = b"m/bytes";

/// sled has every entry of the journal before this number, but for rows that later ones take away; 8 bytes.
pub(super) const JOURNAL: &[u8] = b"m/journal";

/// Every leaf that is kept.
pub(super) const LEAVES: &[u8] = b"l/";
/// Every queue that is not simply open.
pub(super) const QUEUE_MODES: &[u8] = b"q/";
/// Every job that is not over.
pub(super) const ACTIVE: &[u8] = b"r/";
/// Every job that is over, by its place.
const OVER: &[u8] = b"h/";
/// Every job that stands for its envelope.
const WHOLES: &[u8] = b"w/";
/// What jobs have that those which stand for their envelopes have not.
const VARIATIONS: &[u8] = b"v/";
/// Every short output.
const OUTPUTS: &[u8] = b"z/";
/// Every piece of an envelope.
const ENVELOPES: &[u8] = b"k/";
/// Where the rows of every job are, run or over.
pub(super) const PLACES: &[u8] = b"i/";
/// Every job that is over.
pub(super) const PAST: &[u8] = b"f/";
/// The processor time of every tenant.
pub(super) const COMPUTED: &[u8] = b"c/";
/// Every job that waits for another one.
pub(super) const FOLLOWERS: &[u8] = b"d/";
/// Every grant of one key's rights to another.
pub(super) const GRANTS: &[u8] = b"dg/";
/// Every grant that ended before its time was up.
pub(super) const GRANTS_ENDED: &[u8] = b"dx/";
/// Every command of an operator about principals.
pub(super) const COMMANDS: &[u8] = b"pc/";
/// Every list of jobs whose outputs are the input of a job that is not over.
pub(super) const SOURCES: &[u8] = b"p/";
/// Every module that a tenant gave.
pub(super) const MODULES: &[u8] = b"b/module/";
/// Every input that a tenant gave.
pub(super) const INPUTS: &[u8] = b"b/input/";
/// Every job that was erased.
pub(super) const ERASED: &[u8] = b"er/";
/// Every job that was not run because another one had its unique key.
pub(super) const MERGED: &[u8] = b"x/";
/// Every job that was not run, by the time when its signature expires.
pub(super) const MERGED_UNTIL: &[u8] = b"g/";

/// A leaf of the log.
pub(super) fn leaf(index: u64) -> Vec<u8> {
    join(LEAVES, &[&index.to_be_bytes()])
}

/// Every kind of row whose key begins with the index of a record, and which is written with that record or later.
pub(super) const OF_RECORDS: [&[u8]; 7] = [LEAVES, ACTIVE, OVER, WHOLES, VARIATIONS, OUTPUTS, ENVELOPES];

/// Kinds of which most hosts never have a row, and which every job is looked for in.
pub(super) const RARE: [&[u8]; 4] = [QUEUE_MODES, FOLLOWERS, SOURCES, MERGED];

/// The kind of a row, by its key: all up to the first slash.
pub(super) fn kind(key: &[u8]) -> &[u8] {
    let slash = key.iter().position(|byte| *byte == b'/');
    slash.map_or(key, |at| &key[..=at])
}

/// The record before which there is no row with this key, of [`OF_RECORDS`].
pub(super) fn record_of(key: &[u8]) -> Option<u64> {
    let kind = kind(key);
    let (index, _) = key[kind.len()..].split_first_chunk::<8>()?;
    OF_RECORDS.contains(&kind).then(|| u64::from_be_bytes(*index))
}

/// The first key of a kind of [`OF_RECORDS`] that belongs to this record or a later one.
pub(super) fn from_record(kind: &[u8], record: u64) -> Vec<u8> {
    join(kind, &[&record.to_be_bytes()])
}

/// Where a job's other rows are: the index of its `admitted` record.
pub(super) fn place(job: &JobId) -> Vec<u8> {
    join(PLACES, &[job.as_bytes()])
}

/// A job that was erased.
pub(super) fn erased(job: &JobId) -> Vec<u8> {
    join(ERASED, &[job.as_bytes()])
}

/// How a job stands that is not over.
pub(super) fn active(admitted: u64) -> Vec<u8> {
    join(ACTIVE, &[&admitted.to_be_bytes()])
}

/// How a job stands that is over.
pub(super) fn over(admitted: u64) -> Vec<u8> {
    join(OVER, &[&admitted.to_be_bytes()])
}

/// The job which stands for all that came in its envelope.
pub(super) fn whole(first: u64) -> Vec<u8> {
    join(WHOLES, &[&first.to_be_bytes()])
}

/// What a job has that the one which stands for its envelope has not.
pub(super) fn variation(admitted: u64) -> Vec<u8> {
    join(VARIATIONS, &[&admitted.to_be_bytes()])
}

/// A job that has a unique key, or had it a short time ago.
pub(super) fn unique(tenant: &Name, key: &str) -> Vec<u8> {
    join(b"u/", &[tenant.as_str().as_bytes(), &[0], key.as_bytes()])
}

/// A job that was not run because another one had its unique key.
pub(super) fn merged(job: &JobId) -> Vec<u8> {
    join(MERGED, &[job.as_bytes()])
}

/// A job that was not run, in the order in which their signatures expire.
pub(super) fn merged_until(not_after: Timestamp, job: &JobId) -> Vec<u8> {
    join(MERGED_UNTIL, &[&not_after.as_millis().to_be_bytes(), job.as_bytes()])
}

/// All jobs of a tenant that are over.
pub(super) fn pasts(of: &Name) -> Vec<u8> {
    join(PAST, &[of.as_str().as_bytes(), &[0]])
}

/// A job of a tenant that is over, in the order of their ends.
pub(super) fn past(of: &Name, ended_at: Timestamp, job: &JobId) -> Vec<u8> {
    join(&pasts(of), &[&ended_at.as_millis().to_be_bytes(), job.as_bytes()])
}

/// The processor time of a tenant.
pub(super) fn computed(of: &Name) -> Vec<u8> {
    join(COMPUTED, &[of.as_str().as_bytes()])
}

/// How many jobs came in an envelope, and where its other rows are.
pub(super) fn came_in(digest: &Digest) -> Vec<u8> {
    join(b"y/", &[digest.as_bytes()])
}

/// All jobs that wait for this one.
pub(super) fn followers(job: &JobId) -> Vec<u8> {
    join(FOLLOWERS, &[job.as_bytes()])
}

/// A job that waits for another one.
pub(super) fn follower(of: &JobId, job: &JobId) -> Vec<u8> {
    join(&followers(of), &[job.as_bytes()])
}

/// A grant.
pub(super) fn grant(id: &GrantId) -> Vec<u8> {
    join(GRANTS, &[id.as_bytes()])
}

/// That a grant ended before its time was up.
pub(super) fn grant_ended(id: &GrantId) -> Vec<u8> {
    join(GRANTS_ENDED, &[id.as_bytes()])
}

/// A command of an operator about principals.
pub(super) fn command(id: &CommandId) -> Vec<u8> {
    join(COMMANDS, &[id.as_bytes()])
}

/// The list of jobs whose outputs are a job's input.
pub(super) fn sources(job: &JobId) -> Vec<u8> {
    join(SOURCES, &[job.as_bytes()])
}

/// A piece of that list.
pub(super) fn source(job: &JobId, piece: u32) -> Vec<u8> {
    join(&sources(job), &[&piece.to_be_bytes()])
}

/// What a queue does, when it is not simply open.
pub(super) fn queue_mode(queue: &Name) -> Vec<u8> {
    join(QUEUE_MODES, &[queue.as_str().as_bytes()])
}

/// All jobs of a tenant.
pub(super) fn tenant(tenant: &Name) -> Vec<u8> {
    // A name never holds a NUL, so no tenant's prefix is a prefix of another's.
    join(b"t/", &[tenant.as_str().as_bytes(), &[0]])
}

/// A job of a tenant, in the order of admission.
pub(super) fn tenant_job(of: &Name, admitted: u64) -> Vec<u8> {
    join(&tenant(of), &[&admitted.to_be_bytes()])
}

/// All blobs of one kind that a tenant gave.
pub(super) fn blobs(kind: BlobKind, of: &Name) -> Vec<u8> {
    let kind = match kind {
        BlobKind::Module => MODULES,
        BlobKind::Input => INPUTS,
    };
    join(kind, &[of.as_str().as_bytes(), &[0]])
}

/// A blob that a tenant gave.
pub(super) fn blob(kind: BlobKind, of: &Name, digest: &Digest) -> Vec<u8> {
    join(&blobs(kind, of), &[digest.as_bytes()])
}

/// A short output stream of a job that is over.
pub(super) fn output(admitted: u64, stream: OutputStream) -> Vec<u8> {
    let stream = match stream {
        OutputStream::Stdout => 1,
        OutputStream::Stderr => 2,
        OutputStream::Result => 3,
    };
    join(OUTPUTS, &[&admitted.to_be_bytes(), &[stream]])
}

/// All pieces of an envelope.
pub(super) fn envelopes(first: u64) -> Vec<u8> {
    join(ENVELOPES, &[&first.to_be_bytes()])
}

/// A piece of an envelope.
pub(super) fn envelope(first: u64, piece: u32) -> Vec<u8> {
    join(&envelopes(first), &[&piece.to_be_bytes()])
}

fn join(prefix: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}
