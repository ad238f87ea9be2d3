//! What a host says of a job that is over: an in-toto statement with SLSA provenance, and nothing beside their schemas.
//!
//! It is a function of two audit records and of a few facts that no record has. So whoever verifies a receipt makes the statement
//! again from the records and compares: there is no second reading of what a field means.
//!
//! *Spec:* in-toto Statement v1, SLSA provenance v1; `docs/formats/receipt.md`.

use serde::{Deserialize, Serialize};

use super::time::Utc;
use super::{Facts, Named};
use crate::note::VerifierKey;
use crate::{
    Artifact, DeadReason, Denial, Digest, Event, GrantRecord, JobId, Limits, ModuleRef, Name, Opening,
    Outcome, OutputSalt, OutputSummary, PublicKey, Record, Usage, as_text,
};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// How jobs are described; a name, not a place.
pub const BUILD_TYPE: &str = "urn:strongroom:job:v1";
/// What stands before a host's key in `builder.id`.
pub const BUILDER_PREFIX: &str = "urn:strongroom:host:";
/// What stands before a job's id in `invocationId`.
const INVOCATION_PREFIX: &str = "urn:strongroom:job:";
/// What stands before the name of an artifact among the subjects.
pub const ARTIFACT_PREFIX: &str = "artifacts/";

/// The statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Resource<OfOutput>>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Predicate {
    build_definition: BuildDefinition,
    run_details: RunDetails,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BuildDefinition {
    build_type: String,
    external_parameters: ExternalParameters,
    internal_parameters: InternalParameters,
    resolved_dependencies: Vec<Resource<OfInput>>,
}

/// What the submitter chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExternalParameters {
    job: JobId,
    tenant: Name,
    principal: PublicKey,
}

/// What the host gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InternalParameters {
    grant: GrantRecord,
    limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunDetails {
    builder: Builder,
    metadata: Metadata,
    byproducts: (Resource<OfRecord>, Resource<OfEnd>, Resource<OfCheckpoint>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Builder {
    id: String,
    version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    strongroom: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Metadata {
    invocation_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_on: Option<Time>,
    finished_on: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Time(#[serde(with = "as_text")] Utc);

/// in-toto's ResourceDescriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource<A> {
    name: String,
    digest: DigestSet,
    annotations: A,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DigestSet {
    sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfOutput {
    length: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfInput {
    /// Nobody records how long an envelope is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfRecord {
    index: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfEnd {
    index: u64,
    attempt: u32,
    outcome: Outcome,
    usage: Usage,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    denied: Vec<Denial>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dead: Option<DeadReason>,
    /// Opens what the record hides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<OutputSalt>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfCheckpoint {
    #[serde(with = "as_text")]
    log: VerifierKey,
}

/// What an `admitted` record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Which job.
    pub job: JobId,
    /// Who signed it.
    pub principal: PublicKey,
    /// In whose name.
    pub tenant: Name,
    /// SHA-256 of the signed body.
    pub envelope: Digest,
    /// What it ran.
    pub module: ModuleRef,
    /// What it was given.
    pub grant: GrantRecord,
    /// What it might use up.
    pub limits: Limits,
}

impl Admitted {
    /// None when the record is another one.
    pub(super) fn of(record: &Record) -> Option<Self> {
        match record.event.clone() {
            Event::Admitted { job, principal, tenant, envelope, module, grant, limits, .. } => {
                Some(Self { job, principal, tenant, envelope, module, grant, limits })
            }
            _ => None,
        }
    }
}

/// What a `finished` record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Which job.
    pub job: JobId,
    /// The last attempt; 0 when it never started.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub usage: Usage,
    /// Standard output.
    pub stdout: OutputSummary,
    /// Standard error.
    pub stderr: OutputSummary,
    /// What it asked for and was not granted.
    pub denied: Vec<Denial>,
    /// Files that it left.
    pub artifacts: Vec<Artifact>,
    /// What it gave as its result.
    pub result: Option<OutputSummary>,
    /// Why it was not tried again.
    pub dead: Option<DeadReason>,
    /// What hides in the record what it left; none when nothing is hidden.
    pub salt: Option<OutputSalt>,
}

impl Finished {
    /// What the record says, opened; whatever hides nothing opens itself. None when the record is another one, or not what this opens.
    pub(super) fn of(record: &Record, opening: Option<&Opening>) -> Option<Self> {
        let left = record.left()?;
        let opening = match opening {
            Some(opening) if left.is_hidden() => {
                Some(opening).filter(|opening| opening.told() == left)?.clone()
            }
            _ => Opening::of_plain(&left)?,
        };
        let Opening { salt, stdout, stderr, artifacts, result } = opening;
        match record.event.clone() {
            Event::Finished { job, attempt, outcome, usage, denied, dead, .. } => Some(Self {
                job,
                attempt,
                outcome,
                usage,
                stdout,
                stderr,
                denied,
                artifacts,
                result,
                dead,
                salt,
            }),
            _ => None,
        }
    }

    /// Everything that it left, by the name that it has among the subjects.
    #[must_use]
    pub fn outputs(&self) -> Vec<(String, OutputSummary)> {
        let own = [
            Some(("stdout", self.stdout)),
            Some(("stderr", self.stderr)),
            self.result.map(|left| ("result", left)),
        ];
        let own = own.into_iter().flatten().map(|(name, left)| (name.to_owned(), left));
        let files = self.artifacts.iter().map(|artifact| {
            let Artifact { name, length, digest } = artifact;
            (format!("{ARTIFACT_PREFIX}{name}"), OutputSummary { length: *length, digest: *digest })
        });
        own.chain(files).collect()
    }
}

impl Statement {
    /// The statement about a job.
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        let Facts { host, version, log, admitted, finished, started_at, input, checkpoint } = facts;
        let (job, end) = (&admitted.says, &finished.says);
        let subject = end.outputs().into_iter();
        let subject = subject.map(|(name, OutputSummary { length, digest })| Resource {
            name,
            digest: digest_set(&digest),
            annotations: OfOutput { length },
        });
        let depends = |name: &str, digest: &Digest, length| Resource {
            name: name.to_owned(),
            digest: digest_set(digest),
            annotations: OfInput { length },
        };
        let mut resolved_dependencies = vec![
            depends("module", &job.module.digest, Some(job.module.length)),
            depends("envelope", &job.envelope, None),
        ];
        if let Some(OutputSummary { length, digest }) = input {
            resolved_dependencies.push(depends("input", digest, Some(*length)));
        }
        let byproducts = (
            byproduct("admitted", admitted.leaf, OfRecord { index: admitted.index }),
            byproduct(
                "finished",
                finished.leaf,
                OfEnd {
                    index: finished.index,
                    attempt: end.attempt,
                    outcome: end.outcome.clone(),
                    usage: end.usage,
                    denied: end.denied.clone(),
                    dead: end.dead,
                    salt: end.salt,
                },
            ),
            byproduct("checkpoint", checkpoint.as_bytes(), OfCheckpoint { log: (*log).clone() }),
        );
        Self {
            kind: STATEMENT_TYPE.into(),
            subject: subject.collect(),
            predicate_type: PREDICATE_TYPE.into(),
            predicate: Predicate {
                build_definition: BuildDefinition {
                    build_type: BUILD_TYPE.into(),
                    external_parameters: ExternalParameters {
                        job: job.job,
                        tenant: job.tenant.clone(),
                        principal: job.principal,
                    },
                    internal_parameters: InternalParameters {
                        grant: job.grant.clone(),
                        limits: job.limits.clone(),
                    },
                    resolved_dependencies,
                },
                run_details: RunDetails {
                    builder: Builder {
                        id: format!("{BUILDER_PREFIX}{host}"),
                        version: Version { strongroom: (*version).to_owned() },
                    },
                    metadata: Metadata {
                        invocation_id: format!("{INVOCATION_PREFIX}{}", job.job),
                        started_on: started_at.map(|time| Time(Utc::of(time))),
                        finished_on: Time(Utc::of(finished.time)),
                    },
                    byproducts,
                },
            },
        }
    }

    /// What no record says: it is the host's word alone.
    pub(super) fn own_words(&self) -> OwnWords {
        let Predicate { build_definition, run_details } = &self.predicate;
        let input = build_definition.resolved_dependencies.iter().find(|one| one.name == "input");
        OwnWords {
            version: run_details.builder.version.strongroom.clone(),
            log: run_details.byproducts.2.annotations.log.clone(),
            started_at: run_details.metadata.started_on.as_ref().map(|time| time.0.time()),
            input: input.and_then(|input| {
                Some(OutputSummary { length: input.annotations.length?, digest: input.digest.read()? })
            }),
            opening: self.opening(),
        }
    }

    /// What the host says that the job left, and the salt that hides it in the record.
    fn opening(&self) -> Option<Opening> {
        let salt = Some(self.predicate.run_details.byproducts.1.annotations.salt?);
        let (mut stdout, mut stderr, mut result, mut artifacts) = (None, None, None, Vec::new());
        for Resource { name, digest, annotations: OfOutput { length } } in &self.subject {
            let (length, digest) = (*length, digest.read()?);
            match name.as_str() {
                "stdout" => stdout = Some(OutputSummary { length, digest }),
                "stderr" => stderr = Some(OutputSummary { length, digest }),
                "result" => result = Some(OutputSummary { length, digest }),
                name => {
                    // What a record would have enforced: the name ends up on a terminal.
                    let name =
                        name.strip_prefix(ARTIFACT_PREFIX).filter(|name| Artifact::is_name(name))?.to_owned();
                    artifacts.push(Artifact { name, length, digest });
                }
            }
        }
        Some(Opening { salt, stdout: stdout?, stderr: stderr?, artifacts, result })
    }

    /// The first part in which two statements differ.
    pub(super) fn first_difference(&self, other: &Self) -> Option<Named> {
        let (ours, theirs) = (&self.predicate.build_definition, &other.predicate.build_definition);
        let (our_run, their_run) = (&self.predicate.run_details, &other.predicate.run_details);
        let parts = [
            ("_type", self.kind == other.kind),
            ("predicateType", self.predicate_type == other.predicate_type),
            ("buildType", ours.build_type == theirs.build_type),
            ("builder", our_run.builder == their_run.builder),
            ("externalParameters", ours.external_parameters == theirs.external_parameters),
            ("internalParameters", ours.internal_parameters == theirs.internal_parameters),
            ("resolvedDependencies", ours.resolved_dependencies == theirs.resolved_dependencies),
            ("subject", self.subject == other.subject),
            ("metadata", our_run.metadata == their_run.metadata),
            ("byproducts.admitted", our_run.byproducts.0 == their_run.byproducts.0),
            ("byproducts.finished", our_run.byproducts.1 == their_run.byproducts.1),
            ("byproducts.checkpoint", our_run.byproducts.2 == their_run.byproducts.2),
        ];
        parts.into_iter().find(|(_, same)| !same).map(|(name, _)| name)
    }
}

/// What only the host says.
pub(super) struct OwnWords {
    pub(super) version: String,
    pub(super) log: VerifierKey,
    pub(super) started_at: Option<crate::Timestamp>,
    pub(super) input: Option<OutputSummary>,
    pub(super) opening: Option<Opening>,
}

fn byproduct<A>(name: &str, bytes: &[u8], annotations: A) -> Resource<A> {
    Resource { name: name.to_owned(), digest: digest_set(&Digest::of(bytes)), annotations }
}

impl DigestSet {
    fn read(&self) -> Option<Digest> {
        format!("sha256:{}", self.sha256).parse().ok()
    }
}

fn digest_set(digest: &Digest) -> DigestSet {
    DigestSet { sha256: digest.to_hex() }
}
