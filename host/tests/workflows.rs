//! Workflows through the SDK and a real host: who waits for whom, what goes from one to the next, and how large it may be.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::guests::CAT;
use common::live::{Live, finish, push_wat, says};
use strongroom_job::{JobState, Outcome};
use strongroom_sdk::{Error, Flow, FlowJob, Job};

#[tokio::test(flavor = "multi_thread")]
async fn outputs_go_from_job_to_job_in_the_order_in_which_they_were_named() {
    let live = Live::new().await;
    let client = live.client().await;
    let cat = push_wat(&client, CAT).await;
    let mut flow = Flow::new();
    let mut parts = Vec::new();
    for text in ["one ", "two ", "three "] {
        parts.push(flow.add(Job::new(push_wat(&client, &says(text, 0)).await)));
    }
    parts.reverse();
    let joined = flow.add(Job::new(cat).after_all(parts).stdin_from_outputs());
    let copies = flow.chain((0..3).map(|_| FlowJob::from(Job::new(cat))));
    let last = flow.add(Job::new(cat).after(joined).after_end_of(copies.unwrap()).stdin_from_outputs());
    let accepted = client.submit_flow(&flow).await.unwrap();
    let of = |handle: strongroom_sdk::Handle| accepted[handle.index()].job;
    assert_eq!(finish(&client, of(joined)).await.stdout, b"three two one ");
    assert_eq!(finish(&client, of(last)).await.stdout, b"three two one ");

    // Its input is gone with its flow, so a job of it alone cannot be run again.
    let error = client.retry(of(joined)).await.unwrap_err();
    assert!(
        matches!(&error, Error::NotAgain { problem, .. } if problem.contains("submit the flow again")),
        "{error}"
    );
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_edge_has_its_own_policy() {
    let live = Live::new().await;
    let client = live.client().await;
    let (good, bad) = (push_wat(&client, &says("", 0)).await, push_wat(&client, &says("", 1)).await);
    let mut flow = Flow::new();
    let failed = flow.add(Job::new(bad));
    let never = flow.add(Job::new(good).after(failed));
    let alarm = flow.add(Job::new(good).after_failure_of(failed));
    let clean = flow.add(Job::new(good).after_end_of(failed));
    let no_alarm = flow.add(Job::new(good).after_failure_of(clean));
    let after_never = flow.add(Job::new(good).after(never));
    let accepted = client.submit_flow(&flow).await.unwrap();
    let mut states = Vec::new();
    for handle in [failed, never, alarm, clean, no_alarm, after_never] {
        states.push(client.wait(accepted[handle.index()].job).await.unwrap().end.outcome);
    }
    let done = || Outcome::Exited { code: 0 };
    let unmet = |handle: strongroom_sdk::Handle| Outcome::Unmet { job: accepted[handle.index()].job };
    assert_eq!(
        states,
        [Outcome::Exited { code: 1 }, unmet(failed), done(), done(), unmet(clean), unmet(never)]
    );
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_of_ten_thousand_and_a_depth_of_a_thousand_work() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, r#"(module (memory (export "memory") 1) (func (export "_start")))"#).await;
    let mut flow = Flow::new();
    let start = flow.add(Job::new(module));
    let wide = flow.group((0..9_998).map(|part| Job::new(module).arg(part.to_string()).after(start)));
    let end = flow.add(Job::new(module).after_all(wide));
    let accepted = client.submit_flow(&flow).await.unwrap();
    let finished = client.wait(accepted[end.index()].job).await.unwrap();
    assert_eq!(finished.view.state, JobState::Succeeded);

    let mut flow = Flow::new();
    let last = flow.chain((0..1_000).map(|_| Job::new(module))).unwrap();
    let accepted = client.submit_flow(&flow).await.unwrap();
    let finished = client.wait(accepted[last.index()].job).await.unwrap();
    assert_eq!(finished.view.state, JobState::Succeeded);
    live.stop().await;
}
