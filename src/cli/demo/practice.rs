//! The demo's practice: staff, patients, and the DNS of their world.
//!
//! Everybody is invented. It is set up over the public API, as a CRM would.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::admin::{AdminApi, AdminError};

/// DNS of everybody in the demo, as a master file: SPF, DKIM keys, DMARC, MX and hosts.
pub const ZONE: &str = include_str!("../../../fixtures/demo/practice.zone");

/// A member of staff.
#[derive(Clone, Copy, Debug)]
pub struct Staff {
    /// The word in placeholders.
    pub key: &'static str,
    /// The full name.
    pub name: &'static str,
    /// The role in the practice.
    pub role: &'static str,
    /// Verified addresses.
    pub emails: &'static [&'static str],
}

/// A patient.
#[derive(Clone, Copy, Debug)]
pub struct Patient {
    /// The full name.
    pub name: &'static str,
    /// The primary address.
    pub email: &'static str,
    /// Further addresses, which never match (R22).
    pub other_emails: &'static [&'static str],
    /// The key of the colleague for whom future sync is on from the start.
    pub marked_for: Option<&'static str>,
}

/// The practice as the server knows it now.
#[derive(Clone, Debug)]
pub struct Practice {
    /// The account's id.
    pub account: String,
    /// `sync:lena` → her sync address, `auto:lena` → her auto address; `sync:nobody` is one that does not exist.
    pub addresses: BTreeMap<String, String>,
}

/// The staff.
pub const STAFF: [Staff; 3] = [
    Staff {
        key: "lena",
        name: "Dr. Lena Albrecht",
        role: "staff",
        emails: &["lena.albrecht@praxis-morgenrot.test", "empfang@praxis-morgenrot.test"],
    },
    Staff { key: "tomas", name: "Tomás Rivera", role: "staff", emails: &["tomas.rivera@google-mail.test"] },
    Staff { key: "frieda", name: "Frieda Sommer", role: "staff", emails: &["frieda@physio-nord.test"] },
];

/// The patients on file before the first mail.
pub const PATIENTS: [Patient; 5] = [
    Patient {
        name: "Anna Bergmann",
        email: "anna.bergmann@web-post.test",
        other_emails: &[],
        marked_for: None,
    },
    Patient {
        name: "Jonas Keller",
        email: "jonas.keller@firma-keller.test",
        other_emails: &["jonas.k@web-post.test"],
        marked_for: None,
    },
    Patient {
        name: "María García",
        email: "maria.garcia@correo-sol.test",
        other_emails: &[],
        marked_for: None,
    },
    Patient {
        name: "Sofie Brandt",
        email: "sofie.brandt@web-post.test",
        other_emails: &[],
        marked_for: Some("lena"),
    },
    Patient { name: "Paul Winter", email: "paul.winter@web-post.test", other_emails: &[], marked_for: None },
];

/// Creates account, staff and patients, and sets the marks.
///
/// # Errors
/// If the API refuses or cannot be reached.
pub async fn open(api: &AdminApi) -> Result<Practice, AdminError> {
    let settings = json!({ "internal_domains": ["praxis-morgenrot.test", "physio-nord.test"] });
    let account = api.post("/accounts", &json!({ "name": "Praxis Morgenrot", "settings": settings })).await?;
    let account = text(&account["id"]);
    let mut addresses = BTreeMap::new();
    let mut users = BTreeMap::new();
    for member in STAFF {
        let user = hire(api, &account, member).await?;
        users.insert(member.key, text(&user["id"]));
        for (kind, field) in [("sync", "sync_address"), ("auto", "auto_address")] {
            addresses.insert(format!("{kind}:{}", member.key), text(&user["sync"][field]));
        }
    }
    for patient in PATIENTS {
        let body = json!({
            "name": patient.name, "email": patient.email, "other_emails": patient.other_emails,
        });
        let contact = text(&api.post(&format!("/accounts/{account}/contacts"), &body).await?["id"]);
        if let Some(user) = patient.marked_for.and_then(|key| users.get(key)) {
            api.put(&format!("/accounts/{account}/contacts/{contact}/sync/{user}")).await?;
        }
    }
    let domain = addresses.values().find_map(|address| Some(address.split_once('@')?.1.to_owned()));
    addresses.insert("sync:nobody".to_owned(), format!("lena-{NOBODY}@{}", domain.unwrap_or_default()));
    Ok(Practice { account, addresses })
}

async fn hire(api: &AdminApi, account: &str, member: Staff) -> Result<Value, AdminError> {
    let body = json!({ "name": member.name, "emails": [], "role": member.role });
    let user = text(&api.post(&format!("/accounts/{account}/users"), &body).await?["id"]);
    for address in member.emails {
        let body = json!({ "address": address, "verified": true });
        api.post(&format!("/accounts/{account}/users/{user}/emails"), &body).await?;
    }
    api.get(&format!("/accounts/{account}/users/{user}")).await
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A secret of the right form that was given to nobody.
const NOBODY: &str = "0000000000zz";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::fixture;
    use crate::cli::demo::sign::{Algorithm, key_record};
    use crate::zone::Zone;

    #[test]
    fn the_zone_can_be_read() {
        Zone::parse(ZONE).unwrap();
    }

    #[test]
    fn every_signer_of_the_index_has_its_key_in_the_zone() {
        // The zone cuts long keys into strings: compare without quotes, parentheses and white space.
        let bare = |text: &str| text.replace(['"', '(', ')', ' ', '\n'], "");
        let zone = bare(ZONE);
        for dkim in fixture::index().unwrap().into_iter().filter_map(|mail| mail.dkim) {
            let owner = format!("{}._domainkey.{}.TXT", dkim.selector, dkim.domain);
            assert!(matches!(dkim.algorithm, Algorithm::Rsa | Algorithm::Ed25519));
            assert!(zone.contains(&bare(&format!("{owner}{}", key_record(dkim.algorithm)))), "{owner}");
        }
    }
}
