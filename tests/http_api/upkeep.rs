//! What happens behind the answers: after a client that has gone away.

use syncmx::id::AccountId;
use syncmx::store::Ring;
use syncmx::store::directory::{CreatedBy, NewContact};

use crate::server::Server;

#[tokio::test]
async fn what_follows_a_commit_happens_though_nobody_waits_for_it() {
    let server = Server::start().await;
    let path = server.account().await;
    let account: AccountId = path.trim_start_matches("/accounts/").parse().unwrap();
    let mut rings = server.store.listen();
    let mut change = server.store.change().await.unwrap();
    let ana = NewContact { name: "Ana".into(), email: "ana@patient.test".into(), ..NewContact::default() };
    change.create_contact(account, &ana, CreatedBy::Api).await.unwrap();
    tokio::select! {
        biased;
        done = change.commit() => done.unwrap(),
        // As for a client that hangs up at the very moment.
        () = std::future::ready(()) => {}
    }
    let heard = async {
        while !matches!(rings.next().await, Some(Ring::Accounts(accounts)) if accounts.contains(&account)) {}
    };
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, heard).await.expect("somebody is told of the event");
    let contacts = server.get(&format!("{path}/contacts")).await.expect(200);
    assert_eq!(contacts["items"].as_array().unwrap().len(), 1);
}
