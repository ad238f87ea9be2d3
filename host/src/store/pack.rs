//! The rows of jobs as bytes: the one place that knows how a [`JobRow`] is written down.
//!
//! A row is a few numbers and names that are always there, and some parts that few jobs have; those are JSON in a place of their
//! own.
//!
//! *Never:* which row is where (`keys`), nor what it means.
//! *Spec:* `docs/formats/state.md`, "Rows of jobs".

use strongroom_job::{DeadReason, JobId, Outcome, OutputSalt, OutputSummary, PublicKey, Usage};

use super::ReadError;
use super::bytes::{DAMAGED, Packer, Unpacker};
use super::row::{JobRow, Slot};
use crate::lifecycle::{End, Life, Stage};

/// First byte of a row.
const VERSION: u8 = 1;
/// First byte of the row of a job that is over, with the salt of its outputs behind all the rest.
const SALTED: u8 = 2;

/// A row's value. Its place among the jobs is its key.
pub(super) fn row(row: &JobRow) -> Result<Vec<u8>, ReadError> {
    let mut to = Packer(Vec::with_capacity(256));
    let salt = row.life.end().and_then(|end| end.salt.as_ref());
    to.0.push(if salt.is_some() { SALTED } else { VERSION });
    to.0.extend_from_slice(row.job.as_bytes());
    to.0.extend_from_slice(row.signer.as_bytes());
    to.0.extend_from_slice(row.envelope.as_bytes());
    to.time(row.admitted_at);
    to.number(row.touched);
    to.maybe(row.finished, Packer::number);
    to.maybe(row.slot.as_deref(), Packer::slot);
    to.life(&row.life)?;
    if let Some(salt) = salt {
        to.0.extend_from_slice(salt.as_bytes());
    }
    Ok(to.0)
}

/// The opposite of [`row`].
pub(super) fn unpack_row(admitted: u64, bytes: &[u8]) -> Result<JobRow, ReadError> {
    let mut from = Unpacker(bytes);
    let version = from.byte()?;
    if !matches!(version, VERSION | SALTED) {
        return Err(DAMAGED);
    }
    let mut row = JobRow {
        job: JobId::from_bytes(*from.array()?),
        signer: PublicKey::from_bytes(from.array()?).map_err(|_| DAMAGED)?,
        envelope: from.digest()?,
        admitted,
        admitted_at: from.time()?,
        touched: from.number()?,
        finished: from.maybe(Unpacker::number)?,
        slot: from.maybe(Unpacker::slot)?.map(Box::new),
        life: from.life()?,
    };
    if version == SALTED {
        let Stage::Over(end) = &mut row.life.stage else { return Err(DAMAGED) };
        end.salt = Some(OutputSalt::from_bytes(*from.array()?));
    }
    from.end(row)
}

/// How an outcome is told that is not in words of its own.
const OUTCOME_AS_JSON: u8 = 0;
const OUTCOME_EXITED: u8 = 1;
const OUTCOME_CANCELLED: u8 = 2;

const STAGE_ACCEPTED: u8 = 1;
const STAGE_SCHEDULED: u8 = 2;
const STAGE_QUEUED: u8 = 3;
const STAGE_RUNNING: u8 = 4;
const STAGE_CANCELLING: u8 = 5;
const STAGE_OVER: u8 = 6;

impl Packer {
    fn slot(&mut self, slot: &Slot) {
        let Slot { tenant, queue, priority, not_after, input, group, unique } = slot;
        self.text(tenant.as_str());
        self.text(queue.as_str());
        self.0.extend(priority.to_be_bytes());
        self.time(*not_after);
        self.maybe(input.as_ref(), Self::digest);
        self.maybe(group.as_deref(), Self::text);
        self.maybe(unique.as_deref(), Self::text);
    }

    fn life(&mut self, life: &Life) -> Result<(), ReadError> {
        let Life { idempotent, retry, at, expires, repeat, attempt, crashes, started_at, stage } = life;
        self.flag(*idempotent);
        self.json(retry.as_ref())?;
        self.maybe(*at, Self::time);
        self.maybe(*expires, Self::time);
        self.json(repeat.as_ref())?;
        self.number((*attempt).into());
        self.number((*crashes).into());
        self.maybe(*started_at, Self::time);
        match stage {
            Stage::Accepted { waits_for } => {
                self.0.push(STAGE_ACCEPTED);
                self.number((*waits_for).into());
            }
            Stage::Scheduled { ready_at } => {
                self.0.push(STAGE_SCHEDULED);
                self.time(*ready_at);
            }
            Stage::Queued => self.0.push(STAGE_QUEUED),
            Stage::Running { cancelling: false } => self.0.push(STAGE_RUNNING),
            Stage::Running { cancelling: true } => self.0.push(STAGE_CANCELLING),
            Stage::Over(end) => {
                self.0.push(STAGE_OVER);
                self.over(end)?;
            }
        }
        Ok(())
    }

    fn over(&mut self, end: &End) -> Result<(), ReadError> {
        // The salt stands behind the row.
        let End { at, outcome, usage, stdout, stderr, denied, artifacts, result, dead, salt: _ } = end;
        self.time(*at);
        match outcome {
            Outcome::Exited { code } => {
                self.0.push(OUTCOME_EXITED);
                self.0.extend(code.to_be_bytes());
            }
            Outcome::Cancelled => self.0.push(OUTCOME_CANCELLED),
            other => {
                self.0.push(OUTCOME_AS_JSON);
                self.json(Some(other))?;
            }
        }
        let Usage { wall_us, cpu_us, fuel, peak_memory_bytes, stdin_bytes, disk_bytes, files, http_bytes } =
            usage;
        for number in [wall_us, cpu_us, peak_memory_bytes, stdin_bytes, disk_bytes, files, http_bytes] {
            self.number(*number);
        }
        self.maybe(*fuel, Self::number);
        self.output(stdout);
        self.output(stderr);
        self.json(Some(denied).filter(|denied| !denied.is_empty()))?;
        self.json(Some(artifacts).filter(|artifacts| !artifacts.is_empty()))?;
        self.maybe(result.as_ref(), Self::output);
        self.0.push(match dead {
            None => 0,
            Some(DeadReason::Attempts) => 1,
            Some(DeadReason::Age) => 2,
        });
        Ok(())
    }

    fn output(&mut self, output: &OutputSummary) {
        self.number(output.length);
        self.maybe(Some(&output.digest).filter(|_| !is_nothing(output)), Self::digest);
    }
}

/// Most streams are empty. Only those without a byte are hashed here.
fn is_nothing(output: &OutputSummary) -> bool {
    output.length == 0 && *output == OutputSummary::nothing()
}

impl Unpacker<'_> {
    fn slot(&mut self) -> Result<Slot, ReadError> {
        Ok(Slot {
            tenant: self.name()?,
            queue: self.name()?,
            priority: i8::from_be_bytes(*self.array()?),
            not_after: self.time()?,
            input: self.maybe(Self::digest)?,
            group: self.maybe(|from| from.text().map(str::to_owned))?,
            unique: self.maybe(|from| from.text().map(str::to_owned))?,
        })
    }

    fn life(&mut self) -> Result<Life, ReadError> {
        Ok(Life {
            idempotent: self.flag()?,
            retry: self.json()?,
            at: self.maybe(Self::time)?,
            expires: self.maybe(Self::time)?,
            repeat: self.json()?,
            attempt: self.small()?,
            crashes: self.small()?,
            started_at: self.maybe(Self::time)?,
            stage: match self.byte()? {
                STAGE_ACCEPTED => Stage::Accepted { waits_for: self.small()? },
                STAGE_SCHEDULED => Stage::Scheduled { ready_at: self.time()? },
                STAGE_QUEUED => Stage::Queued,
                STAGE_RUNNING => Stage::Running { cancelling: false },
                STAGE_CANCELLING => Stage::Running { cancelling: true },
                STAGE_OVER => Stage::Over(Box::new(self.over()?)),
                _ => return Err(DAMAGED),
            },
        })
    }

    fn over(&mut self) -> Result<End, ReadError> {
        Ok(End {
            at: self.time()?,
            outcome: match self.byte()? {
                OUTCOME_EXITED => Outcome::Exited { code: i32::from_be_bytes(*self.array()?) },
                OUTCOME_CANCELLED => Outcome::Cancelled,
                OUTCOME_AS_JSON => self.json()?.ok_or(DAMAGED)?,
                _ => return Err(DAMAGED),
            },
            usage: Usage {
                wall_us: self.number()?,
                cpu_us: self.number()?,
                peak_memory_bytes: self.number()?,
                stdin_bytes: self.number()?,
                disk_bytes: self.number()?,
                files: self.number()?,
                http_bytes: self.number()?,
                fuel: self.maybe(Self::number)?,
            },
            stdout: self.output()?,
            stderr: self.output()?,
            denied: self.json()?.unwrap_or_default(),
            artifacts: self.json()?.unwrap_or_default(),
            result: self.maybe(Self::output)?,
            dead: match self.byte()? {
                0 => None,
                1 => Some(DeadReason::Attempts),
                2 => Some(DeadReason::Age),
                _ => return Err(DAMAGED),
            },
            salt: None,
        })
    }

    fn output(&mut self) -> Result<OutputSummary, ReadError> {
        let length = self.number()?;
        match self.maybe(Self::digest)? {
            Some(digest) => {
                Some(OutputSummary { length, digest }).filter(|output| !is_nothing(output)).ok_or(DAMAGED)
            }
            None if length == 0 => Ok(OutputSummary::nothing()),
            None => Err(DAMAGED),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use proptest::prelude::*;
    use strongroom_job::{Digest, Repeat, RetryPolicy, SecretKey, Timestamp};

    use super::*;
    use crate::lifecycle::Retrying;

    fn time() -> impl Strategy<Value = Timestamp> {
        prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)].prop_map(Timestamp::from_millis)
    }

    fn digest() -> impl Strategy<Value = Digest> {
        any::<[u8; 32]>().prop_map(Digest::from_bytes)
    }

    fn output() -> impl Strategy<Value = OutputSummary> {
        let any = (0..3u64, digest()).prop_map(|(length, digest)| OutputSummary { length, digest });
        prop_oneof![any, Just(OutputSummary::nothing())]
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            any::<i32>().prop_map(|code| Outcome::Exited { code }),
            Just(Outcome::Cancelled),
            Just(Outcome::Expired),
            any::<[u8; 16]>().prop_map(|job| Outcome::Unmet { job: JobId::from_bytes(job) }),
            "[a-z ]{0,40}".prop_map(|reason| Outcome::Trapped { reason }),
        ]
    }

    fn usage() -> impl Strategy<Value = Usage> {
        (any::<[u64; 7]>(), any::<Option<u64>>()).prop_map(|(numbers, fuel)| {
            let [wall_us, cpu_us, peak_memory_bytes, stdin_bytes, disk_bytes, files, http_bytes] = numbers;
            Usage { wall_us, cpu_us, fuel, peak_memory_bytes, stdin_bytes, disk_bytes, files, http_bytes }
        })
    }

    fn over() -> impl Strategy<Value = End> {
        let dead = prop_oneof![Just(None), Just(Some(DeadReason::Attempts)), Just(Some(DeadReason::Age))];
        let denied = prop_oneof![Just("[]"), Just(r#"[{"what":"connect tcp://10.0.0.1:80","count":2}]"#),];
        let artifacts = prop_oneof![
            Just("[]".to_owned()),
            digest().prop_map(|digest| format!(r#"[{{"name":"a/ü","length":7,"digest":"{digest}"}}]"#)),
        ];
        let streams = (output(), output(), proptest::option::of(output()));
        let salt = proptest::option::of(any::<[u8; 32]>());
        (time(), outcome(), usage(), streams, denied, artifacts, (dead, salt)).prop_map(
            |(at, outcome, usage, (stdout, stderr, result), denied, artifacts, (dead, salt))| End {
                at,
                outcome,
                usage,
                stdout,
                stderr,
                denied: serde_json::from_str(denied).unwrap(),
                artifacts: serde_json::from_str(&artifacts).unwrap(),
                result,
                dead,
                salt: salt.map(OutputSalt::from_bytes),
            },
        )
    }

    fn stage() -> impl Strategy<Value = Stage> {
        prop_oneof![
            any::<u32>().prop_map(|waits_for| Stage::Accepted { waits_for }),
            time().prop_map(|ready_at| Stage::Scheduled { ready_at }),
            Just(Stage::Queued),
            any::<bool>().prop_map(|cancelling| Stage::Running { cancelling }),
            over().prop_map(|end| Stage::Over(Box::new(end))),
        ]
    }

    fn retry() -> impl Strategy<Value = Option<Box<Retrying>>> {
        let policy: RetryPolicy = serde_json::from_str(
            r#"{"attempts":3,"on":["failed","trapped"],"pause_ms":1000,"max_pause_ms":60000,"max_age_ms":7}"#,
        )
        .unwrap();
        proptest::option::of(proptest::option::of(time()))
            .prop_map(move |until| until.map(|until| Box::new(Retrying { policy: policy.clone(), until })))
    }

    fn repeat() -> impl Strategy<Value = Option<Box<Repeat>>> {
        let text = r#"{"cron":"* * * * *","zone":"Europe/Berlin","until":1,"missed":"skip"}"#;
        proptest::option::of(Just(text).prop_map(|text| serde_json::from_str(text).unwrap()))
    }

    fn life() -> impl Strategy<Value = Life> {
        let times =
            (proptest::option::of(time()), proptest::option::of(time()), proptest::option::of(time()));
        (any::<bool>(), retry(), times, repeat(), any::<(u32, u32)>(), stage()).prop_map(
            |(idempotent, retry, (at, expires, started_at), repeat, (attempt, crashes), stage)| Life {
                idempotent,
                retry,
                at,
                expires,
                repeat,
                attempt,
                crashes,
                started_at,
                stage,
            },
        )
    }

    fn slot() -> impl Strategy<Value = Slot> {
        let texts = (proptest::option::of(".{1,40}"), proptest::option::of(".{1,40}"));
        ("[a-z]{1,64}", "[a-z]{1,64}", any::<i8>(), time(), proptest::option::of(digest()), texts).prop_map(
            |(tenant, queue, priority, not_after, input, (group, unique))| Slot {
                tenant: tenant.parse().unwrap(),
                queue: queue.parse().unwrap(),
                priority,
                not_after,
                input,
                group,
                unique,
            },
        )
    }

    fn any_row() -> impl Strategy<Value = JobRow> {
        let ids = (any::<[u8; 16]>(), 0..9u8, digest());
        let slot = proptest::option::of(slot().prop_map(Box::new));
        (ids, any::<(u64, u64, Option<u64>)>(), time(), slot, life()).prop_map(
            |((job, signer, envelope), (admitted, touched, finished), admitted_at, slot, life)| JobRow {
                job: JobId::from_bytes(job),
                signer: SecretKey::from_seed(&[signer; 32].into()).public(),
                envelope,
                admitted,
                admitted_at,
                touched,
                finished,
                slot,
                life,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_nothing_else_is(written in any_row(), flip in any::<(usize, u8)>()) {
            let bytes = row(&written).unwrap();
            prop_assert_eq!(&unpack_row(written.admitted, &bytes).unwrap(), &written);
            // Cut short anywhere, or with more behind it, it is damage and never another job.
            for length in 0..bytes.len() {
                prop_assert!(unpack_row(written.admitted, &bytes[..length]).is_err(), "{}", length);
            }
            prop_assert!(unpack_row(written.admitted, &[bytes.as_slice(), &[0]].concat()).is_err());
            // Changed anywhere it is damage, or another row with bytes of its own.
            let mut other = bytes;
            let at = flip.0 % other.len();
            other[at] = flip.1;
            if let Ok(read) = unpack_row(written.admitted, &other) {
                let json = read.life.retry.is_some() || read.life.repeat.is_some() || read.life.end().is_some();
                prop_assert!(json || row(&read).unwrap() == other);
            }
        }
    }
}
