//! R60, R63: who is erased stands nowhere on the mail of others, neither with an address nor with a name.

use serde_json::{Value, json};

use crate::purge::{Scene, mail};
use crate::server::{Server, text};

/// The same with clear and with sealed rows, as far as the engine has both.
async fn scenes() -> [Scene; 2] {
    [Scene::set().await, Scene::on(Server::start_sealed().await).await]
}

impl Scene {
    /// Everything that the API tells of mail and what became of it.
    async fn told(&self) -> String {
        let mut told = String::new();
        for list in ["/deliveries?limit=200", "/held?limit=200", "/events?limit=200", "/users"] {
            let shown = self.get(list).await;
            for item in shown["items"].as_array().unwrap() {
                let one = match list.split('?').next() {
                    Some("/deliveries") => self.get(&format!("/deliveries/{}", text(&item["id"]))).await,
                    _ => Value::Null,
                };
                told.push_str(&format!("{item}\n{one}\n"));
            }
        }
        told.to_lowercase()
    }
}

fn meeting(id: &str, organiser: &str) -> String {
    mail("bo@practice.test", id, "").replace(
        &format!("\nThe words of {id}\n"),
        &format!(
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain\n\nWords\n\
             --x\nContent-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR\nMETHOD:REQUEST\nBEGIN:VEVENT\n\
             SUMMARY:Talk\nDTSTART:20261201T100000Z\nORGANIZER:mailto:{organiser}\nEND:VEVENT\nEND:VCALENDAR\n--x--\n"
        ),
    )
}

#[tokio::test]
async fn r63_r55_who_organised_the_meetings_of_others_is_taken_out_of_them() {
    for scene in scenes().await {
        let cleo = scene.server.contact(&scene.account, "Cleo", "cleo@patient.test").await;
        let mut messages = Vec::new();
        for (id, organiser) in
            [("m1", "Cleo@patient.test"), ("m2", "eva@practice.test"), ("m3", "dan@else.test")]
        {
            messages.push(scene.file(&scene.bo, &meeting(id, organiser)).await);
        }
        let organisers = async || {
            let mut found = Vec::new();
            for message in &messages {
                found.push(scene.get(&format!("/messages/{message}")).await["meeting"]["organiser"].clone());
            }
            found
        };
        assert_eq!(organisers().await, ["Cleo@patient.test", "eva@practice.test", "dan@else.test"]);
        scene.purge(json!({"contact_id": cleo})).await;
        assert_eq!(organisers().await, [Value::Null, json!("eva@practice.test"), json!("dan@else.test")]);
        scene.purge(json!({"user_id": scene.eva["id"]})).await;
        assert_eq!(organisers().await, [Value::Null, Value::Null, json!("dan@else.test")]);
        let told = scene.told().await;
        assert!(!told.contains("cleo@") && !told.contains("eva@practice.test"), "{told}");
        assert!(told.contains("dan@else.test"), "{told}");
        let left = scene.get(&format!("/messages/{}", messages[0])).await;
        assert_eq!(
            (&left["meeting"]["title"], &left["meeting"]["method"]),
            (&json!("Talk"), &json!("REQUEST"))
        );
    }
}

/// An address that is another's, too, is theirs.
#[tokio::test]
async fn r63_an_organiser_with_the_address_of_two_people_stays_the_others() {
    let scene = Scene::set().await;
    scene.server.contact(&scene.account, "Mia", "family@patient.test").await;
    let cleo = scene.server.contact(&scene.account, "Cleo", "cleo@patient.test").await;
    let others = json!({"other_emails": ["family@patient.test"]});
    scene.server.patch(&format!("{}/contacts/{cleo}", scene.account), others).await.expect(200);
    let message = scene.file(&scene.bo, &meeting("m1", "family@patient.test")).await;
    scene.purge(json!({"contact_id": cleo})).await;
    let left = scene.get(&format!("/messages/{message}")).await;
    assert_eq!(left["meeting"]["organiser"], "family@patient.test");
    assert!(scene.told().await.contains("family@patient.test"));
}
