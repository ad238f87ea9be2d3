//! Grants outlive the host's process, and the loss of its state.

use strongroom_job::Event;
use strongroom_sdk::Job;

use crate::common::live::{Live, assert_succeeded, push_wat, run, says, start};
use crate::common::records::records;
use crate::support::{RIGHTS, ann, chain, connect, level, refused, site};

// Red when `Replay::event` takes the end of grants for a record alone.
#[tokio::test(flavor = "multi_thread")]
async fn grants_survive_a_restart_and_the_loss_of_the_state() {
    let live = site(RIGHTS).await;
    let given = chain(&live, 4).await;
    let owner = connect(&live, &ann()).await.unwrap();
    owner.revoke_grant(given[3].body().id).await.unwrap();
    let before = owner.grants().await.unwrap();
    assert_eq!(before.len(), 3);
    let live = live.restart().await;
    assert_eq!(connect(&live, &ann()).await.unwrap().grants().await.unwrap(), before);
    let dir = live.stop().await;

    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let owner = connect(&live, &ann()).await.unwrap();
    assert_eq!(owner.grants().await.unwrap(), before, "made anew from the log");
    assert!(connect(&live, &level(4)).await.is_err(), "what was revoked stays so");
    let third = connect(&live, &level(3)).await.unwrap();
    assert!(refused(third.add_grant(&given[3]).await).message.contains("has ended"));
    let module = push_wat(&third, &says("hello", 0)).await;
    assert_succeeded(&run(&third, &Job::new(module)).await);
    let dir = live.stop().await;
    let told = records(dir.path());
    assert!(told.iter().any(|record| matches!(record.event, Event::StateRebuilt { .. })));
    let by: Vec<_> = told
        .iter()
        .filter_map(|record| match &record.event {
            Event::Admitted { principal, tenant, .. } => Some((*principal, tenant.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(by, [(level(3).public(), "web")], "the delegate's key, the delegator's tenant");
    // Whoever has the log can check what was signed.
    let signed: Vec<_> = told
        .iter()
        .filter_map(|record| match &record.event {
            Event::GrantAdded { payload, signature, .. } => {
                Some(strongroom_job::delegation::SignedDelegation::from_parts(payload, signature).unwrap())
            }
            _ => None,
        })
        .collect();
    assert_eq!(signed, given);
}
