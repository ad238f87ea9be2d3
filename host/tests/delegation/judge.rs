//! Whether a command is taken: each question of `docs/formats/principal.md`, asked alone.

use std::time::Duration;

use strongroom::admission::command::{Asking, Commands, Judged, Kept};
use strongroom::admission::delegation::{Grants, Kept as KeptGrant};
use strongroom::clock::Clock;
use strongroom::config::Config;
use strongroom_job::principal::{CommandBody, Entry};
use strongroom_job::{Access, PublicKey, Refusal, RefusalCode, Role, SecretKey, Timestamp};

use crate::common::secret;
use crate::principal::{ada, add, entry, order, revoke};
use crate::support::{ann, bob, grant, level};

/// What commands are held against here: a file with ada, ann and bob, of whom bob is out; ci, by a command; a delegate of ann's.
struct Bench {
    host: SecretKey,
    file: Config,
    commands: Commands,
    grants: Grants,
    now: Timestamp,
}

impl Bench {
    fn new() -> Self {
        let host = secret(1);
        let key = host.public();
        let mut text = Config::example(&secret(2).public(), "example.com/judge");
        for (name, who, more) in
            [("ada", ada(), ""), ("ann", ann(), "any_network = true\n"), ("bob", bob(), "")]
        {
            text.push_str(&format!(
                "[[principals]]\nname = \"{name}\"\nkey = \"{}\"\n{more}\n",
                who.public()
            ));
        }
        text.push_str("[volumes.docs]\npath = \"/srv\"\naccess = \"read\"\n");
        let file = Config::parse(text.as_bytes()).unwrap();
        let kept = [revoke(&key, 1, &bob()), add(&key, 2, entry("ci", &level(9)))];
        let commands = Commands::of((1..).zip(kept).map(|(log_index, signed)| Kept { signed, log_index }));
        let signed = grant(&key, 1, &ann(), &level(1)).sign(&ann()).unwrap();
        let grants = Grants::of([KeptGrant { signed, log_index: 9, ended: false }]);
        let now = Clock::default().now().saturating_add(Duration::from_secs(60));
        Self { host, file, commands, grants, now }
    }

    fn judge(
        &self,
        body: CommandBody,
        signer: &SecretKey,
        change: impl FnOnce(&mut Asking<'_>),
    ) -> Result<Judged, Refusal> {
        let (host, who, config) = (self.host.public(), ada().public(), self.commands.over(&self.file));
        let mut asking = Asking {
            host: &host,
            who: &who,
            file: &self.file,
            config: &config,
            grants: &self.grants,
            locked: false,
            now: self.now,
        };
        change(&mut asking);
        let body = CommandBody { operator: signer.public(), ..body };
        self.commands.judge(&body.sign(signer).unwrap(), &asking)
    }
}

// Red without the question of `judge`, or of what it calls, that each line is about: all were taken out at once, and each line said so.
#[test]
fn each_question_is_asked() {
    let bench = Bench::new();
    let host: PublicKey = bench.host.public();
    let out = |key: &SecretKey| CommandBody { revoke: Some(key.public()), ..order(&host, 100) };
    let back = |key: &SecretKey| CommandBody { restore: Some(key.public()), ..order(&host, 100) };
    let new = |entry: Entry| CommandBody { add: Some(Box::new(entry)), ..order(&host, 100) };
    let put = |old: &SecretKey, entry: Entry| CommandBody { revoke: Some(old.public()), ..new(entry) };
    let ci = |key: &SecretKey| entry("ci", key);
    let with = |access| {
        let mut entry = entry("new", &level(2));
        entry.volumes.insert("docs".parse().unwrap(), access);
        new(entry)
    };
    let of = |body: CommandBody| bench.judge(body, &ada(), |_| {});
    let hour = Duration::from_secs(3600);
    let (past, soon) =
        (Timestamp::from_millis(bench.now.as_millis() - 3_600_000), bench.now.saturating_add(hour));
    let early = CommandBody { not_before: soon, not_after: soon.saturating_add(hour), ..out(&ann()) };
    let late = CommandBody { not_before: past, not_after: bench.now, ..out(&ann()) };
    let again = CommandBody { id: order(&host, 2).id, ..out(&ann()) };
    let older = CommandBody { not_before: past, ..back(&bob()) };
    let elsewhere = CommandBody { audience: ann().public(), ..out(&ann()) };
    let (conflict, forbidden) = (RefusalCode::Conflict, RefusalCode::Forbidden);

    let asked: Vec<(&str, Result<Judged, Refusal>, RefusalCode)> = vec![
        ("for this host", of(elsewhere), RefusalCode::WrongAudience),
        ("signed by who hands it in", bench.judge(out(&ann()), &secret(2), |_| {}), forbidden),
        ("a new id", of(again), conflict),
        ("not locked", bench.judge(out(&ann()), &ada(), |asking| asking.locked = true), forbidden),
        ("its time has come", of(early), RefusalCode::NotYetValid),
        ("its time is not up", of(late), RefusalCode::Expired),
        ("revoke: not one's own", of(out(&ada())), forbidden),
        ("revoke: not out already", of(out(&bob())), conflict),
        ("revoke: somebody's", of(out(&level(5))), conflict),
        ("rotate: a principal's", of(put(&level(1), ci(&level(2)))), conflict),
        (
            "rotate: what a command can say",
            of(put(&ann(), Entry { name: "ann".parse().unwrap(), ..ci(&level(2)) })),
            conflict,
        ),
        (
            "rotate: the same rights",
            of(put(&level(9), Entry { roles: vec![Role::Admin], ..ci(&level(2)) })),
            conflict,
        ),
        ("rotate: not one's own", of(put(&ada(), ci(&level(2)))), forbidden),
        ("restore: out", of(back(&level(5))), conflict),
        ("restore: no older", of(older), conflict),
        ("add: not the host's", of(new(entry("new", &bench.host))), conflict),
        ("add: not in the file", of(new(entry("new", &ann()))), conflict),
        ("add: not in the file, out", of(new(entry("new", &bob()))), conflict),
        ("add: no principal's", of(new(entry("new", &level(9)))), conflict),
        ("add: no delegate's", of(new(entry("new", &level(1)))), conflict),
        ("add: a name of the file", of(new(entry("ann", &level(2)))), conflict),
        ("add: a name of a command", of(new(ci(&level(2)))), conflict),
        ("add: a delegate's name", of(new(entry("delegate-1", &level(2)))), conflict),
        ("add: volumes as far", of(with(Access::ReadWrite)), RefusalCode::NotGranted),
    ];
    let taken: Vec<_> = asked
        .iter()
        .filter(|(_, judged, code)| judged.as_ref().err().is_none_or(|refusal| refusal.code != *code))
        .map(|(what, judged, _)| (what, judged))
        .collect();
    assert!(taken.is_empty(), "{taken:#?}");

    // And what passes all of them.
    for good in [
        out(&ann()),
        out(&level(9)),
        out(&level(1)),
        back(&bob()),
        with(Access::Read),
        put(&level(9), ci(&level(2))),
    ] {
        assert_eq!(of(good.clone()), Ok(Judged::New(Vec::new())), "{good:?}");
    }
    // The bytes that were taken before.
    let kept = bench.commands.get(&order(&host, 2).id).unwrap().signed.clone();
    let config = bench.commands.over(&bench.file);
    let (who, now) = (ada().public(), soon);
    let asking = Asking {
        host: &host,
        who: &who,
        file: &bench.file,
        config: &config,
        grants: &bench.grants,
        locked: true,
        now,
    };
    assert_eq!(bench.commands.judge(&kept, &asking), Ok(Judged::Before), "whatever has become of its time");
}
