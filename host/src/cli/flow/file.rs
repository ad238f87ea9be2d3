//! The file that describes a flow: TOML in which each key is an option of `submit`, and a few that say what waits for what.
//!
//! *Spec:* `docs/reference/cli.md`, "strongroom flow".

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::path::Path;

use strongroom_job::{MAX_BATCH_JOBS, Name, On};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::exit::Failure;
use super::super::task::TaskArgs;
use super::words::{self, Options, nearest, texts};

/// Longest file, in bytes: room for 10,000 jobs with an argument or two each.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Keys that are options of `submit`, but of which a signature has one for all jobs.
const COMMON: [&str; 4] = ["queue", "priority", "idempotent", "label"];
/// Those of them that say what a job waits for.
const EDGES: [(&str, On); 3] =
    [("after", On::Success), ("after-failure-of", On::Failure), ("after-end-of", On::End)];

/// The jobs of a file; each waits for earlier ones only.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
}

/// One job of a file.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) task: TaskArgs,
    /// Places among the steps, in the order of the file.
    pub(super) after: Vec<(usize, On)>,
    pub(super) stdin: Option<Stdin>,
}

/// What other jobs left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stdin {
    Outputs,
    Artifacts(String),
}

/// The entries of a table; the later of two with one key counts.
type Entries<'t> = BTreeMap<String, (Range<usize>, DeValue<'t>)>;

/// Reads and checks a file.
pub(super) fn read(path: &Path) -> Result<Plan, Failure> {
    let wrong = |error: std::io::Error| Failure::usage(format_args!("{}: {error}", path.display()));
    let length = path.metadata().map_err(wrong)?.len();
    if length > MAX_FILE_BYTES {
        let problem = format!("{length} bytes where at most {MAX_FILE_BYTES} are allowed");
        return Err(Failure::usage(format_args!("{}: {problem}", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(wrong)?;
    parse(&text).map_err(|fault| Failure::usage(format_args!("{}:{fault}", path.display())))
}

/// What is wrong, and in which line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    line: usize,
    problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.problem)
    }
}

/// The file's text, for turning offsets into lines.
#[derive(Clone, Copy)]
pub(super) struct Source<'t>(&'t str);

impl Source<'_> {
    pub(super) fn fault(self, span: &Range<usize>, problem: impl fmt::Display) -> Fault {
        let before = self.0.as_bytes().get(..span.start).unwrap_or(self.0.as_bytes());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Fault { line, problem: problem.to_string() }
    }
}

/// A job before it is known that the jobs that it names are there.
struct Draft<'t> {
    name: String,
    span: Range<usize>,
    entries: Entries<'t>,
    /// Places in the file, from `resolve` on.
    after: Vec<(usize, On)>,
}

fn parse(text: &str) -> Result<Plan, Fault> {
    let source = Source(text);
    let table = DeTable::parse(text).map_err(|error| {
        source.fault(&error.span().unwrap_or(0..0), format_args!("not TOML: {}", error.message()))
    })?;
    let mut common = entries(table.into_inner());
    let missing = || source.fault(&(0..0), "there are no jobs: describe each in a table [jobs.NAME]");
    let (span, jobs) = common.remove("jobs").ok_or_else(missing)?;
    let DeValue::Table(jobs) = jobs else {
        return Err(source.fault(&span, "jobs: must be tables [jobs.NAME]"));
    };
    if jobs.is_empty() || jobs.len() > MAX_BATCH_JOBS {
        let problem = format!("{} jobs: 1 to {MAX_BATCH_JOBS} are allowed", jobs.len());
        return Err(source.fault(&span, problem));
    }
    let options = Options::new();
    for (key, (span, _)) in &common {
        options.check(source, "", key, span, &EDGES.map(|(key, _)| key))?;
    }
    let mut jobs: Vec<(Spanned<Cow<'_, str>>, Spanned<DeValue<'_>>)> = jobs.into_iter().collect();
    jobs.sort_by_key(|(key, _)| key.span().start);
    let mut drafts = Vec::with_capacity(jobs.len());
    for (key, value) in jobs {
        drafts.push(draft(source, &options, &common, &key, value)?);
    }
    resolve(source, &mut drafts)?;
    let order = in_order(source, &drafts)?;
    let mut places = vec![0; order.len()];
    for (place, draft) in order.iter().enumerate() {
        places[*draft] = place;
    }
    let mut drafts: Vec<Option<Draft<'_>>> = drafts.into_iter().map(Some).collect();
    let ordered = order.iter().filter_map(|place| drafts[*place].take());
    let steps = ordered.map(|draft| step(source, &options, draft, &places)).collect::<Result<_, _>>()?;
    Ok(Plan { steps })
}

fn entries<'t>(table: DeTable<'t>) -> Entries<'t> {
    let entry = |(key, value): (Spanned<Cow<'t, str>>, Spanned<DeValue<'t>>)| {
        (key.get_ref().clone().into_owned(), (key.span(), value.into_inner()))
    };
    table.into_iter().map(entry).collect()
}

fn draft<'t>(
    source: Source<'t>,
    options: &Options,
    common: &Entries<'t>,
    key: &Spanned<Cow<'t, str>>,
    value: Spanned<DeValue<'t>>,
) -> Result<Draft<'t>, Fault> {
    let span = key.span();
    let name: Name =
        key.get_ref().parse().map_err(|error| source.fault(&span, format_args!("jobs: {error}")))?;
    let at = format!("jobs.{name}");
    let DeValue::Table(table) = value.into_inner() else {
        return Err(source.fault(&span, format_args!("{at}: must be a table [{at}]")));
    };
    let mut entries = common.clone();
    for (key, (span, value)) in self::entries(table) {
        if COMMON.contains(&key.as_str()) {
            let problem =
                format!("{at}.{key}: all jobs of a flow have one {key}: write it at the top of the file");
            return Err(source.fault(&span, problem));
        }
        options.check(source, &format!("{at}."), &key, &span, &[])?;
        entries.insert(key, (span, value));
    }
    Ok(Draft { name: name.to_string(), span, entries, after: Vec::new() })
}

/// Finds the jobs that each job waits for.
fn resolve(source: Source<'_>, drafts: &mut [Draft<'_>]) -> Result<(), Fault> {
    let places: HashMap<String, usize> =
        drafts.iter().enumerate().map(|(place, draft)| (draft.name.clone(), place)).collect();
    for draft in drafts.iter_mut() {
        let mut known: HashMap<usize, On> = HashMap::new();
        for (key, on) in EDGES {
            let Some((span, value)) = draft.entries.remove(key) else { continue };
            let at = format!("jobs.{}.{key}", draft.name);
            for name in texts(source, &at, &span, &value)? {
                let Some(place) = places.get(&name) else {
                    let hint = nearest(&name, places.keys().map(String::as_str));
                    let hint = hint.map_or_else(String::new, |near| format!(": did you mean {near:?}?"));
                    return Err(source.fault(&span, format_args!("{at}: there is no job {name:?}{hint}")));
                };
                match known.insert(*place, on) {
                    None => draft.after.push((*place, on)),
                    Some(earlier) if earlier == on => {}
                    Some(_) => {
                        let problem = format!("{at}: job {name:?} can be waited for in one way only");
                        return Err(source.fault(&span, problem));
                    }
                }
            }
        }
    }
    Ok(())
}

/// The jobs in an order in which each comes after those that it waits for, otherwise as in the file.
fn in_order(source: Source<'_>, drafts: &[Draft<'_>]) -> Result<Vec<usize>, Fault> {
    let mut followers = vec![Vec::new(); drafts.len()];
    let mut open: Vec<usize> = drafts.iter().map(|draft| draft.after.len()).collect();
    for (place, draft) in drafts.iter().enumerate() {
        for (before, _) in &draft.after {
            followers[*before].push(place);
        }
    }
    let mut free: BTreeSet<usize> = (0..drafts.len()).filter(|place| open[*place] == 0).collect();
    let mut order = Vec::with_capacity(drafts.len());
    while let Some(place) = free.pop_first() {
        order.push(place);
        for follower in &followers[place] {
            open[*follower] -= 1;
            if open[*follower] == 0 {
                free.insert(*follower);
            }
        }
    }
    match open.iter().position(|open| *open > 0) {
        None => Ok(order),
        Some(stuck) => Err(circle(source, drafts, &open, stuck)),
    }
}

/// From who is left, going back from one to another that is left must meet somebody twice.
fn circle(source: Source<'_>, drafts: &[Draft<'_>], open: &[usize], stuck: usize) -> Fault {
    let mut road = vec![stuck];
    let start = loop {
        let last = road[road.len() - 1];
        let next = drafts[last].after.iter().map(|(before, _)| *before).find(|before| open[*before] > 0);
        // Whoever is left waits for somebody who is left.
        let next = next.unwrap_or(stuck);
        if let Some(start) = road.iter().position(|place| *place == next) {
            break start;
        }
        road.push(next);
    };
    let names: Vec<&str> = road[start..]
        .iter()
        .chain([&road[start]])
        .take(10)
        .map(|place| drafts[*place].name.as_str())
        .collect();
    let more = if road.len() - start >= 10 { " waits for …" } else { "" };
    let problem = format!("jobs wait for each other in a circle: {}{more}", names.join(" waits for "));
    source.fault(&drafts[road[start]].span, problem)
}

fn step(source: Source<'_>, options: &Options, draft: Draft<'_>, places: &[usize]) -> Result<Step, Fault> {
    let Draft { name, span, mut entries, after } = draft;
    let at = |key: &str| format!("jobs.{name}.{key}");
    let mut take = |key: &str| match entries.remove(key) {
        Some((span, value)) => texts(source, &at(key), &span, &value).map(|texts| Some((span, texts))),
        None => Ok(None),
    };
    let module = take("module")?;
    let args = take("args")?.map(|(_, args)| args).unwrap_or_default();
    let stdin = match take("stdin-from")? {
        Some((span, words)) => Some(stdin(source, &at("stdin-from"), &span, &words)?),
        None => None,
    };
    let Some((_, module)) = module.filter(|(_, module)| module.len() == 1) else {
        return Err(source.fault(&span, format_args!("{}: name one module", at("module"))));
    };
    let mut words = Vec::new();
    for (key, (span, value)) in &entries {
        words.extend(options.words(source, &at(key), key, span, value)?);
    }
    // Behind `--`, nothing is an option any more.
    words.extend(module);
    words.push("--".into());
    words.extend(args);
    let task = words::parsed(words);
    let task = task.map_err(|problem| source.fault(&span, format_args!("jobs.{name}: {problem}")))?;
    let after = after.iter().map(|(before, on)| (places[*before], *on)).collect();
    Ok(Step { name, task, after, stdin })
}

fn stdin(source: Source<'_>, at: &str, span: &Range<usize>, words: &[String]) -> Result<Stdin, Fault> {
    match words {
        [outputs] if outputs == "outputs" => Ok(Stdin::Outputs),
        [artifact] if artifact.starts_with("artifact:") => {
            Ok(Stdin::Artifacts(artifact["artifact:".len()..].to_owned()))
        }
        _ => Err(source.fault(span, format_args!("{at}: write \"outputs\" or \"artifact:NAME\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each job's name, and those that it waits for.
    fn graph(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
        let plan = parse(text).map_err(|fault| fault.to_string())?;
        let name = |place: usize| plan.steps[place].name.clone();
        let edges = |step: &Step| {
            step.after.iter().map(|(place, on)| format!("{:?} of {}", on, name(*place))).collect()
        };
        Ok(plan.steps.iter().map(|step| (step.name.clone(), edges(step))).collect())
    }

    fn problem(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn jobs_come_after_those_that_they_wait_for_otherwise_as_in_the_file() {
        let text = r#"
            module = "x.wasm"
            [jobs.last]
            after = ["b", "a", "b"]
            after-end-of = "c"
            [jobs.b]
            after-failure-of = "a"
            [jobs.a]
            [jobs.c]
        "#;
        let expected = [
            ("a", vec![]),
            ("b", vec!["Failure of a"]),
            ("c", vec![]),
            ("last", vec!["Success of b", "Success of a", "End of c"]),
        ];
        let expected =
            expected.map(|(name, edges)| (name.to_owned(), edges.iter().map(ToString::to_string).collect()));
        assert_eq!(graph(text).unwrap(), expected);
    }

    #[test]
    fn a_key_means_what_the_option_means_and_a_job_has_the_last_word() {
        let text = r#"
            memory = "64MiB"
            env = ["A=1", "B=2"]
            deterministic = true
            [jobs.a]
            module = "a.wasm"
            args = ["--top", "10", 7]
            memory = "1MiB"
            deterministic = false
            retries = 3
            retry-on = ["failed", "trapped"]
            [jobs.b]
            module = "b.wasm"
            after = "a"
            stdin-from = "artifact:part.csv"
        "#;
        let steps = parse(text).unwrap().steps;
        let shown: Vec<String> = steps.iter().map(|step| format!("{:?}", step.task)).collect();
        for part in [
            r#"module: "a.wasm""#,
            "memory: Some(1048576)",
            r#"args: ["--top", "10", "7"]"#,
            "deterministic: false",
            "retries: 3",
            "retry_on: [Failed, Trapped]",
            r#"env: ["A=1", "B=2"]"#,
        ] {
            assert!(shown[0].contains(part), "{part}: {}", shown[0]);
        }
        for part in ["memory: Some(67108864)", "deterministic: true", "retries: 0", "args: []"] {
            assert!(shown[1].contains(part), "{part}: {}", shown[1]);
        }
        assert_eq!(steps[1].stdin, Some(Stdin::Artifacts("part.csv".into())));
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_what_would_be_right() {
        let with = |line: &str| format!("[jobs.a]\nmodule = \"a.wasm\"\n{line}\n");
        for (text, expected) in [
            ("", "1: there are no jobs: describe each in a table [jobs.NAME]"),
            ("[jobs]", "1: 0 jobs: 1 to 10000 are allowed"),
            ("[jobs.a]\n", "1: jobs.a.module: name one module"),
            ("after = \"a\"\n[jobs.a]", "1: after: say in each job what it waits for"),
            (&with("retires = 3"), "3: unknown key jobs.a.retires: did you mean \"retries\"?"),
            (
                &with("queue = \"q\""),
                "3: jobs.a.queue: all jobs of a flow have one queue: write it at the top of the file",
            ),
            (&with("after = \"b\""), "3: jobs.a.after: there is no job \"b\""),
            (&with("scratch = 1"), "3: jobs.a.scratch: must be true or false"),
            (
                &with("timeout = true"),
                "3: jobs.a.timeout: must be text in quotes, a whole number, or a list of those",
            ),
            (
                &with("input = \"-\""),
                "3: jobs.a.input: standard input cannot be shared among jobs: name a file",
            ),
            (&with("stdin-from = \"a\""), "3: jobs.a.stdin-from: write \"outputs\" or \"artifact:NAME\""),
            (
                &with("memory = [\"1B\", \"2B\"]"),
                "1: jobs.a: the argument '--memory <SIZE>' cannot be used multiple times",
            ),
        ] {
            assert_eq!(problem(text), expected, "{text}");
        }
        let text = problem(&with("timeout = \"30\""));
        assert!(
            text.starts_with(
                "1: jobs.a: invalid value '30' for '--timeout <DURATION>': \"30\" is not a duration"
            ),
            "{text}"
        );
        assert!(problem("x = ").starts_with("1: not TOML: "));
        let twice =
            format!("{}[jobs.b]\nmodule = \"b.wasm\"\nafter = \"a\"\nafter-end-of = \"a\"\n", with(""));
        assert_eq!(problem(&twice), "7: jobs.b.after-end-of: job \"a\" can be waited for in one way only");
    }

    // Red without the test for who is left: jobs in the circle would be left out without a word.
    #[test]
    fn a_circle_is_refused_with_its_jobs() {
        let text = "module = \"x.wasm\"\n[jobs.a]\nafter = \"c\"\n[jobs.b]\nafter = \"a\"\n[jobs.c]\nafter = \"b\"\n[jobs.d]\nafter = \"a\"\n";
        assert_eq!(
            problem(text),
            "2: jobs wait for each other in a circle: a waits for c waits for b waits for a"
        );
        let alone = "[jobs.a]\nmodule = \"x.wasm\"\nafter = \"a\"\n";
        assert_eq!(problem(alone), "1: jobs wait for each other in a circle: a waits for a");
    }
}
