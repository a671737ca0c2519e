//! R60, R63: who is erased goes from the mail of others, too, where only an address names them there: it came before
//! they were on file, or to another address of theirs than the one by which they are found (R22).

use serde_json::{Value, json};

use crate::purge::{Scene, mail};
use crate::server::text;

impl Scene {
    /// How many messages a search finds.
    async fn finds(&self, query: &str) -> usize {
        self.count(&format!("/search?q={query}")).await
    }

    /// Who stands in Cc: name and address of each.
    async fn cc(&self, message: &str) -> Vec<(Value, Value)> {
        let shown = self.get(&format!("/messages/{message}")).await;
        let people = shown["cc"].as_array().unwrap().iter();
        people.map(|person| (person["name"].clone(), person["email"].clone())).collect()
    }

    /// All that the API says of messages, traces and events.
    async fn all_said(&self, message: &str) -> String {
        let mut said = self.get(&format!("/messages/{message}")).await.to_string();
        for list in ["/deliveries?limit=200", "/events?limit=200"] {
            said += &self.get(list).await.to_string();
        }
        said.to_lowercase()
    }

    /// A mail that somebody on no record sent to Ana's reply address.
    async fn file_from_stranger(&self, from: &str) -> String {
        let minted = json!({"contact_id": self.ana, "user_id": self.bo["id"]});
        let minted = self.server.post(&format!("{}/reply-addresses", self.account), minted).await.expect(201);
        let reply = format!(
            "From: Cleo <{from}>\nTo: x@reply.example.test\nSubject: Re: Hello\n\
             Date: Sun, 22 Nov 2020 03:00:00 +0000\nMessage-ID: <reply@patient.test>\n\nThanks\n"
        );
        let filed = self.server.deliver(&text(&minted["address"]), &reply).await;
        text(&self.get(&format!("/deliveries/{}", filed.decided[0].0)).await["message_id"])
    }
}

fn erased() -> (Value, Value) {
    (Value::Null, json!(""))
}

fn person(name: &str, email: &str) -> (Value, Value) {
    (json!(name), json!(email))
}

#[tokio::test]
async fn r63_a_contact_goes_from_mail_that_came_before_them_or_to_another_address_of_theirs() {
    let scene = Scene::set().await;
    let cc = "Cc: Cleo <Cleo@patient.test>, Cleo W <c.w@work.test>, Dan <dan@patient.test>\n";
    let copied = scene.file(&scene.bo, &mail("bo@practice.test", "copied", cc)).await;
    let written = scene.file_from_stranger("cleo@patient.test").await;
    let cleo = json!({"name": "Cleo", "email": "cleo@patient.test", "other_emails": ["C.W@work.test"]});
    let cleo = scene.server.post(&format!("{}/contacts", scene.account), cleo).await.expect(201);
    assert_eq!(
        scene.cc(&copied).await[..2],
        [person("Cleo", "Cleo@patient.test"), person("Cleo W", "c.w@work.test")]
    );
    for query in ["to:cleo@patient.test", "to:c.w@work.test", "from:cleo@patient.test"] {
        assert_eq!(scene.finds(query).await, 1, "{query}");
    }
    assert!(scene.all_said(&written).await.contains("cleo@patient.test"));

    let purged = scene.purge(json!({"contact_id": cleo["id"]})).await;
    assert_eq!((&purged["messages"], &purged["done"]), (&json!(0), &json!(true)));
    assert_eq!(scene.cc(&copied).await, [erased(), erased(), person("Dan", "dan@patient.test")]);
    for query in ["to:cleo@patient.test", "to:c.w@work.test", "from:cleo@patient.test"] {
        assert_eq!(scene.finds(query).await, 0, "{query}");
    }
    assert_eq!(scene.finds("to:dan@patient.test").await, 1);
    for message in [&copied, &written] {
        let said = scene.all_said(message).await;
        assert!(!said.contains("cleo@") && !said.contains("c.w@"), "{said}");
    }
}

#[tokio::test]
async fn r63_an_address_that_is_somebody_elses_too_stays_where_nothing_links_it() {
    let scene = Scene::set().await;
    let cc = "Cc: Family <family@patient.test>, Eva <eva.home@practice.test>, Cleo <cleo@patient.test>\n";
    let before = scene.file(&scene.bo, &mail("bo@practice.test", "before", cc)).await;
    let contacts = format!("{}/contacts", scene.account);
    let others = ["family@patient.test", "eva.home@practice.test"];
    let cleo = json!({"name": "Cleo", "email": "cleo@patient.test", "other_emails": others});
    let cleo = text(&scene.server.post(&contacts, cleo).await.expect(201)["id"]);
    let mia = scene.server.contact(&scene.account, "Mia", "family@patient.test").await;
    let emails = format!("{}/users/{}/emails", scene.account, text(&scene.eva["id"]));
    let home = json!({"address": "eva.home@practice.test", "verified": true});
    scene.server.post(&emails, home).await.expect(201);
    let after = scene.file(&scene.bo, &mail("bo@practice.test", "after", cc)).await;

    scene.purge(json!({"contact_id": cleo})).await;
    for message in [&before, &after] {
        let left =
            [person("Family", "family@patient.test"), person("Eva", "eva.home@practice.test"), erased()];
        assert_eq!(scene.cc(message).await, left);
    }
    assert_eq!(scene.finds("to:family@patient.test").await, 2);
    // Who is the last to have it takes it along.
    scene.purge(json!({"contact_id": mia})).await;
    scene.purge(json!({"user_id": scene.eva["id"]})).await;
    for message in [&before, &after] {
        assert_eq!(scene.cc(message).await, [erased(), erased(), erased()]);
    }
    assert_eq!(scene.finds("to:family@patient.test").await, 0);
}

#[tokio::test]
async fn r60_a_user_goes_from_mail_that_came_before_the_address_was_theirs() {
    let scene = Scene::set().await;
    let cc = "Cc: Eva <eva.home@web.test>, Dan <dan@patient.test>\n";
    let copied = scene.file(&scene.bo, &mail("bo@practice.test", "copied", cc)).await;
    let emails = format!("{}/users/{}/emails", scene.account, text(&scene.eva["id"]));
    let home = json!({"address": "Eva.Home@web.test", "verified": false});
    scene.server.post(&emails, home).await.expect(201);
    assert_eq!(scene.finds("to:eva.home@web.test").await, 1);
    scene.purge(json!({"user_id": scene.eva["id"]})).await;
    assert_eq!(scene.cc(&copied).await, [erased(), person("Dan", "dan@patient.test")]);
    assert_eq!(scene.finds("to:eva.home@web.test").await, 0);
    assert!(!scene.all_said(&copied).await.contains("eva.home@"));
}

#[tokio::test]
async fn r63_everybody_on_many_messages_is_looked_at_piece_by_piece() {
    let scene = Scene::set().await;
    // Pieces of 2,000 rows end within a message.
    let crowd: Vec<String> = (0..480).map(|n| format!("p{n}@crowd.test")).collect();
    let cc = format!("Cc: {}, Cleo <cleo@patient.test>\n", crowd.join(",\n "));
    let mut messages = Vec::new();
    for n in 0..9 {
        messages.push(scene.file(&scene.bo, &mail("bo@practice.test", &format!("m{n}"), &cc)).await);
    }
    let cleo = scene.server.contact(&scene.account, "Cleo", "cleo@patient.test").await;
    scene.purge(json!({"contact_id": cleo})).await;
    for message in messages {
        let cc = scene.cc(&message).await;
        assert_eq!((cc.len(), cc.last().unwrap()), (481, &erased()));
        assert_eq!(cc[479], (Value::Null, json!("p479@crowd.test")));
    }
}
