//! Events as server-sent events: at once, resumed, ended.

use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::api::Desk;
use crate::app::{TOKEN, TestApp};
use crate::mail::{Draft, LENA};

/// A client of the stream.
struct Reader {
    response: Response,
    text: String,
}

/// One event of it.
#[derive(Debug)]
struct Heard {
    id: String,
    kind: String,
    data: Value,
}

impl Reader {
    async fn open(app: &TestApp, desk: &Desk, query: &str, last: Option<&str>) -> Self {
        Self::open_as(TOKEN, app, desk, query, last).await
    }

    async fn open_as(token: &str, app: &TestApp, desk: &Desk, query: &str, last: Option<&str>) -> Self {
        let client = Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/api/v1/accounts/{}/events{query}", app.api.base, desk.account);
        let mut request = client.get(url).bearer_auth(token).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event; none at the end of the stream.
    async fn next(&mut self) -> Option<Heard> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let mut lines = block.lines().filter_map(|line| line.split_once(": "));
                    lines.find(|(field, _)| *field == name).map(|(_, value)| value.to_owned())
                };
                if let Some(data) = field("data") {
                    let data = serde_json::from_str(&data).unwrap();
                    return Some(Heard { id: field("id").unwrap(), kind: field("event").unwrap(), data });
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(60), self.response.chunk()).await.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }
}

#[tokio::test]
async fn events_are_streamed_as_they_happen_and_resumed_behind_the_last_one() {
    let mut app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let mut reader = Reader::open(&app, &desk, "", None).await;
    let created = reader.next().await.unwrap();
    assert_eq!(
        (created.kind.as_str(), &created.data["data"]["contact_id"]),
        ("contact.created", &json!(desk.anna))
    );
    desk.expect_filed(&app.send(&LENA, &desk.sync, &Draft::default().raw()).await).await;
    let marked = reader.next().await.unwrap();
    let filed = reader.next().await.unwrap();
    assert_eq!((marked.kind.as_str(), filed.kind.as_str()), ("contact.sync_on", "message.filed"));
    let pulled = desk.get("/events").await["items"].clone();
    assert_eq!(pulled, json!([created.data, marked.data, filed.data]));
    assert_eq!(pulled[2]["id"], filed.id.as_str());

    // The header counts more than the parameter: a browser repeats the address it began with.
    let query = format!("?after={}", created.id);
    let mut behind = Reader::open(&app, &desk, &query, None).await;
    assert_eq!(behind.next().await.unwrap().id, marked.id);
    let mut resumed = Reader::open(&app, &desk, &query, Some(&marked.id)).await;
    assert_eq!(resumed.next().await.unwrap().id, filed.id);

    // What another process commits is heard of, too.
    let config = app.folder().join("syncmx.toml").to_str().unwrap().to_owned();
    let mut command =
        crate::app::program(&["contact", "create", &desk.account, "Jonas", "jonas@web-post.test"]);
    command.args(["--config", &config]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success());
    assert_eq!(resumed.next().await.unwrap().kind, "contact.created");

    // It ends with the server, and does not hold it up.
    let (status, ended) = tokio::join!(app.terminate(), resumed.next());
    assert!(status.success() && ended.is_none(), "{ended:?}");
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let body = json!({ "account_id": desk.account, "scopes": ["events"], "name": "reader" });
    let token = app.api.post("/tokens", body).await;
    let text = token["token"].as_str().unwrap();
    let mut reader = Reader::open_as(text, &app, &desk, "", None).await;
    assert_eq!(reader.next().await.unwrap().kind, "contact.created");
    let path = format!("/tokens/{}", token["id"].as_str().unwrap());
    let (status, _) = app.api.call(reqwest::Method::DELETE, &path, None).await;
    assert_eq!(status, 204);
    desk.contact("Jonas", "jonas@web-post.test").await;
    assert!(reader.next().await.is_none(), "what happens after that is not told");
}
