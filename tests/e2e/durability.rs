//! 250 means kept (R2).

use crate::api::Desk;
use crate::app::TestApp;
use crate::mail::{ANNA, Draft, LENA};

#[tokio::test]
async fn r2_after_kill_9_everything_that_was_answered_250_is_there() {
    let mut app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let large = "All work and no play makes Jack a dull boy, says the proverb.\r\n".repeat(5000);
    let mut ids = Vec::new();
    for (id, text) in [("small", "short\r\n"), ("large", large.as_str())] {
        let raw = Draft { id, text, ..Draft::default() }.raw();
        let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
        ids.push(message["id"].as_str().unwrap().to_owned());
    }
    app.kill_and_restart().await;
    let desk = desk.at(&app);
    let there: Vec<String> = desk
        .timeline(&desk.anna)
        .await
        .iter()
        .map(|entry| entry["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(there.len(), 2);
    for id in &ids {
        assert!(there.contains(id));
        let (_, raw) = desk.bytes(&format!("/messages/{id}/raw")).await;
        assert!(raw.ends_with(b"\r\n"));
    }
    let (_, raw) = desk.bytes(&format!("/messages/{}/raw", ids[1])).await;
    assert!(raw.ends_with(large.as_bytes()));

    // The mark, the sync address and the duplicate check survive too.
    let marks = desk.get(&format!("/contacts/{}/sync", desk.anna)).await;
    assert_eq!(marks["items"][0]["state"], "on");
    let inbound = Draft {
        id: "after",
        from: "anna.bergmann@web-post.test",
        to: "x@praxis-morgenrot.test",
        ..Draft::default()
    };
    desk.expect_filed(&app.send(&ANNA, &desk.sync, &inbound.raw()).await).await;
}

#[tokio::test]
async fn r70_one_mail_on_many_sessions_at_once_is_filed_once() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let raw = LENA.sign(&Draft::default().raw());
    let mut sessions = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let mut mailer = app.connect(&LENA).await;
        let (raw, recipients) = (raw.clone(), [desk.sync.clone()]);
        sessions.spawn(async move { mailer.send(LENA.mail_from, &recipients, &raw).await.unwrap() });
    }
    let mut outcomes = Vec::new();
    for answers in sessions.join_all().await {
        assert_eq!(answers.decisive().codes(), "250 2.0.0");
        outcomes.push(desk.delivery(&answers).await["outcome"].as_str().unwrap().to_owned());
    }
    outcomes.sort();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "filed").count(), 1);
    outcomes.dedup();
    assert_eq!(outcomes, ["duplicate", "filed"]);
    assert_eq!(desk.timeline(&desk.anna).await.len(), 1);
}

#[tokio::test]
async fn r2_a_retry_after_a_lost_250_changes_nothing() {
    let mut app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let raw = LENA.sign(&Draft::default().raw());
    let mut mailer = app.connect(&LENA).await;
    let first = mailer.send(LENA.mail_from, std::slice::from_ref(&desk.sync), &raw).await.unwrap();
    desk.expect_filed(&first).await;
    app.kill_and_restart().await;
    let desk = desk.at(&app);
    let mut mailer = app.connect(&LENA).await;
    let again = mailer.send(LENA.mail_from, std::slice::from_ref(&desk.sync), &raw).await.unwrap();
    desk.expect(&again, "250 2.0.0", "duplicate", "duplicate").await;
    assert_eq!(desk.timeline(&desk.anna).await.len(), 1);
}
