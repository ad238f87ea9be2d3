//! The intersection itself: never wider than any link, for principals and grants that are drawn at random.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use strongroom::admission::delegation::{Grants, Kept, meet};
use strongroom::config::{Principal, Roles};
use strongroom_job::delegation::{Ceilings, DelegationBody};
use strongroom_job::{Access, Destination, HttpRule, JobId, Limits, Role, Timestamp};

use crate::common::random::Random;
use crate::common::secret;

/// Some of a list, each with one chance in two.
fn some<T: Clone>(random: &mut Random, of: &[T]) -> Vec<T> {
    of.iter().filter(|_| random.below(2) == 0).cloned().collect()
}

fn names(list: &[&str]) -> Vec<strongroom_job::Name> {
    list.iter().map(|name| name.parse().unwrap()).collect()
}

fn destinations() -> Vec<Destination> {
    let texts = [
        "10.0.0.0/8:80-90",
        "10.1.0.0/16:80-90",
        "10.1.2.3:85",
        "10.0.0.0/8:85-99",
        "udp://10.0.0.0/8:*",
        "a.example.com:443",
        "a.example.com:*",
        "b.example.com:443",
    ];
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn rules() -> Vec<HttpRule> {
    let texts = [
        "* https://a.example.com/",
        "GET https://a.example.com/v1",
        "GET,POST https://a.example.com/v1/x",
        "https://b.example.com/",
        "* http://a.example.com/",
    ];
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn roles(random: &mut Random) -> Vec<Role> {
    let mut roles = some(random, &[Role::View, Role::Submit, Role::Operate]);
    if roles.is_empty() {
        roles.push(Role::View);
    }
    roles
}

fn access(random: &mut Random) -> Access {
    if random.below(2) == 0 { Access::Read } else { Access::ReadWrite }
}

fn root(random: &mut Random) -> Principal {
    let volumes = some(random, &names(&["a", "b", "c"]));
    let roles = roles(random);
    let roles = Roles::of_list(&roles).unwrap();
    Principal {
        name: "root".parse().unwrap(),
        key: secret(1).public(),
        tenant: "web".parse().unwrap(),
        volumes: volumes.into_iter().map(|name| (name, access(random))).collect(),
        any_directory: random.below(4) == 0,
        any_network: random.below(4) == 0,
        connect: some(random, &destinations()),
        listen: some(random, &["127.0.0.1:80".parse().unwrap(), "127.0.0.1:81".parse().unwrap()]),
        http: some(random, &rules()),
        secrets: some(random, &names(&["x", "y", "z"])).into_iter().collect(),
        roles: if random.below(4) == 0 { Roles::of(Role::Admin) } else { roles },
        narrowed: None,
    }
}

fn link(random: &mut Random, depth: u8) -> DelegationBody {
    let number = |random: &mut Random| random.below(1000);
    let maybe = |random: &mut Random| (random.below(2) == 0).then(|| random.below(1 << 30) + 1);
    let from = number(random);
    let body = DelegationBody::new(
        JobId::from_bytes([depth; 16]),
        secret(99).public(),
        (secret(depth).public(), secret(depth + 1).public()),
        (format!("level-{depth}").parse().unwrap(), "web".parse().unwrap()),
        (Timestamp::from_millis(from), Timestamp::from_millis(from + 1 + number(random))),
        &roles(random),
    );
    let volumes = some(random, &names(&["a", "b", "c"]));
    DelegationBody {
        further: u8::try_from(random.below(4)).unwrap(),
        queues: (random.below(2) == 0).then(|| some(random, &names(&["default", "held", "more"]))),
        volumes: volumes.into_iter().map(|name| (name, access(random))).collect(),
        connect: some(random, &destinations()),
        listen: some(random, &["127.0.0.1:80".parse().unwrap(), "127.0.0.1:81".parse().unwrap()]),
        http: some(random, &rules()),
        secrets: some(random, &names(&["x", "y", "z"])),
        max_limits: Ceilings { memory_bytes: maybe(random), fuel: maybe(random), ..Ceilings::default() },
        labels: (random.below(2) == 0)
            .then(|| {
                ("team".to_owned(), ["ci", "web"][usize::try_from(random.below(8) / 7).unwrap()].to_owned())
            })
            .into_iter()
            .collect(),
        ..body
    }
}

/// That whatever `who` may, its root may and every link says.
fn within(who: &Principal, root: &Principal, links: &[DelegationBody]) {
    let narrowed = who.narrowed.as_deref().expect("a delegate");
    assert!(root.roles.cover(who.roles) && root.tenant == who.tenant);
    assert!(!who.any_directory && !who.any_network);
    for (name, access) in &who.volumes {
        assert!(root.volumes.get(name).is_some_and(|most| access <= most), "volume {name}");
    }
    for to in &who.connect {
        assert!(root.any_network || root.connect.iter().any(|rule| rule.covers(to)), "{to}");
    }
    for rule in &who.http {
        assert!(root.any_network || root.http.iter().any(|given| given.covers(rule)), "{rule}");
    }
    assert!(root.any_network || who.listen.iter().all(|at| root.listen.contains(at)));
    assert!(who.secrets.is_subset(&root.secrets));
    let max = Limits { fuel: Some(1 << 40), ..Limits::default() };
    let limits = narrowed.max_limits.within(&max);
    assert!(narrowed.chain.len() <= 4 && narrowed.chain.len() == links.len());
    for (at, link) in links.iter().enumerate() {
        assert!(Roles::of_list(&link.roles).unwrap().cover(who.roles));
        assert!(narrowed.from >= link.not_before && narrowed.until <= link.not_after);
        let below = u8::try_from(links.len() - 1 - at).unwrap();
        assert!(narrowed.further + below <= link.further, "a longer chain than {at} lets hang below");
        if let Some(queues) = &link.queues {
            let own = narrowed.queues.as_ref().expect("no longer any queue");
            assert!(own.iter().all(|queue| queues.contains(queue)));
        }
        for (name, access) in &who.volumes {
            assert!(link.volumes.get(name).is_some_and(|most| access <= most), "volume {name}");
        }
        assert!(who.connect.iter().all(|to| link.connect.iter().any(|rule| rule.covers(to))));
        assert!(who.http.iter().all(|rule| link.http.iter().any(|given| given.covers(rule))));
        assert!(who.listen.iter().all(|listener| link.listen.contains(listener)));
        assert!(who.secrets.iter().all(|secret| link.secrets.contains(secret)));
        assert!(link.max_limits.memory_bytes.is_none_or(|most| limits.memory_bytes <= most));
        assert!(link.max_limits.fuel.is_none_or(|most| limits.fuel.is_some_and(|fuel| fuel <= most)));
        assert!(link.labels.iter().all(|(label, value)| narrowed.labels.get(label) == Some(value)));
    }
}

// Red when `meet` takes the rules of the grant as they are.
#[test]
fn no_delegate_may_more_than_any_link_above_it() {
    let mut random = Random::new(0x0de1_e9a7);
    let (mut met, mut deepest) = (0, 0);
    for _ in 0..20_000 {
        let root = root(&mut random);
        let mut who = root.clone();
        let mut links = Vec::new();
        for depth in 1..=5 {
            let link = link(&mut random, depth);
            let Some(next) = meet(&who, &link) else { break };
            links.push(link);
            within(&next, &root, &links);
            (who, met, deepest) = (next, met + 1, deepest.max(links.len()));
        }
    }
    assert!(met > 5_000, "{met} delegates are too few to tell");
    assert_eq!(deepest, 4, "as deep as a chain may be, and no deeper");
}

// Red without the question for the tenant in `meet`.
#[test]
fn a_delegate_has_all_that_everybody_gives() {
    let mut random = Random::new(7);
    let everything = Principal {
        connect: destinations(),
        http: rules(),
        roles: Roles::of(Role::Admin),
        secrets: names(&["x", "y", "z"]).into_iter().collect(),
        any_network: false,
        ..root(&mut random)
    };
    let link = DelegationBody { labels: BTreeMap::new(), ..link(&mut random, 1) };
    let who = meet(&everything, &link).unwrap();
    let given: BTreeSet<_> = who.connect.iter().collect();
    assert_eq!(given, link.connect.iter().collect(), "rules that the giver covers are given as they are");
    assert_eq!(who.http.iter().collect::<BTreeSet<_>>(), link.http.iter().collect());
    assert_eq!(
        who.roles,
        Roles::of_list(&link.roles).unwrap(),
        "admin covers what was given, and is not given"
    );
    assert_eq!(who.secrets, link.secrets.iter().cloned().collect());
    // Another giver, or another tenant of the same, gives nothing.
    let other = Principal { key: secret(8).public(), ..everything.clone() };
    assert_eq!(meet(&other, &link), None);
    let moved = Principal { tenant: "moved".parse().unwrap(), ..everything };
    assert_eq!(meet(&moved, &link), None);
}

// Red without the question for `roots` in `Grants::delegates`.
#[test]
fn the_configuration_says_what_its_own_keys_may_and_chains_end_at_four() {
    let mut random = Random::new(3);
    let root = Principal { roles: Roles::of(Role::Admin), ..root(&mut random) };
    let kept = |depth: u8| {
        let plain = DelegationBody::new(
            JobId::from_bytes([depth; 16]),
            secret(99).public(),
            (secret(depth).public(), secret(depth + 1).public()),
            (format!("level-{depth}").parse().unwrap(), "web".parse().unwrap()),
            (Timestamp::from_millis(1), Timestamp::from_millis(1000)),
            &[Role::View],
        );
        let signed = DelegationBody { further: 3, ..plain }.sign(&secret(depth)).unwrap();
        Kept { signed, log_index: u64::from(depth), ended: false }
    };
    let grants = Grants::of((1..=8).map(kept));
    let roots = HashMap::from([(root.key, Arc::new(root.clone()))]);
    let known = grants.delegates(&roots);
    assert_eq!(known.len(), 4);
    assert!((2..=5).all(|level| known.contains_key(&secret(level).public())));
    // A key of the chain is in the configuration: it is what that says, and whom it gives to hangs below that.
    let third = Principal { key: secret(3).public(), roles: Roles::of(Role::View), ..root.clone() };
    let roots = HashMap::from([(root.key, Arc::new(root)), (third.key, Arc::new(third))]);
    let known = grants.delegates(&roots);
    assert!(!known.contains_key(&secret(3).public()));
    assert_eq!(known.len(), 5, "the second, and four below the third");
    assert!((4..=7).all(|level| known.contains_key(&secret(level).public())));
    // One that was revoked ends those below it.
    let revoked = grants.revoked(&[JobId::from_bytes([1; 16]), JobId::from_bytes([3; 16])]);
    assert!(revoked.delegates(&roots).is_empty());
    assert_eq!(grants.below(&JobId::from_bytes([2; 16])).len(), 5, "as far down as a chain can go");
}
