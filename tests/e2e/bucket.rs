//! Large mails in an S3 bucket: a real server of that protocol (moto, from `PyPI`), which fails, lies and comes back.

use std::time::Duration;

use reqwest::Method;

use crate::api::Desk;
use crate::app::TestApp;
use crate::bucket_server::{Bucket, IN_PARTS, noise};
use crate::mail::{Draft, LENA};

#[tokio::test]
async fn r2_r60_a_large_mail_lives_in_the_bucket_and_ends_with_its_contact() {
    let Some(bucket) = Bucket::start().await else { return };
    let app = TestApp::start_with(&bucket.environment()).await;
    let desk = Desk::open(&app).await;
    for (id, octets) in [("parts", IN_PARTS), ("one", 200 << 10)] {
        let text = noise(octets);
        let raw = Draft { id, text: &text, ..Draft::default() }.raw();
        let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
        let id = message["id"].as_str().unwrap();
        let (_, stored) = desk.bytes(&format!("/messages/{id}/raw")).await;
        assert!(stored.ends_with(text.as_bytes()), "{id}: what was sent is what is kept");
    }
    let mut parts = bucket.parts().await;
    parts.sort_unstable();
    assert_eq!(parts, [None, Some(2)], "one of them came in parts");
    assert_eq!(bucket.unfinished().await, 0);
    let listed = bucket.keys().await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(listed.iter().all(|key| key.starts_with("mail/blobs/")), "{listed:?}");

    let contact = format!("/accounts/{}/contacts/{}", desk.account, desk.anna);
    let (status, _) = app.api.call(Method::DELETE, &contact, None).await;
    assert!(status.is_success(), "{status}");
    for _ in 0..500 {
        if bucket.keys().await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("still in the bucket: {:?}", bucket.keys().await);
}

#[tokio::test]
async fn r2_without_its_bucket_a_large_mail_is_deferred_and_a_small_one_is_filed() {
    let Some(mut bucket) = Bucket::start().await else { return };
    let app = TestApp::start_with(&bucket.environment()).await;
    let desk = Desk::open(&app).await;
    bucket.stop();
    let text = noise(200 << 10);
    let large = Draft { id: "large", text: &text, ..Draft::default() }.raw();
    let deferred = app.send(&LENA, &desk.sync, &large).await;
    assert_eq!(deferred.decisive().codes(), "451 4.3.0");
    let small = Draft { id: "small", ..Draft::default() }.raw();
    desk.expect_filed(&app.send(&LENA, &desk.sync, &small).await).await;

    bucket.run().await;
    let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &large).await).await;
    assert_eq!(desk.timeline(&desk.anna).await.len(), 2);

    // Somebody empties the bucket: that message says so, the rest goes on.
    bucket.stop();
    bucket.run().await;
    let id = message["id"].as_str().unwrap();
    let raw = format!("/accounts/{}/messages/{id}/raw", desk.account);
    let (status, _) = app.api.call(Method::GET, &raw, None).await;
    assert!(status.is_server_error(), "{status}");
    assert_eq!(desk.timeline(&desk.anna).await.len(), 2);
}
