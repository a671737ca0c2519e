//! R60, R63: who is erased stands nowhere on the mail of others, neither with an address nor with a name.

use serde_json::{Value, json};
use syncmx::address::EmailAddress;
use syncmx::filing::Decision;
use syncmx::id::AccountId;
use syncmx::smtp::ForwardPath;
use syncmx::store::Lookup;
use syncmx::store::directory::{PurgeOf, PurgeStep};
use tokio::time::Instant;

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

    /// A mail of a stranger's that waits for Eva, on Ana's record.
    async fn hold(&self, id: &str, from: &str, more: &str) {
        let raw = mail(from, id, &format!("In-Reply-To: <known@practice.test>\n{more}"));
        let held = self.deliver(&self.eva, &raw).await;
        assert!(matches!(held.decided[0].1, Decision::Held(_)), "{held:?}");
    }

    fn account_id(&self) -> AccountId {
        self.account.trim_start_matches("/accounts/").parse().unwrap()
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

#[tokio::test]
async fn r63_who_is_erased_is_taken_out_of_the_held_mail_of_others() {
    for scene in scenes().await {
        scene.file(&scene.bo, &mail("bo@practice.test", "known", "")).await;
        let people = "Cc: Cleo Klein <Cleo@patient.test>, Bo Berg <bo@practice.test>\n";
        scene.hold("h1", "Zoe Zart <zoe@else.test>", people).await;
        scene.hold("h2", "Yan <yan@else.test>", people).await;
        // Forwarded by hand; who wrote it first is nobody's contact.
        let forward = "\n---------- Forwarded message ---------\nFrom: Bo Berg <bo@practice.test>\n\
            Date: Sat, 21 Nov 2020 at 10:00\nSubject: Hello\nTo: <x@else.test>\n\nHello\n";
        let sync = text(&scene.eva["sync"]["sync_address"]);
        let raw = mail("eva@practice.test", "h3", forward).replace("Ana <ana@patient.test>", &sync);
        let held = scene.deliver(&scene.eva, &raw.replace("About", "Fwd: About")).await;
        assert!(matches!(held.decided[0].1, Decision::Held(_)), "{held:?}");
        let zoe = scene.server.contact(&scene.account, "Zoe", "zoe@else.test").await;
        let cleo = scene.server.contact(&scene.account, "Cleo", "cleo@patient.test").await;
        let waits = async |email: &str| {
            let id = scene.server.contact(&scene.account, "Again", email).await;
            scene.count(&format!("/held?contact={id}")).await
        };
        assert_eq!(scene.count(&format!("/held?contact={cleo}")).await, 2);
        scene.purge(json!({"contact_id": cleo})).await;
        scene.purge(json!({"contact_id": zoe})).await;
        scene.purge(json!({"user_id": scene.bo["id"]})).await;
        assert_eq!(scene.count("/held").await, 3, "it is Eva's");
        let told = scene.told().await;
        for gone in ["cleo", "zoe", "zart", "berg", "bo@practice.test"] {
            assert!(!told.contains(gone), "{gone}: {told}");
        }
        assert!(told.contains("yan@else.test"), "{told}");
        for email in ["cleo@patient.test", "bo@practice.test", "zoe@else.test"] {
            assert_eq!(waits(email).await, 0, "{email}");
            assert_eq!(scene.count(&format!("/deliveries?to={email}")).await, 0);
            assert_eq!(scene.count(&format!("/deliveries?from={email}")).await, 0);
        }
        assert_eq!(waits("yan@else.test").await, 1);
    }
}

/// It came by the address of a colleague, who is erased: whose it is has not changed.
#[tokio::test]
async fn r36_held_mail_that_came_by_the_address_of_who_is_erased_can_be_filed_all_the_same() {
    for scene in scenes().await {
        scene.server.patch(&scene.account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
        let raw =
            mail("bo@practice.test", "waits", "").replace("Ana <ana@patient.test>", "Zoe <zoe@else.test>");
        let held = scene.deliver(&scene.eva, &raw).await;
        assert!(matches!(held.decided[0].1, Decision::Held(_)), "{held:?}");
        scene.purge(json!({"user_id": scene.eva["id"]})).await;
        let items = scene.get("/held").await["items"].as_array().unwrap().clone();
        assert_eq!((items.len(), &items[0]["user_id"]), (1, &scene.bo["id"]));
        let path = format!("{}/held/{}:file", scene.account, text(&items[0]["id"]));
        let body = json!({"create_contact": {"name": "Zoe", "email": "zoe@else.test"}});
        let filed = scene.server.post(&path, body).await.expect(200);
        assert_eq!(filed["outcome"], "filed");
        let shown = scene.get(&format!("/messages/{}", text(&filed["message_id"]))).await;
        assert_eq!(shown["user_id"], scene.bo["id"]);
    }
}

/// What belongs to somebody else with the same address is not taken from them.
#[tokio::test]
async fn r63_held_mail_that_names_an_address_of_two_people_stays_as_it_is() {
    let scene = Scene::set().await;
    scene.file(&scene.bo, &mail("bo@practice.test", "known", "")).await;
    scene.hold("h1", "Mia <family@patient.test>", "").await;
    let mia = scene.server.contact(&scene.account, "Mia", "family@patient.test").await;
    let cleo = scene.server.contact(&scene.account, "Cleo", "cleo@patient.test").await;
    let others = json!({"other_emails": ["family@patient.test"]});
    scene.server.patch(&format!("{}/contacts/{cleo}", scene.account), others).await.expect(200);
    let before = scene.get("/held").await;
    assert_eq!(before["items"][0]["from"], json!({"name": "Mia", "email": "family@patient.test"}));
    scene.purge(json!({"contact_id": cleo})).await;
    assert_eq!(scene.get("/held").await, before);
    assert_eq!(scene.count(&format!("/held?contact={mia}")).await, 1);
    assert_eq!(scene.count("/deliveries?from=family@patient.test").await, 1);
    scene.purge(json!({"contact_id": mia})).await;
    assert_eq!(scene.get("/held").await["items"][0]["from"], json!({"name": null, "email": ""}));
}

#[tokio::test]
async fn r60_what_a_user_wrote_to_a_colleagues_address_and_was_refused_names_them_no_more() {
    for scene in scenes().await {
        let received = "Received: from a.test by b.test; Sun, 22 Nov 2020 02:44:05 +0000\n".repeat(101);
        let refused = scene.deliver(&scene.eva, &mail("Bo@practice.test", "loop", &received)).await;
        assert!(matches!(refused.decided[0].1, Decision::Rejected(_)), "{refused:?}");
        scene.server.patch(&scene.account, json!({"settings": {"daily_limit": 0}})).await.expect(200);
        let put_off = scene.deliver(&scene.eva, &mail("bo@practice.test", "late", "")).await;
        assert!(matches!(put_off.decided[0].1, Decision::Deferred(_)), "{put_off:?}");
        scene.deliver(&scene.eva, &mail("eva@practice.test", "evas", "")).await;
        assert!(scene.told().await.contains("bo@practice.test"));
        scene.purge(json!({"user_id": scene.bo["id"]})).await;
        let told = scene.told().await;
        assert!(!told.contains("bo@practice.test"), "{told}");
        assert!(told.contains("eva@practice.test"), "{told}");
        assert_eq!(scene.count("/deliveries?from=bo@practice.test").await, 0);
        assert_eq!(scene.count("/deliveries").await, 3, "they are of Eva's address");
        scene.purge(json!({"user_id": scene.eva["id"]})).await;
        assert_eq!(scene.count("/deliveries").await, 0);
    }
}

/// Mail comes in behind whatever was looked through already: before each step of a purge in turn.
#[tokio::test]
async fn r60_mail_of_others_that_comes_while_somebody_is_erased_names_them_no_more() {
    for scene in scenes().await {
        scene.file(&scene.eva, &mail("eva@practice.test", "known", "")).await;
        let mut late = 0;
        for n in 0..12 {
            let contact = format!("cleo{n}@patient.test");
            let id = scene.server.contact(&scene.account, "Cleo", &contact).await;
            late += scene.late(PurgeOf::Contact(id.parse().unwrap()), &contact, n).await;
            let user = format!("bo{n}@practice.test");
            let id = text(&scene.server.user(&scene.account, &user).await["id"]);
            late += scene.late(PurgeOf::User(id.parse().unwrap()), &user, n).await;
        }
        assert!(late > 12, "a purge has more steps: {late}");
        assert!(scene.told().await.contains("yan@else.test"));
    }
}

/// As it would have been if it had come before.
#[tokio::test]
async fn r60_mail_that_waits_for_a_contact_is_erased_with_them_whenever_it_comes() {
    let scene = Scene::set().await;
    let emails = format!("{}/users/{}/emails", scene.account, text(&scene.eva["id"]));
    scene.server.post(&emails, json!({"address": "eva@private.test", "verified": false})).await.expect(201);
    let mut late = 0;
    for n in 0..12 {
        let address = format!("cleo{n}@patient.test");
        let id = scene.server.contact(&scene.account, "Cleo", &address).await;
        let mut change = scene.server.store.change().await.unwrap();
        let of = PurgeOf::Contact(id.parse().unwrap());
        let purge = change.begin_purge(scene.account_id(), of, "x").await.unwrap();
        change.commit().await.unwrap();
        for step in 0.. {
            if step == n {
                let raw =
                    mail("eva@private.test", &format!("late{n}"), "").replace("ana@patient.test", &address);
                let held = scene.deliver(&scene.eva, &raw).await;
                assert!(matches!(held.decided[0].1, Decision::Held(_)), "{held:?}");
                late += 1;
            }
            match scene.server.store.work_off(purge, Instant::now()).await.unwrap() {
                PurgeStep::Last(change, _) => {
                    change.commit().await.unwrap();
                    break;
                }
                PurgeStep::More(_) => assert!(step < 100, "it never ends"),
            }
        }
        assert_eq!(scene.count("/held").await, 0, "step {n}");
    }
    assert!(late > 6, "a purge has more steps: {late}");
}

impl Scene {
    /// Erases them while mail of others that names them comes in before step `n`. Returns how many such steps there were.
    async fn late(&self, of: PurgeOf, address: &str, n: usize) -> usize {
        let store = &self.server.store;
        let mut change = store.change().await.unwrap();
        let purge = change.begin_purge(self.account_id(), of, "x").await.unwrap();
        change.commit().await.unwrap();
        let mut messages = Vec::new();
        let people = format!("Cc: Late Person <{address}>\n");
        for step in 0.. {
            if step == n {
                let id = |kind: &str| format!("{kind}-{}", address.replace('@', "-at-"));
                let copied = mail("eva@practice.test", &id("m"), &people);
                messages.push(self.file(&self.eva, &copied).await);
                let organised = meeting(&id("o"), address).replace("From: bo@", "From: eva@");
                let organised = organised.replacen("MIME", &format!("{people}MIME"), 1);
                messages.push(self.file(&self.eva, &organised).await);
                self.hold(&id("h"), "Yan <yan@else.test>", &people).await;
            }
            match store.work_off(purge, Instant::now()).await.unwrap() {
                PurgeStep::Last(change, _) => {
                    change.commit().await.unwrap();
                    break;
                }
                PurgeStep::More(_) => assert!(step < 100, "it never ends"),
            }
        }
        self.names_nobody_of(address, &messages).await;
        usize::from(!messages.is_empty())
    }

    /// Neither any of these messages nor what is found anywhere says this address, nor whose it was.
    async fn names_nobody_of(&self, address: &str, messages: &[String]) {
        let told = self.told().await;
        assert!(!told.contains("late person") && !told.contains(address), "{address}: {told}");
        for message in messages {
            let shown = self.get(&format!("/messages/{message}")).await.to_string();
            assert!(
                !shown.contains("Late Person") && !shown.contains(&format!("\"{address}")),
                "{address}: {shown}"
            );
        }
        for side in ["from", "to"] {
            let found = self.get(&format!("/search?q={side}:{address}")).await;
            assert_eq!(found["items"], json!([]), "{address}");
            assert_eq!(self.count(&format!("/deliveries?{side}={address}")).await, 0);
        }
    }
}

#[tokio::test]
async fn r60_r62_a_purged_users_sync_addresses_are_refused_for_ever_and_name_nobody() {
    for scene in scenes().await {
        let path = format!("{}/users", scene.account);
        let weiss =
            json!({"name": "Dr. J\u{fc}rgen Wei\u{df}", "emails": ["jw@practice.test"], "role": "staff"});
        let weiss = scene.server.post(&path, weiss).await.expect(201);
        let of_weiss = format!("{path}/{}", text(&weiss["id"]));
        let first = text(&weiss["sync"]["sync_address"]);
        let rotated = scene.server.post(&format!("{of_weiss}/sync:rotate"), json!({})).await.expect(200);
        let second = text(&rotated["sync"]["sync_address"]);
        assert!(first.contains("juergenweiss") && second.contains("juergenweiss") && first != second);
        // A colleague's mail on which they were visible to all.
        let copied = format!("Cc: J. Weiss <{second}>\n");
        let message = scene.file(&scene.eva, &mail("eva@practice.test", "seen", &copied)).await;
        scene.purge(json!({"user_id": weiss["id"]})).await;
        let shown = scene.get(&format!("/users/{}", text(&weiss["id"]))).await;
        assert_eq!(
            (&shown["sync"]["sync_address"], &shown["sync"]["auto_address"]),
            (&Value::Null, &Value::Null)
        );
        let left = scene.get(&format!("/messages/{message}")).await.to_string();
        for told in [shown.to_string(), left, scene.told().await] {
            assert!(!told.to_lowercase().contains("weiss"), "{told}");
        }
        for address in [first, second] {
            for address in [address.to_uppercase(), address.replace('@', "+auto@"), address] {
                let path = ForwardPath::Address(EmailAddress::parse(&address).unwrap());
                let found = scene.server.mailbox(&path).await;
                assert_eq!(found, Lookup::Off(scene.account_id()), "{address}");
            }
        }
        assert_eq!(
            scene
                .server
                .count_by_hand("SELECT COUNT(*) FROM sync_addresses WHERE local_part LIKE '%weiss%'")
                .await,
            0
        );
        assert_eq!(
            scene.server.count_by_hand("SELECT COUNT(*) FROM users WHERE sync_local LIKE '%weiss%'").await,
            0
        );
        // Again, and what comes back, change nothing of that.
        scene.purge(json!({"user_id": weiss["id"]})).await;
        scene.server.post(&format!("{of_weiss}/sync:connect"), json!({})).await.expect(200);
        assert_eq!(
            scene.server.count_by_hand("SELECT COUNT(*) FROM sync_addresses WHERE state = 'retired'").await,
            2
        );
    }
}

/// More than one transaction takes out.
#[tokio::test]
async fn r63_who_is_erased_is_taken_out_of_hundreds_of_held_mails() {
    let scene = Scene::set().await;
    scene.file(&scene.eva, &mail("eva@practice.test", "known", "")).await;
    for n in 0..401 {
        scene.hold(&format!("h{n}"), "Yan <yan@else.test>", "Cc: Bo Berg <bo@practice.test>\n").await;
    }
    assert_eq!(scene.count("/deliveries?to=bo@practice.test&limit=200").await, 200);
    scene.purge(json!({"user_id": scene.bo["id"]})).await;
    assert_eq!(scene.count("/deliveries?to=bo@practice.test").await, 0);
    let named = "SELECT COUNT(*) FROM held WHERE headers LIKE '%bo@practice.test%'";
    assert_eq!(scene.server.count_by_hand(named).await, 0);
    let named = "SELECT COUNT(*) FROM deliveries WHERE steps LIKE '%bo@practice.test%'";
    assert_eq!(scene.server.count_by_hand(named).await, 0);
    assert_eq!(scene.count("/held?limit=200").await, 200);
}
