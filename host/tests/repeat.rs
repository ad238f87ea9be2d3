//! Envelopes for a key that the host had before: those that it took are answered again, others are refused with what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::live::{Live, push_wat, says, start};
use common::patience::bounded;
use strongroom::home::Home;
use strongroom_job::note::KeyName;
use strongroom_job::succession::KeyRole;
use strongroom_job::{RefusalCode, Timestamp};
use strongroom_sdk::{Error, Job};

// Red without `Receipts::explained` in `HostService::admit`; and with `answered_before` behind admission the repeat was refused, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_that_was_taken_is_answered_again_and_others_are_told_of_the_new_key() {
    bounded(Box::pin(async {
        let live = Live::new().await;
        let old = *live.host.public_key();
        let client = live.client().await;
        let module = push_wat(&client, &says("hello", 0)).await;
        let (taken, late) =
            (client.sign(&Job::new(module)).await.unwrap(), client.sign(&Job::new(module)).await.unwrap());
        let first = client.submit_for_acceptance(&taken).await.unwrap();
        client.wait(first.jobs[0].job).await.unwrap();
        client.close().await;
        let dir = live.stop().await;

        let locked = Home::open(dir.path()).unwrap().lock().unwrap();
        let name: KeyName =
            strongroom::config::Config::load(&locked.config()).unwrap().log_origin.parse().unwrap();
        let new = *locked.rotate_key(KeyRole::Host, &name, Timestamp::from_millis(7)).unwrap().new_key();
        drop(locked);
        let live = Live { host: start(dir.path(), |_| {}).await, dir };
        assert_eq!(*live.host.public_key(), new);
        let client = live.client().await;

        // The same jobs, the same places, the same time; signed with the key that the host has now.
        let again = client.submit_for_acceptance(&taken).await.unwrap();
        let (before, now) = (first.acceptance.acceptance(), again.acceptance.acceptance());
        assert_eq!((&again.jobs, now.time, now.host), (&first.jobs, before.time, new));
        assert_eq!((before.host, &before.envelope), (old, &now.envelope));
        // Its receipt with the envelope, which is for the old key, proves itself to who knows only the new one.
        let (receipt, proven) = client.receipt(first.jobs[0].job, true).await.unwrap();
        assert!(receipt.has_envelope() && proven.host == new);

        let refused = client.submit_signed(&late).await.unwrap_err();
        let Error::Refused(refusal) = refused else { panic!("{refused}") };
        assert_eq!(refusal.code, RefusalCode::WrongAudience);
        for words in [old.to_string(), new.to_string(), "strongroom key accept".into()] {
            assert!(refusal.message.contains(&words), "{refusal}");
        }
        client.close().await;
        live.stop().await;
    }))
    .await;
}
